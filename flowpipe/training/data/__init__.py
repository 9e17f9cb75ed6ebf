"""Stored flow and frames as training and test samples."""
