"""Scores of the test clips of every split, and the npz file that stores them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import load_arrays, save_arrays, take

ClassScores = NDArray[np.float32]
"""(clips, classes); the larger, the more likely."""

FORMAT = "flowpipe scores 1"


@dataclass(frozen=True, eq=False)
class SplitScores:
    """Scores of the test clips of one split.

    Attributes
    ----------
    split
        Name of the split.
    names
        Names of the n clips.
    labels
        (n,) int64 true class indices.
    scores
        (n, classes) float32; the larger, the more likely.
    """

    split: str
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: ClassScores

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.labels.shape != (count,) or self.scores.shape[:1] != (count,):
            raise ParameterError(
                f"split {self.split!r} has {count} names, labels {self.labels.shape} and scores "
                f"{self.scores.shape}; their lengths must agree"
            )
        if not count:
            raise ParameterError(f"split {self.split!r} has no scores")
        if not np.isfinite(self.scores).all():
            raise ParameterError(f"split {self.split!r} has scores that are not finite")
        classes = self.scores.shape[1]
        if not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise ParameterError(
                f"split {self.split!r} has labels from {self.labels.min()} to "
                f"{self.labels.max()}; they must be 0 to {classes - 1}"
            )

    def digest(self, classes: Sequence[str]) -> str:
        """Return 64 hexadecimal digits that tell the scores of clips apart, whatever the labels."""
        state = hashlib.sha256(repr((tuple(classes), self.split, self.names)).encode())
        state.update(self.scores.tobytes())
        return state.hexdigest()

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(n,) classes with the largest score, the first of equal ones."""
        return np.asarray(self.scores.argmax(axis=1), np.int64)

    @property
    def tested(self) -> NDArray[np.int64]:
        """The classes that have test clips, in ascending order."""
        return np.unique(self.labels)

    @property
    def true_scores(self) -> NDArray[np.float32]:
        """(n,) scores of the true classes."""
        return self.scores[np.arange(len(self.labels)), self.labels]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of all splits of a protocol."""

    classes: tuple[str, ...]
    splits: tuple[SplitScores, ...]

    def __post_init__(self) -> None:
        for split in self.splits:
            if split.scores.shape[1] != len(self.classes):
                raise ParameterError(
                    f"split {split.split!r} has scores for {split.scores.shape[1]} classes; "
                    f"there are {len(self.classes)}"
                )
        if not self.splits:
            raise ParameterError("there are no scores")


def save_scores(path: Path, scores: Scores, root: Path, key: str | None = None) -> None:
    """Write scores as an npz without pickles.

    ``names``, ``labels``, ``scores`` and ``split`` (an index into ``splits``) have a row for each
    test clip; ``classes`` names the columns of ``scores``.
    """
    splits = scores.splits
    arrays: Mapping[str, NDArray[np.generic]] = {
        "names": np.array([name for split in splits for name in split.names]),
        "labels": np.concatenate([split.labels for split in splits]),
        "scores": np.concatenate([split.scores for split in splits]),
        "split": np.repeat(np.arange(len(splits)), [len(split.names) for split in splits]),
        "splits": np.array([split.split for split in splits]),
        "classes": np.array(scores.classes),
    }
    save_arrays(path, FORMAT, {}, arrays, root, key)


def load_scores(path: Path) -> Scores:
    """Read what :func:`save_scores` wrote.

    Raises
    ------
    FormatError
        The file does not hold scores, or they do not fit together.
    """
    _, arrays = load_arrays(path, FORMAT)
    classes = take(path, arrays, "classes", (None,), "U")
    splits = take(path, arrays, "splits", (None,), "U")
    names = take(path, arrays, "names", (None,), "U")
    labels = take(path, arrays, "labels", (len(names),), "i")
    member = take(path, arrays, "split", (len(names),), "i")
    scores = take(path, arrays, "scores", (len(names), len(classes)))
    try:
        by_split = tuple(
            SplitScores(
                str(split),
                tuple(names[member == i].tolist()),
                labels[member == i].astype(np.int64),
                scores[member == i].astype(np.float32),
            )
            for i, split in enumerate(splits)
        )
        return Scores(tuple(classes.tolist()), by_split)
    except ParameterError as error:
        raise FormatError(f"{str(path)!r}: {error}") from None
