"""Bring clips to a network, with processes that read and transform them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowpipe.training.data.sampler import BatchSampler, Clips

START = "spawn"
"""How workers start: a fork of a process in which OpenCV has threads hangs when it uses OpenCV."""


@dataclass(frozen=True, slots=True)
class DataLoading:
    """How samples reach the network; it does not change the result.

    Attributes
    ----------
    workers
        Number of processes that read and transform clips; 0 uses this process.
    checkpoint_every
        Number of steps between checkpoints.
    """

    workers: int = 0
    checkpoint_every: int = 200


def batch_loader(
    clips: Clips, batches: BatchSampler, workers: int, *, pin: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return what yields the batches of a sampler.

    Parameters
    ----------
    clips, batches
        What is loaded, and in which batches.
    workers
        Number of processes; 0 uses this one.
    pin
        Put batches into memory that a GPU reads faster.
    """
    return DataLoader(
        cast(Dataset[Any], clips),
        batch_sampler=batches,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=init_worker,
        pin_memory=pin,
    )


def init_worker(number: int) -> None:
    """One thread for OpenCV too, as torch has it in its workers."""
    import cv2

    cv2.setNumThreads(1)
