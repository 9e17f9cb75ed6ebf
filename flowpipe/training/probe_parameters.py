"""How heads on stored maps are trained, as options."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from tyro.conf import arg

from flowpipe.training.optimisation import Training


@dataclass(frozen=True, slots=True)
class ProbeTraining:
    """The training of a head, by AdamW along a cosine; small sets are the normal case."""

    epochs: int = 20
    """Number of times that every clip is seen."""
    batch_size: int = 16
    """Number of clips per step."""
    lr: float = 0.001
    """Learning rate at the end of the warm-up, from where it falls along half a cosine to 0."""
    weight_decay: float = 0.05
    """Weight decay; biases and normalisation layers have none."""
    warmup: Annotated[float, arg(metavar="EPOCHS")] = 2.0
    """Number of epochs at the beginning in which the learning rate rises linearly from 0."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    mixup: Annotated[float, arg(metavar="ALPHA")] = 0.0
    """Mix each clip and its label with another of its batch; their share is drawn from a beta
    distribution with this parameter. 0: do not mix."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        self.training()  # checks the values

    def training(self) -> Training:
        """Return all parameters of the training.

        Raises
        ------
        ParameterError
            A value is out of range.
        """
        return Training(
            **asdict(self),
            milestones=(),
            grad_clip=1.0,
            conv1_lr=1.0,
            balanced_batches=True,
            optimizer="adamw",
            schedule="cosine",
        )
