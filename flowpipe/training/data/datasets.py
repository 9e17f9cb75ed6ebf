"""The data set of a stream: flow or frames, by what its network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from flowpipe.training.data.clips import FlowClips, FrameClips, Transform
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.transforms import Compose, test_transform, train_transform
from flowpipe.training.parameters import Snippets


def stream_clips(
    source: Path,
    clips: Sequence[tuple[str, int]],
    snippets: Snippets,
    *,
    sampling: Sampling,
    transform: Transform | None,
    segments: int | None = None,
    seed: int = 0,
) -> FlowClips | FrameClips:
    """Clips as a stream sees them.

    Parameters
    ----------
    source
        Folder of ``extract-flow``.
    clips
        (clip name, class index) of each.
    snippets
        What the network takes.
    sampling, transform, seed
        As for :class:`FlowClips`.
    segments
        Instead of those of `snippets`.

    Raises
    ------
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.
    """
    segments = segments or snippets.segments
    if snippets.modality in ("flow", "warped-flow"):
        return FlowClips(
            source,
            clips,
            segments=segments,
            length=snippets.length,
            sampling=sampling,
            transform=transform,
            seed=seed,
            stacking=snippets.stacking,
        )
    return FrameClips(
        source,
        clips,
        segments=segments,
        length=snippets.length,
        sampling=sampling,
        transform=transform,
        modality="rgb" if snippets.modality == "rgb" else "rgb-diff",
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class SubtractMean:
    """Take its mean out of each field of flow, as the two-stream networks of 2014 do."""

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Each channel of (N, C, H, W) by itself."""
        return snippets - snippets.mean(dim=(-2, -1), keepdim=True)


def training_transform(snippets: Snippets) -> Compose:
    """What training does to the snippets of a clip."""
    return _completed(train_transform(snippets.modality, snippets.size), snippets)


def testing_transform(snippets: Snippets, crops: Literal[1, 10]) -> Compose:
    """What a test does to them."""
    return _completed(test_transform(snippets.modality, snippets.size, crops=crops), snippets)


def _completed(transform: Compose, snippets: Snippets) -> Compose:
    if not snippets.subtract_mean:
        return transform
    return Compose((*transform.transforms, SubtractMean()))
