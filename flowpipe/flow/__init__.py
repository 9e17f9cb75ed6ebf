"""Frames to optical flow."""

from flowpipe.flow.methods import METHODS

__all__ = ["METHODS"]
