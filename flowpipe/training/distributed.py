"""Join the processes that ``torchrun`` starts, choose their devices, and sum over them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Group:
    """Describe the processes that train one network together.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and number of all.
    device
        Device of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def sums(self, values: list[float]) -> list[float]:
        """Sum each number over all processes."""
        if self.size == 1:
            return values
        total = self.total(torch.tensor(values, dtype=torch.float64))
        return [float(value) for value in total]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size == 1:
            return values
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total

    def wait(self) -> None:
        """Wait at a barrier for all processes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, if any.

    Parameters
    ----------
    device
        ``auto`` (a GPU if there is one), ``cpu``, or a torch device such as ``cuda:1``. Of
        several processes each takes the device of its own number.

    Raises
    ------
    ParameterError
        There is no such device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(0, 1, pick_device(device))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = pick_device(device)
    if chosen.type == "cuda":
        chosen = pick_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads on the CPU within a block.

    By default torch uses one thread per processor, which suits large networks. The threads of a
    small one mostly wait for each other, and take time from the processes that read clips.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def alone(command: str) -> None:
    """Check that ``torchrun`` has not started several processes.

    Raises
    ------
    ParameterError
        It has started several.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        raise ParameterError(
            f"{command} runs in one process, but torchrun started {size}; train takes several"
        )


def pick_device(name: str) -> torch.device:
    """Return the torch device of a name; ``auto`` is a GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ParameterError(f"device is {name!r}, which is not available: {reason}") from None
    return found
