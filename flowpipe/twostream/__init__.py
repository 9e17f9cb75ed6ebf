"""Two-stream networks and temporal segment networks on stored flow and frames."""

from flowpipe.twostream.clips import FlowClips, FrameClips
from flowpipe.twostream.transforms import test_transform, train_transform

__all__ = ["FlowClips", "FrameClips", "test_transform", "train_transform"]
