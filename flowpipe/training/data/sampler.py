"""Choose the clips of each training step from seed, epoch and step alone."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from flowpipe.errors import ParameterError


class Clips(Protocol):
    """A data set of clips, such as :class:`flowpipe.training.FlowClips`."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of each clip."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return (K, C, H, W) of a clip, and its class."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines random snippets and crops."""


class BatchSampler(Sampler[list[int]]):
    """Yield the clips of each step of an epoch, in random order.

    All batches of an epoch are of nearly one size, so that none is too small for normalisation.

    Parameters
    ----------
    labels
        Class of each clip.
    batch_size
        Largest number of clips in a batch, over all processes.
    seed
        Seed of the order, which depends on the epoch too.
    spread
        Put all classes into every batch, in nearly the proportions of the set. In small batches of
        few classes the proportions would otherwise vary so much that the last layer follows them.
    rank, world
        Number of this process, and of all; each takes its share of every batch.

    Attributes
    ----------
    epoch, first
        Epoch of the next iteration, and its first step.

    Raises
    ------
    ParameterError
        A batch has fewer clips than there are processes.
    """

    def __init__(
        self,
        labels: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        spread: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._labels, self._count = np.asarray(labels), len(labels)
        self._seed, self._spread, self._rank, self._world = seed, spread, rank, world
        count = self._count
        self.steps = -(-count // batch_size)
        self.epoch = self.first = 0
        if not count or count // self.steps < world:
            raise ParameterError(
                f"{count} clips in batches of {batch_size} are too few for {world} processes"
            )

    def sizes(self) -> list[int]:
        """Return the number of clips in each batch of an epoch, over all processes."""
        return [len(part) for part in np.array_split(np.arange(self._count), self.steps)]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's share of each batch."""
        for batch in np.array_split(self._order(), self.steps)[self.first :]:
            yield batch[self._rank :: self._world].tolist()

    def __len__(self) -> int:
        """Return the number of batches in the next iteration."""
        return self.steps - self.first

    def _order(self) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, self.epoch])
        if not self._spread:
            return rng.permutation(self._count)
        # The clips of each class, in an order drawn at random, at equal distances on average.
        place = np.empty(self._count)
        for label in np.unique(self._labels):
            members = rng.permutation(np.flatnonzero(self._labels == label))
            place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
        return np.argsort(place)


class ConcatClips(Dataset[tuple[Tensor, int]]):
    """Concatenate several sets, with the classes of each after those of the one before.

    Parameters
    ----------
    sets
        Sets whose snippets have one shape.
    classes
        Number of classes of each set.
    """

    def __init__(self, sets: Sequence[Clips], classes: Sequence[int]) -> None:
        self._sets = list(sets)
        self._ends = list(accumulate(len(each) for each in sets))
        self._offsets = [0, *accumulate(classes)]
        self.labels = [
            label + offset
            for each, offset in zip(sets, self._offsets, strict=False)
            for label in each.labels
        ]

    def __len__(self) -> int:
        """Return the number of clips."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a clip, and its class among those of all sets."""
        which = bisect.bisect_right(self._ends, index)
        before = self._ends[which - 1] if which else 0
        snippets, label = self._sets[which][index - before]
        return snippets, label + self._offsets[which]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of all sets."""
        for each in self._sets:
            each.set_epoch(epoch)
