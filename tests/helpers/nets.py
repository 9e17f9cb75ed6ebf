"""Small networks and clips of noise, for the tests of the two-stream networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork

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


class NoiseClips(Dataset):
    """Clips whose class shows in their mean; what is random follows from epoch and index.

    ``stop_at`` counts samples until a KeyboardInterrupt.
    """

    def __init__(self, count: int = 10, *, classes: int = 3, stop_at: int | None = None) -> None:
        self.count, self.classes, self.stop_at = count, classes, stop_at
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
        return torch.randn(2, 4, 32, 32, generator=generator) + label, label

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)
