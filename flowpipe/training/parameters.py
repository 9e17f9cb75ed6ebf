"""What determines a stream: its input, its network, its training; and the published ones.

``tsn``: temporal segment networks (Wang et al., ECCV 2016), as the authors' Caffe models train
them on UCF101. ``two-stream``: the original (Simonyan and Zisserman, NIPS 2014). Their schedules
count iterations on the 9537 training clips of UCF101 (but for RGB differences, which are
tsn-pytorch's); here they are epochs, so that they follow the size of the set. ``small``: for sets
of hundreds of clips and machines without a GPU, from scratch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from flowpipe.errors import ParameterError
from flowpipe.models.stream import Network
from flowpipe.runner.json_files import Json
from flowpipe.training.data.stacks import Stacking
from flowpipe.training.data.transforms import Modality

Preset = Literal["tsn", "two-stream", "small"]


@dataclass(frozen=True, slots=True)
class Snippets:
    """What a network sees of a clip."""

    modality: Modality = "flow"
    """rgb, flow, rgb-diff, or warped-flow (flow with the camera's motion taken out)."""
    segments: int = 3
    """Equal parts of a clip, each of which gives a snippet in training."""
    length: int = 5
    """Flow fields, frames or differences of a snippet."""
    size: int = 224
    """Side of the network's input in pixels."""
    stacking: Stacking = "flow"
    """Of flow: the same pixel in all fields of a stack, or along the trajectory from it."""
    subtract_mean: bool = False
    """Of flow: take its mean out of every field, and with it most of the camera's motion."""

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ParameterError(
                f"modality is {self.modality!r}; it must be one of {', '.join(get_args(Modality))}"
            )
        for name in ("segments", "length", "size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.subtract_mean and not self.is_flow:
            raise ParameterError(f"subtract_mean is of flow, and modality is {self.modality!r}")

    @property
    def is_flow(self) -> bool:
        """Whether the snippets are flow."""
        return self.modality in ("flow", "warped-flow")

    @property
    def channels(self) -> int:
        """Of a snippet."""
        return (2 if self.is_flow else 3) * self.length


@dataclass(frozen=True, slots=True)
class Training:
    """Stochastic gradient descent and its schedule."""

    epochs: int = 242
    """Times that every clip is seen."""
    batch_size: int = 128
    """Clips of a step, over all processes; the clips of an epoch are dealt out evenly."""
    lr: float = 0.005
    """Learning rate, to begin with."""
    milestones: tuple[float, ...] = (0.556, 0.889)
    """Parts of the epochs after which the learning rate is divided by 10."""
    momentum: float = 0.9
    """Of the descent."""
    weight_decay: float = 5e-4
    """Of weights; biases and normalisations have none."""
    clip: float | None = 20.0
    """Largest norm of the gradient."""
    conv1_lr: float = 5.0
    """Learning rate of the first convolution, times that of others. Biases have twice their
    layer's."""
    spread_classes: bool = False
    """Have every batch hold all classes, for small batches of few classes."""
    seed: int = 0
    """Everything random follows from it."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "conv1_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(
                    f"{name} is {getattr(self, name)}; it must be more than 0, and finite"
                )
        if not 0 <= self.momentum < 1:
            raise ParameterError(f"momentum is {self.momentum}; it must be 0 to below 1")
        if not 0 <= self.weight_decay < math.inf:
            raise ParameterError(
                f"weight_decay is {self.weight_decay}; it must be 0 or more, and finite"
            )
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ParameterError(f"clip is {self.clip}; it must be more than 0, and finite")
        if self.seed < 0:
            raise ParameterError(f"seed is {self.seed}; it must be 0 or more")
        if not all(0 < part <= 1 for part in self.milestones):
            raise ParameterError(
                f"milestones are {self.milestones}; they must be parts of the epochs, 0 to 1"
            )

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= round(part * self.epochs) for part in self.milestones)
        return self.lr * 0.1**passed


@dataclass(frozen=True, slots=True)
class Stream:
    """All of it."""

    snippets: Snippets = field(default_factory=Snippets)
    network: Network = field(default_factory=Network)
    weights: str = "default"
    """To begin with: torchvision's by their name there (default is the best), none, or a file."""
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if self.weights == "none" and self.network.batch_norm != "train":
            raise ParameterError(
                f"batch_norm is {self.network.batch_norm!r} and weights is 'none': frozen "
                "normalisations keep the statistics of weights that were trained; take 'train'"
            )

    def description(self) -> Json:
        """Everything that determines the network, besides the clips."""
        return {"stage": "train-stream", **asdict(self)}


def preset(name: Preset, modality: Modality = "flow") -> Stream:
    """The published parameters of a stream.

    Raises
    ------
    ParameterError
        There is no such preset or no such modality.
    """
    is_rgb = modality == "rgb"
    length = {"rgb": 1, "rgb-diff": 5}.get(modality)
    match name:
        case "tsn":
            schedules = {
                "rgb": Training(47, lr=0.001, milestones=(0.429, 0.857), clip=40.0, conv1_lr=1.0),
                "rgb-diff": Training(
                    180, lr=0.001, milestones=(0.444, 0.889), clip=40.0, conv1_lr=1.0
                ),
            }
            return Stream(
                Snippets(modality, 3, length or 5),
                Network("resnet50", dropout=0.8 if modality in schedules else 0.7),
                "default",
                schedules.get(modality, Training()),
            )
        case "two-stream":
            schedule = (537, (0.7,)) if is_rgb else (2147, (0.625, 0.875))
            return Stream(
                Snippets(modality, 1, length or 10, subtract_mean=length is None),
                Network("cnn-m-2048", dropout=0.9, batch_norm="train"),
                "none",
                Training(schedule[0], 256, 0.01, schedule[1], clip=None, conv1_lr=1.0),
            )
        case "small":
            return Stream(
                Snippets(modality, 3, length or 5, size=112),
                Network("resnet18", dropout=0.5, batch_norm="train"),
                "none",
                Training(60, 16, 0.01, (0.6, 0.85), clip=20.0, conv1_lr=1.0, spread_classes=True),
            )
    raise ParameterError(f"preset is {name!r}; it must be one of {', '.join(get_args(Preset))}")
