"""The smallest inputs of the networks of the table, and clips of noise for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network

_CHANGES: dict[str, dict[str, Any]] = {
    "tdn": {"segments": 2, "modality": "rgb"},
    "eco-lite": {"segments": 4, "length": 2, "input_size": 64},
    "eco-full": {"segments": 4, "length": 2, "input_size": 64},
    **{f"deepvideo-{each}": {"input_size": 96} for each in ("single", "early", "late", "slow")},
    "c3d": {"length": 16, "input_size": 112},  # takes no others
    "i3d": {"length": 16, "input_size": 64},
    "s3d": {"length": 16, "input_size": 224},  # takes no smaller ones
    "mvit-v2-s": {"length": 16, "input_size": 224},  # takes no others
}


def smallest(name: str) -> tuple[Network, ClipInput]:
    """Return a network without dropout of a name, and a small clip that it takes."""
    entry = MODELS[name]
    takes_frames = entry.takes == "frames"
    clip = entry.suited(ClipInput(length=1))
    segments, length = (1, 8) if takes_frames else (2, 2)
    if name.startswith("deepvideo"):
        length = clip.length
    clip = replace(clip, segments=segments, length=length, input_size=32)
    if name == "tdn":
        clip = replace(clip, length=5)
    clip = replace(clip, **_CHANGES.get(name, {}))
    needs_bottlenecks = name in ("stm", "non-local", "tea")
    backbone = "resnet18" if entry.has_backbone and not needs_bottlenecks else "resnet50"
    return Network(name, backbone, dropout=0.0, batch_norm="train"), clip


class NoiseFor(Dataset):
    """Four clips of noise for an input; ``stop_at`` counts samples until a KeyboardInterrupt."""

    labels = (0, 1, 2, 0)

    def __init__(self, clip: ClipInput, *, stop_at: int | None = None) -> None:
        self.shape = (clip.segments, clip.channels, clip.input_size, clip.input_size)
        self.stop_at = stop_at

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.stop_at is not None:
            self.stop_at -= 1
            if self.stop_at < 0:
                raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(index)
        return torch.randn(self.shape, generator=generator), self.labels[index]

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: there is one epoch."""
