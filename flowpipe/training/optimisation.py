"""How a network is trained, as options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Training:
    """Stochastic gradient descent and its schedule."""

    epochs: int = 242
    """Number of times that every clip is seen."""
    batch_size: int = 128
    """Number of clips per step, over all processes. The clips of an epoch are divided evenly."""
    lr: float = 0.005
    """Initial learning rate."""
    milestones: tuple[float, ...] = (0.556, 0.889)
    """Fractions of the epochs after which the learning rate is divided by 10."""
    momentum: float = 0.9
    """Momentum of the gradient descent."""
    weight_decay: float = 5e-4
    """Weight decay; biases and normalisation layers have none."""
    grad_clip: Annotated[float | None, arg(metavar="NORM|None")] = 20.0
    """Largest norm of the gradient; no limit if None."""
    conv1_lr: float = 5.0
    """Factor on the learning rate of the first convolution. The factor for a bias is twice that
    of its layer's weight."""
    balanced_batches: bool = False
    """Put clips of all classes into every batch, as suits small batches and few classes."""
    seed: int = 0
    """Seed of everything random."""

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
        if self.grad_clip is not None and not 0 < self.grad_clip < math.inf:
            raise ParameterError(
                f"grad_clip is {self.grad_clip}; it must be more than 0, and finite"
            )
        if self.seed < 0:
            raise ParameterError(f"seed is {self.seed}; it must be 0 or more")
        if not all(0 < part <= 1 for part in self.milestones):
            raise ParameterError(
                f"milestones are {self.milestones}; they must be parts of the epochs, 0 to 1"
            )

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= round(part * self.epochs) for part in self.milestones)
        return self.lr * 0.1**passed
