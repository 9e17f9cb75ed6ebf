"""What the user types: each command is a dataclass of its options and makes one call."""
