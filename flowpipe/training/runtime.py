"""Where and how networks run; it does not change a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from flowpipe._options import Switch
from flowpipe.errors import ParameterError
from flowpipe.runner.pool import default_jobs


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how networks run; it does not change a result."""

    device: str = "auto"
    """Device of the networks: a GPU if there is one (auto), cpu, or a torch device such as
    cuda:1."""
    loader_workers: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: 1; all cores with a GPU)")
    ] = None
    """Number of processes that read and transform clips. 0 uses this process."""

    def __post_init__(self) -> None:
        if self.loader_workers is not None and self.loader_workers < 0:
            raise ParameterError(f"loader_workers is {self.loader_workers}; it must be 0 or more")

    @property
    def workers(self) -> int:
        """Number of processes that read and transform clips."""
        if self.loader_workers is not None:
            return self.loader_workers
        from flowpipe.training.distributed import pick_device

        return default_jobs() if pick_device(self.device).type == "cuda" else 1


@dataclass(frozen=True, slots=True)
class TrainingRuntime(Runtime):
    """Where and how networks are trained; it does not change a result."""

    checkpoint_every: Annotated[int, arg(metavar="STEPS")] = 200
    """Number of training steps between checkpoints."""
    tensorboard: Switch = False
    """Also write the training curves for TensorBoard."""

    def __post_init__(self) -> None:
        Runtime.__post_init__(self)
        if self.checkpoint_every < 1:
            raise ParameterError(
                f"checkpoint_every is {self.checkpoint_every}; it must be 1 or more"
            )
