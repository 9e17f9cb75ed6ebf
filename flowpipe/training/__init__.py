"""Two-stream networks and temporal segment networks on stored flow and frames."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowpipe.training.data.clips import FlowClips
    from flowpipe.training.data.frame_clips import FrameClips
    from flowpipe.training.data.transforms import test_transform, train_transform

__all__ = ["FlowClips", "FrameClips", "test_transform", "train_transform"]

# torch is imported with the first of these, so that what does without it starts at once.
_HOMES = {
    "FlowClips": "data.clips",
    "FrameClips": "data.frame_clips",
    "test_transform": "data.transforms",
    "train_transform": "data.transforms",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
