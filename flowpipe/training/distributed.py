"""The processes that ``torchrun`` starts: who am I, and sums over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train one network together.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and of all.
    device
        Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sums(self, values: list[float]) -> list[float]:
        """Add numbers up over all processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes that ``torchrun`` started, or be alone.

    Parameters
    ----------
    device
        ``auto`` (CUDA where there is some), ``cpu``, or a torch device such as ``cuda:1``. Of
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
    """Compute with so many threads on the CPU meanwhile.

    Torch takes a thread a processor, which is right for large networks. Those of a small one wait
    for each other most of the time, and do so in the way of the processes that read.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def alone(command: str) -> None:
    """Make sure that ``torchrun`` has not started several processes.

    Raises
    ------
    ParameterError
        It has.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        raise ParameterError(
            f"{command} runs in one process, but torchrun started {size}; train takes several"
        )


def pick_device(name: str) -> torch.device:
    """The torch device of a name; ``auto`` takes CUDA where there is some."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        told = str(error).partition("\n")[0]
        raise ParameterError(f"device is {name!r}, which is not here: {told}") from None
    return found
