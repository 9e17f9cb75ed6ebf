"""Frames and flow of the same instants, for networks of two inputs.

A snippet is a stack of flow and the RGB frame in its middle: between the two fields of a stack of
two, as the frame of each stack in convolutional fusion (Feichtenhofer et al., CVPR 2016). Or, for
SlowFast, it is consecutive fields and the frames that its slow pathway sees, one for every few
fields, spread from the first to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.datasets.base import Clip
from flowpipe.io.source import resized
from flowpipe.models.clip_input import rgb_channels
from flowpipe.models.resnet3d import slow_frames
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.clips import FlowClips
from flowpipe.training.data.frame_clips import FrameClips
from flowpipe.training.data.views import Transform


class PairedClips(Dataset[tuple[Tensor, int]]):
    """Frames and stacks of flow of labelled clips.

    Parameters
    ----------
    source, clips
        As for :class:`FlowClips`: flow that was stored with frames, or whose videos are there.
    transform
        Takes the (segments, 3 F + 2 * length, H, W) uint8 levels of F frames and of the flow.
    fields_per_frame
        Number of flow fields for each frame; None for one frame, in the middle of a snippet.
    **options
        As for :class:`FlowClips`; snippets are drawn as there.

    Raises
    ------
    UnusableClipsError
        Clips have no flow or no frames, or as :class:`FlowClips`; all are listed.
    """

    def __init__(
        self,
        source: Path | str,
        clips: Sequence[tuple[str | Clip, int]],
        *,
        segments: int,
        length: int,
        transform: Transform | None = None,
        fields_per_frame: int | None = None,
        **options: Any,
    ) -> None:
        reasons: dict[str, str] = {}
        try:
            self._flow = FlowClips(source, clips, segments=segments, length=length, **options)
        except UnusableClipsError as error:
            reasons |= error.reasons
        try:
            self._frames = FrameClips(source, clips, segments=segments, length=1)
        except UnusableClipsError as error:
            reasons = {**error.reasons, **reasons}
        if reasons:
            raise UnusableClipsError(reasons, len(clips))
        self.transform, self._places = transform, frame_places(length, fields_per_frame)
        self.names, self.labels = self._flow.names, self._flow.labels

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._flow)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0; see :meth:`FlowClips.set_epoch`."""
        self._flow.set_epoch(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the snippets of clip ``index``, transformed, and its class."""
        fields, generator = self.draw(index)
        levels = torch.from_numpy(self.levels(index, fields))
        if self.transform is not None:
            levels = self.transform(levels, generator)
        return levels, self.labels[index]

    def draw(self, index: int) -> tuple[NDArray[np.int64], torch.Generator]:
        """Return what is read of clip ``index``; see :meth:`FlowClips.draw`."""
        return self._flow.draw(index)

    def levels(self, index: int, snippets: NDArray[np.int64]) -> NDArray[Any]:
        """Return (segments, 3 F + 2 * length, H, W) of the fields of snippets and their frames."""
        flow = self._flow.levels(index, snippets)
        frames = self._frames.levels(index, snippets[:, self._places])
        return np.stack([*map(joined, frames, flow)])


def frame_places(length: int, fields_per_frame: int | None) -> list[int]:
    """Return which fields of a snippet have a frame beside them.

    Examples
    --------
    >>> frame_places(10, None), frame_places(32, 8)
    ([5], [0, 10, 20, 31])
    """
    if fields_per_frame is None:
        return [length // 2]
    return slow_frames(length, fields_per_frame).tolist()


def joined(frames: NDArray[Any], flow: NDArray[Any]) -> NDArray[Any]:
    """Return (3 F, H, W) and (2 L, h, w) as one; frames of other tools may be larger."""
    if frames.shape[1:] != flow.shape[1:]:
        size = (flow.shape[2], flow.shape[1])
        images = frames.reshape(-1, 3, *frames.shape[1:]).transpose(0, 2, 3, 1)
        scaled = np.stack([resized(np.ascontiguousarray(image), size) for image in images])
        frames = scaled.transpose(0, 3, 1, 2).reshape(-1, *flow.shape[1:])
    return np.concatenate([frames, flow])


@dataclass(frozen=True, slots=True)
class PairedTransform:
    """Transform frames and flow alike: both draw the same crop and the same flip.

    Attributes
    ----------
    rgb, flow
        Transforms whose first draws are of the same crops, and of the flip.
    fields_per_frame
        As for :class:`PairedClips`.
    """

    rgb: Transform
    flow: Transform
    fields_per_frame: int | None = None

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Map (..., N, 3 F + 2 L, H, W) to (..., N', 3 F + 2 L, h, w)."""
        rgb = rgb_channels(snippets.shape[-3], self.fields_per_frame)
        state = generator.get_state()
        frames = self.rgb(snippets[..., :rgb, :, :], generator)
        generator.set_state(state)
        return torch.cat([frames, self.flow(snippets[..., rgb:, :, :], generator)], dim=-3)
