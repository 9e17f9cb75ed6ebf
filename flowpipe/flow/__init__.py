"""Frames to optical flow."""
