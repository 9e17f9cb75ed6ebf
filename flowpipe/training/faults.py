"""Notice a training that has diverged, and batches that do not fit into the memory."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from flowpipe.errors import FlowpipeError
from flowpipe.training.checkpoint import CHECKPOINT_NAME

logger = logging.getLogger(__name__)


class DivergedError(FlowpipeError):
    """The loss or a weight is no longer a number."""


class OutOfMemoryError(FlowpipeError):
    """A single clip does not fit into the memory."""


class Losses:
    """Check that the losses of steps are finite, a few at a time so as not to wait for a GPU.

    Parameters
    ----------
    every
        Number of steps that are checked together.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._steps: list[tuple[Tensor, int, int, float]] = []

    def add(self, loss: Tensor, epoch: int, step: int, rate: float, out: Path) -> None:
        """Add the loss of a step, with its epoch and number from 0 and its learning rate."""
        self._steps.append((loss, epoch, step, rate))
        if len(self._steps) >= self._every:
            self.check(out)

    def check(self, out: Path) -> None:
        """Check the losses since the last check.

        Raises
        ------
        DivergedError
            One is not finite; the message says which, and what to do.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        values = torch.stack([step[0] for step in steps]).tolist()
        for value, (_, epoch, step, rate) in zip(values, steps, strict=True):
            if not math.isfinite(value):
                raise DivergedError(
                    f"the loss is {value} in step {step + 1} of epoch {epoch + 1}, with a learning "
                    f"rate of {rate:g}: the training has diverged. {_advice(out)}"
                )


def check_finite(network: nn.Module, out: Path) -> None:
    """Check that all weights and statistics are finite.

    Raises
    ------
    DivergedError
        One is not.
    """
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DivergedError(
                f"{name} is no longer finite: the training has diverged. {_advice(out)}"
            )


def _advice(out: Path) -> str:
    path = out / CHECKPOINT_NAME
    kept = f". {str(path)!r}, from before, is kept" if path.exists() else ""
    return (
        "Train into another folder with a smaller lr, a warmup of some epochs, or a smaller "
        f"grad_clip{kept}"
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that memory could not be allocated, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "not enough memory" in text


def more_parts(parts: int, clips: int, processes: int) -> int:
    """Return twice as many parts for a batch that does not fit into the memory, and log it.

    Parameters
    ----------
    parts
        Number of parts that are too large.
    clips
        Number of clips of the batch.
    processes
        Number of processes that train together.

    Raises
    ------
    OutOfMemoryError
        The parts are single clips already, or other processes would not do the same.
    """
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if processes > 1:
        raise OutOfMemoryError(
            f"a batch in {parts} parts does not fit into the memory; set accumulate to "
            f"{2 * parts}, in another folder"
        )
    if parts >= clips:
        raise OutOfMemoryError(
            "a single clip does not fit into the memory; take a smaller input_size, fewer "
            "segments or a shorter length, or a smaller network"
        )
    logger.warning(
        f"a batch in {parts} parts does not fit into the memory: it is divided into {2 * parts}, "
        "and steps are taken for as many clips as before; accumulate sets this number"
    )
    return 2 * parts
