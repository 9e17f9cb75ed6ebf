"""How a network is trained, as options."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from tyro.conf import arg

from flowpipe.errors import ParameterError

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["steps", "cosine"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Training:
    """The optimiser, its schedule and its regularisation."""

    epochs: int = 242
    """Number of times that every clip is seen."""
    batch_size: int = 128
    """Number of clips per step, over all processes. The clips of an epoch are divided evenly."""
    lr: float = 0.005
    """Initial learning rate; with a warm-up, that at its end."""
    milestones: tuple[float, ...] = (0.556, 0.889)
    """Fractions of the epochs after which the learning rate is divided by 10, for the schedule
    steps."""
    momentum: float = 0.9
    """Momentum of the gradient descent; for adamw the decay of the mean gradient (beta 1)."""
    weight_decay: float = 5e-4
    """Weight decay; biases and normalisation layers have none."""
    grad_clip: Annotated[float | None, arg(metavar="NORM|None")] = 20.0
    """Largest norm of the gradient; no limit if None."""
    conv1_lr: float = 5.0
    """Factor on the learning rate of the first convolution."""
    balanced_batches: bool = False
    """Put clips of all classes into every batch, as suits small batches and few classes."""
    seed: int = 0
    """Seed of everything random."""
    optimizer: Optimizer = "sgd"
    """Stochastic gradient descent with momentum, whose learning rate for biases is twice that of
    the weights of their layers (sgd), or Adam with decoupled weight decay (adamw)."""
    schedule: Schedule = "steps"
    """How the learning rate falls: divided by 10 at the milestones (steps), or along half a cosine
    to 0 (cosine)."""
    warmup: Annotated[float, arg(metavar="EPOCHS")] = 0.0
    """Number of epochs at the beginning in which the learning rate rises linearly from 0."""
    head_rate: float = 1.0
    """Factor on the learning rate of the layers that the initial weights do not have: the last
    layer, a head over segments, modules inserted into a backbone."""
    backbone_rate: float = 1.0
    """Factor on the learning rate of all other layers; 0 freezes them."""
    accumulate: Annotated[int, arg(metavar="PARTS")] = 1
    """Number of parts that a batch is divided into, whose gradients are added: less memory for the
    same step. Batch normalisations that are trained see the clips of one part."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    mixup: Annotated[float, arg(metavar="ALPHA")] = 0.0
    """Mix each clip and its label with another of its batch; their share is drawn from a beta
    distribution with this parameter. 0: do not mix."""
    stochastic_depth: Annotated[
        float | None,
        arg(metavar="P|None", help_behavior_hint="(default: that of the network or recipe)"),
    ] = None
    """Probability with which the last residual block is skipped for a clip; that of the blocks
    before it falls linearly to 0. None: that of the network itself, if it has one."""
    precise_bn: Annotated[int, arg(metavar="BATCHES")] = 0
    """Number of batches, at the end of training, from which the statistics of trained batch
    normalisations are computed again. 0: keep the running averages."""
    amp: Precision = "auto"
    """Mixed precision of the networks' operations: bfloat16 on GPUs that have it in hardware
    (auto), none (float32), bfloat16, or on GPUs float16, whose gradients are scaled."""
    ema: Annotated[float, arg(metavar="DECAY")] = 0.0
    """Decay per step of an exponential moving average of the weights, which takes the place of the
    weights at the end of training. 0: no average."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "conv1_lr", "head_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(
                    f"{name} is {getattr(self, name)}; it must be more than 0, and finite"
                )
        for name in ("weight_decay", "backbone_rate", "warmup", "mixup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ParameterError(
                    f"{name} is {getattr(self, name)}; it must be 0 or more, and finite"
                )
        for name in ("momentum", "label_smoothing", "ema", "stochastic_depth"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ParameterError(f"{name} is {value}; it must be 0 to below 1")
        if self.grad_clip is not None and not 0 < self.grad_clip < math.inf:
            raise ParameterError(
                f"grad_clip is {self.grad_clip}; it must be more than 0, and finite"
            )
        for name in ("seed", "precise_bn"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name, choices in (("optimizer", Optimizer), ("schedule", Schedule), ("amp", Precision)):
            if getattr(self, name) not in get_args(choices):
                raise ParameterError(
                    f"{name} is {getattr(self, name)!r}; it must be one of "
                    f"{', '.join(get_args(choices))}"
                )
        self._check_schedule()

    def _check_schedule(self) -> None:
        if not all(0 < part <= 1 for part in self.milestones):
            raise ParameterError(
                f"milestones are {self.milestones}; they must be parts of the epochs, 0 to 1"
            )
        if self.schedule == "cosine" and self.milestones:
            raise ParameterError(
                f"milestones are {self.milestones}; they apply to the schedule steps, and schedule "
                "is 'cosine'"
            )
        if self.warmup >= self.epochs:
            raise ParameterError(
                f"warmup is {self.warmup:g} epochs; it must be shorter than the training of "
                f"{self.epochs}"
            )
        if any(part * self.epochs < self.warmup for part in self.milestones):
            raise ParameterError(
                f"milestones are {self.milestones} of {self.epochs} epochs, and warmup is "
                f"{self.warmup:g} epochs; the learning rate cannot fall before it has risen"
            )
        if self.accumulate > self.batch_size:
            raise ParameterError(
                f"accumulate is {self.accumulate}; a batch of {self.batch_size} clips has no more "
                "parts than clips"
            )
        if self.backbone_rate == 0 and self.stochastic_depth is not None:
            raise ParameterError(
                f"stochastic_depth is {self.stochastic_depth}; it applies to layers that are "
                "trained, and backbone_rate is 0"
            )

    def changed(self, options: dict[str, Any]) -> Training:
        """Return the training with other values.

        Another schedule brings milestones of its own: none for cosine, for steps the default.
        """
        schedule = options.get("schedule", self.schedule)
        if schedule != self.schedule:
            milestones = () if schedule == "cosine" else Training().milestones
            options = {"milestones": milestones, **options}
        return replace(self, **options)

    def lr_at(self, epoch: float) -> float:
        """Return the learning rate after so many epochs, which need not be whole."""
        if epoch < self.warmup:
            return self.lr * epoch / self.warmup
        if self.schedule == "cosine":
            done = (epoch - self.warmup) / (self.epochs - self.warmup)
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        passed = sum(epoch >= round(part * self.epochs) for part in self.milestones)
        return self.lr * 0.1**passed

    def lr_of_step(self, epoch: int, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        epoch, step
            From 0.
        steps
            Number of steps of an epoch.
        """
        begun = epoch + step / steps
        # The first step of a warm-up would otherwise change nothing.
        return self.lr_at(min(begun + 1 / steps, self.warmup) if begun < self.warmup else begun)
