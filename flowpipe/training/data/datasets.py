"""Data sets of flow or frames, by what a network sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowpipe.datasets.base import Clip
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.models import table
from flowpipe.models.clip_input import BOTH, ClipInput, Modality
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.training.data.clips import FlowClips
from flowpipe.training.data.frame_clips import FrameClips
from flowpipe.training.data.pairs import PairedClips, PairedTransform
from flowpipe.training.data.sampling import Sampling
from flowpipe.training.data.transforms import (
    FLOW_SCALES,
    normalisation,
    test_transform,
    train_transform,
)
from flowpipe.training.data.views import Compose, Transform
from flowpipe.training.testing import TestViews


def stream_clips(
    source: Path,
    clips: Sequence[tuple[str | Clip, int]],
    clip: ClipInput,
    *,
    sampling: Sampling,
    transform: Transform | None,
    segments: int | None = None,
    test_clips: int = 1,
    seed: int = 0,
) -> FlowClips | FrameClips | PairedClips:
    """Return clips as a network sees them.

    Parameters
    ----------
    source
        Output folder of ``extract-flow``, or flow of another tool.
    clips
        (name, class index) of each clip.
    clip
        What the network sees.
    sampling, transform, test_clips, seed
        As for :class:`FlowClips`.
    segments
        Number of segments, in place of that of `clip`.

    Raises
    ------
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.
    """
    segments = segments or clip.segments
    taken: dict[str, Any] = {
        "frame_stride": clip.frame_stride,
        "short_clips": clip.short_clips,
        "test_clips": test_clips,
    }
    if clip.has_flow:
        kind: type[FlowClips | PairedClips] = FlowClips
        if clip.modality == BOTH:
            kind, taken["fields_per_frame"] = PairedClips, clip.fields_per_frame
        return kind(
            source,
            clips,
            segments=segments,
            length=clip.length,
            sampling=sampling,
            transform=transform,
            seed=seed,
            stacking=clip.stacking,
            bound=DEFAULT_BOUND if clip.bound is None else clip.bound,
            **taken,
        )
    return FrameClips(
        source,
        clips,
        segments=segments,
        length=clip.length,
        sampling=sampling,
        transform=transform,
        modality="rgb" if clip.modality == "rgb" else "rgb-diff",
        seed=seed,
        **taken,
    )


def test_view_clips(
    source: Path, clips: Sequence[tuple[str | Clip, int]], network: StreamNetwork, views: TestViews
) -> FlowClips | FrameClips | PairedClips:
    """Return the snippets of test clips, in levels: those of all views of a clip.

    Parameters
    ----------
    source, clips
        As for :func:`stream_clips`.
    network
        What it sees, and whether it relates the segments.
    views
        Of a clip.

    Raises
    ------
    UnusableClipsError
        As for :func:`stream_clips`.
    """
    if views.test_clips == "all":
        return stream_clips(source, clips, network.clip, sampling="whole", transform=None)
    if network.joins_segments:
        return stream_clips(
            source,
            clips,
            network.clip,
            sampling="centre",
            transform=None,
            test_clips=views.test_clips,
        )
    return stream_clips(
        source, clips, network.clip, sampling="test", transform=None, segments=views.test_clips
    )


@dataclass(frozen=True)
class SnippetsInTurn:
    """The snippets of clips without a transform, read when they are scored and not before.

    Attributes
    ----------
    clips
        Of :func:`test_view_clips`.
    network
        Which relates segments, or scores each snippet by itself.
    """

    clips: FlowClips | FrameClips | PairedClips
    network: StreamNetwork

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Iterator[Tensor], int]:
        """Return what is scored together in turn, (segments, C, H, W), and the clip's class."""
        snippets, _ = self.clips.draw(index)
        together = self.network.clip.segments if self.network.joins_segments else 1
        parts = (snippets[at : at + together] for at in range(0, len(snippets), together))
        levels = (torch.from_numpy(self.clips.levels(index, part)) for part in parts)
        return levels, self.clips.labels[index]


@dataclass(frozen=True, slots=True)
class SubtractMean:
    """Subtract the mean of each field of flow, as the two-stream networks of 2014 do."""

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Map (..., C, H, W) to the same, each channel with mean 0."""
        return snippets - snippets.mean(dim=(-2, -1), keepdim=True)


def training_transform(clip: ClipInput) -> Transform:
    """Return the random crops and flips of training, which give levels."""
    if clip.modality == BOTH:
        of = partial(train_transform, size=clip.input_size, scales=FLOW_SCALES, normalise=False)
        return PairedTransform(of("rgb"), of("flow"), clip.fields_per_frame)
    return train_transform(clip.modality, clip.input_size, normalise=False)


def input_transform(clip: ClipInput, network: Network) -> Transform:
    """Return what makes a network's input of the levels of training, on its device.

    It maps (..., C, H, W) uint8 or int16 to float32.
    """
    mean, std = table.model(network.model).normalisation

    def of(modality: Modality) -> Compose:
        return Compose((normalisation(modality, mean, std),))

    return _completed(of, clip, network)


def testing_transform(clip: ClipInput, network: Network, views: TestViews) -> Transform:
    """Return the crops and normalisation of a test."""
    mean, std = table.model(network.model).normalisation

    def of(modality: Modality) -> Compose:
        return test_transform(
            modality,
            views.crop_size,
            crops=views.crops,
            short_side=views.short_side,
            mean=mean,
            std=std,
        )

    return _completed(of, clip, network)


@dataclass(frozen=True, slots=True)
class ReverseColours:
    """Put RGB channels into the order blue, green, red, which networks from Caffe take."""

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Map (..., 3 L, H, W) to the same."""
        return snippets.unflatten(-3, (-1, 3)).flip(-3).flatten(-4, -3)


def _completed(of: Callable[[Modality], Compose], clip: ClipInput, network: Network) -> Transform:
    """Return the transform of a modality, or of both, with what else the network asks for."""
    if clip.modality == BOTH:
        rgb = ClipInput("rgb", clip.segments, 1, clip.input_size)
        flow = replace(clip, modality="flow", fields_per_frame=None)
        return PairedTransform(
            _completed(of, rgb, network), _completed(of, flow, network), clip.fields_per_frame
        )
    steps = of(clip.modality).transforms
    if clip.subtract_mean:
        steps = (*steps, SubtractMean())
    is_caffe = network.backbone == "bn-inception" or table.model(network.model).bgr
    if is_caffe and not clip.is_flow:
        steps = (ReverseColours(), *steps)
    return Compose(steps)
