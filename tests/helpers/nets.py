"""Small networks and clips of noise, for the tests of the two-stream networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.resnet3d import SLOW_R50, ResNet3D
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.table import Model
from flowpipe.models.timesformer import TimeSformer
from flowpipe.models.vivit import Vivit
from flowpipe.models.vivit_names import own_names

SMALLEST = "shufflenet_v2_x0_5"
NO_NORMS = "squeezenet1_1"


def small_network(
    channels: int = 4,
    classes=(3,),
    *,
    seed: int = 0,
    backbone: str = SMALLEST,
    segments: int = 3,
    **options,
) -> StreamNetwork:
    options = {"dropout": 0.5, "batch_norm": "train", **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StreamNetwork(
            Network(backbone=backbone, **options), seen(channels, segments), classes
        )


def seen(channels: int, segments: int = 3) -> ClipInput:
    """Return an input with so many channels: flow, or RGB where they are odd."""
    if channels % 2:
        return ClipInput("rgb", segments, channels // 3, 32)
    return ClipInput("flow", segments, channels // 2, 32)


def _small_3d(clip: ClipInput) -> nn.Module:
    return ResNet3D(SLOW_R50, clip.channels_per_frame, 1, width=4)


def _small_transformer(clip: ClipInput) -> nn.Module:
    return TimeSformer(
        clip.channels, 1, frames=clip.segments, size=clip.input_size, width=24, depth=2, heads=2
    )


def _small_vivit(clip: ClipInput) -> nn.Module:
    return Vivit(
        clip.channels_per_frame,
        1,
        frames=clip.length,
        size=clip.input_size,
        tubelet=(2, 8, 8),
        factorisation="joint",
        width=48,
        depth=3,
        heads=3,
        hidden=192,
    )


SMALL_MODELS = {
    "small-3d": Model(_small_3d, "frames", "a narrow 3-D ResNet", "nowhere"),
    "small-transformer": Model(
        _small_transformer, "segments", "a narrow TimeSformer", "nowhere", relates_segments=True
    ),
    "small-vivit": Model(
        _small_vivit,
        "frames",
        "a narrow ViViT, model 1",
        "nowhere",
        fixed_size=True,
        maskable=True,
        names=own_names,
    ),
}
"""Entries of the table of networks, of other families than the 2-D ones."""


class NoiseClips(Dataset):
    """Clips whose class shows in their mean; what is random follows from epoch and index.

    ``stop_at`` counts samples until a KeyboardInterrupt.
    """

    def __init__(
        self,
        count: int = 10,
        *,
        classes: int = 3,
        stop_at: int | None = None,
        channels: int = 4,
    ) -> None:
        self.count, self.classes, self.stop_at, self.channels = count, classes, stop_at, channels
        self.labels = [index % classes for index in range(count)]
        self.epoch = torch.zeros((), dtype=torch.int64)
        self.epoch.share_memory_()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.stop_at is not None:
            self.stop_at -= 1
            if self.stop_at < 0:
                raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(1000 * int(self.epoch) + index)
        label = self.labels[index]
        return torch.randn(2, self.channels, 32, 32, generator=generator) + label, label

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)
