"""Frames and flow of the same instants, for networks of two inputs.

A snippet is a stack of flow and the RGB frame in its middle: between the two fields of a stack of
two, as the frame of each stack in convolutional fusion (Feichtenhofer et al., CVPR 2016).
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
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.clips import FlowClips, FrameClips
from flowpipe.training.data.views import Transform


class PairedClips(Dataset[tuple[Tensor, int]]):
    """Frames and stacks of flow of labelled clips.

    Parameters
    ----------
    source, clips
        As for :class:`FlowClips`: flow that was stored with frames, or whose videos are there.
    transform
        Takes the (segments, 3 + 2 * length, H, W) uint8 levels, red, green and blue first.
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
        self.length, self.transform = length, transform
        self.names, self.labels = self._flow.names, self._flow.labels

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self._flow)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0; see :meth:`FlowClips.set_epoch`."""
        self._flow.set_epoch(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the snippets of clip ``index``, transformed, and its class."""
        fields, generator = self._flow.draw(index)
        flow = self._flow.levels(index, fields)
        middle = fields[:, self.length // 2]
        frames = self._frames.levels(index, middle[:, None])
        levels = torch.from_numpy(np.stack([*map(joined, frames, flow)]))
        if self.transform is not None:
            levels = self.transform(levels, generator)
        return levels, self.labels[index]


def joined(frame: NDArray[Any], flow: NDArray[Any]) -> NDArray[Any]:
    """Return (3, H, W) and (2 L, h, w) as (3 + 2 L, h, w); frames of other tools may be larger."""
    if frame.shape[1:] != flow.shape[1:]:
        size = (flow.shape[2], flow.shape[1])
        frame = resized(np.ascontiguousarray(frame.transpose(1, 2, 0)), size).transpose(2, 0, 1)
    return np.concatenate([frame, flow])


@dataclass(frozen=True, slots=True)
class PairedTransform:
    """Transform frames and flow alike: both draw the same crop and the same flip.

    Attributes
    ----------
    rgb, flow
        Transforms whose first draws are of the same crops, and of the flip.
    """

    rgb: Transform
    flow: Transform

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Map (..., N, 3 + 2 L, H, W) to (..., N', 3 + 2 L, h, w)."""
        state = generator.get_state()
        frames = self.rgb(snippets[..., :3, :, :], generator)
        generator.set_state(state)
        return torch.cat([frames, self.flow(snippets[..., 3:, :, :], generator)], dim=-3)
