"""Frames to dense trajectories with their descriptors, and their files."""
