"""Compare systems of the whole family on the same clips, splits, frames and flow."""
