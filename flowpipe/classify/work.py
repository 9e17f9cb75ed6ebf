"""The work of classification on one item: compute a kernel, or score a split.

Each writes one file, with the key of what it was made from, and skips a file with that key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowpipe.classify.kernels import (
    Gram,
    chi2_distances,
    linear_gram,
    mean_distance,
    mean_gram,
    multichannel_gram,
)
from flowpipe.classify.parameters import Svm
from flowpipe.classify.scores import ClassScores
from flowpipe.classify.svm import OneVsRest, fit_one_vs_rest
from flowpipe.datasets.base import Split
from flowpipe.encoding.files import load_vectors, vector_name, vectors_path
from flowpipe.errors import FormatError
from flowpipe.io.npz import key_of, load_arrays, save_arrays, take
from flowpipe.runner.pool import Advance, Done

KernelKind = Literal["linear", "chi2"]

KERNEL_FORMAT = "flowpipe kernel 1"
SCORES_FORMAT = "flowpipe split scores 2"
"""Scores of one split, without labels, and the SVMs that gave them."""


def kernel_path(out: Path, split: int, descriptor: str) -> Path:
    """Return the file of the kernel of a split, numbered from 1."""
    return out / f"kernels/{vector_name(split, descriptor)}.npz"


@dataclass(frozen=True, slots=True)
class KernelToCompute:
    """A kernel to compute: of all pairs of the clips of a split, of one descriptor."""

    name: str
    path: Path
    key: str
    vector: str
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComputeKernel:
    """Compute the products or the chi-squared distances of all pairs of vectors."""

    kind: KernelKind
    out: Path

    def __call__(self, kernel: KernelToCompute, advance: Advance) -> Done:
        """Compute it, unless it has been computed."""
        if key_of(kernel.path, KERNEL_FORMAT) == kernel.key:
            return Done(skipped=True)
        table = np.empty((0, 0), np.float32)
        for number, name in enumerate(kernel.clips):
            vectors, _ = load_vectors(vectors_path(self.out, name), (kernel.vector,))
            vector = vectors[kernel.vector]
            if number == 0:
                table = np.empty((len(kernel.clips), len(vector)), np.float32)
            table[number] = vector
            advance(1)
        with threadpool_limits(1):
            matrix = chi2_distances(table) if self.kind == "chi2" else linear_gram(table)
        arrays = {"clips": np.array(kernel.clips), "kernel": matrix}
        save_arrays(kernel.path, KERNEL_FORMAT, {}, arrays, self.out, kernel.key)
        return Done()


def load_kernel(path: Path) -> tuple[tuple[str, ...], Gram]:
    """Return the clips of a kernel, and the (n, n) matrix."""
    _, arrays = load_arrays(path, KERNEL_FORMAT)
    clips = take(path, arrays, "clips", (None,), "U")
    return tuple(clips.tolist()), take(path, arrays, "kernel", (len(clips), len(clips)))


@dataclass(frozen=True, slots=True)
class SplitToScore:
    """A split to score with the kernels of one or more descriptors.

    It has the labels of its training clips, as class indices, and no others: what is computed
    cannot depend on the label of a test clip.
    """

    name: str
    path: Path
    key: str
    split: Split
    training_labels: tuple[int, ...]
    n_classes: int
    kernels: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ScoreSplit:
    """Train the SVMs of a split and write the scores of its test clips."""

    svm: Svm
    kind: KernelKind
    out: Path
    threads: int = 1

    def __call__(self, task: SplitToScore, advance: Advance) -> Done:
        """Score it, unless it has been scored."""
        if key_of(task.path, SCORES_FORMAT) == task.key:
            return Done(skipped=True)
        names = (*task.split.train, *task.split.test)
        train, test = np.split(np.arange(len(names)), [len(task.split.train)])
        with threadpool_limits(1):
            grams = self._grams(task.kernels, names)
            means = np.zeros(len(task.kernels))
            if self.kind == "chi2":
                gram = multichannel_gram(_noting_means(grams, train, means), train)
            else:
                gram = mean_gram(grams)
            labels = np.array(task.training_labels, np.int64)
            machines = fit_one_vs_rest(
                gram[np.ix_(train, train)], labels, task.n_classes, self.svm, jobs=self.threads
            )
            scores = machines.scores(gram[np.ix_(test, train)])
        arrays = {
            "names": np.array(task.split.test, np.str_),
            "scores": scores,
            "present": machines.present,
            "dual": machines.dual,
            "intercept": machines.intercept,
            "mean_distances": means,
        }
        save_arrays(task.path, SCORES_FORMAT, {}, arrays, self.out, task.key)
        advance(task.n_classes)
        return Done()

    @staticmethod
    def _grams(paths: Sequence[Path], names: Sequence[str]) -> Iterator[Gram]:
        for path in paths:
            clips, kernel = load_kernel(path)
            if clips != tuple(names):
                raise FormatError(f"{str(path)!r} has other clips; run encode again")
            yield kernel


def _noting_means(
    distances: Iterable[Gram], train: NDArray[np.integer], means: NDArray[np.float64]
) -> Iterator[Gram]:
    """Pass distances on, and note the mean of each channel."""
    for number, each in enumerate(distances):
        means[number] = mean_distance(each, train)
        yield each


def load_machines(path: Path, n_classes: int) -> tuple[OneVsRest, NDArray[np.float64]]:
    """Return the SVMs of a scored split, and the mean distance of each channel (zeros if linear).

    Raises
    ------
    FormatError
        The file does not hold them.
    """
    _, arrays = load_arrays(path, SCORES_FORMAT)
    present = take(path, arrays, "present", (None,), "i")
    dual = take(path, arrays, "dual", (len(present), None))
    intercept = take(path, arrays, "intercept", (len(present),))
    machines = OneVsRest(n_classes, present, dual, intercept)
    return machines, take(path, arrays, "mean_distances", (None,))


def load_split_scores(path: Path, n_classes: int) -> tuple[tuple[str, ...], ClassScores]:
    """Return the test clips of a scored split, and their (n, classes) scores."""
    _, arrays = load_arrays(path, SCORES_FORMAT)
    names = tuple(take(path, arrays, "names", (None,), "U").tolist())
    return names, take(path, arrays, "scores", (len(names), n_classes))
