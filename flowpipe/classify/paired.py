"""Compare systems on the same tests: which each got right, and whether a difference may be chance.

A test is a clip in a split. Accuracies of two systems on the same clips are not independent, so
their intervals say little about their difference. McNemar's test (Psychometrika 1947) looks at the
tests that one of the two got right and the other wrong: if neither is better, each of these is a
toss of a coin. The test here is exact, by the binomial distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flowpipe.classify.metrics import Interval, student, wilson
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores
from flowpipe.errors import ParameterError

Right = NDArray[np.bool_]
"""(tests,) whether a system got each test right."""


@dataclass(frozen=True, eq=False)
class Tests:
    """The tests of a protocol, in its order.

    Attributes
    ----------
    splits
        Names of the splits.
    names
        Name of the clip of each of the n tests.
    split
        (n,) int64 index of the split of each.
    labels
        (n,) int64 true class indices.
    classes
        Class names.
    """

    __test__ = False  # no test of pytest's

    splits: tuple[str, ...]
    names: tuple[str, ...]
    split: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def protocol_tests(protocol: Protocol) -> Tests:
    """Return the tests of a protocol."""
    names = tuple(name for split in protocol.splits for name in split.test)
    counts = [len(split.test) for split in protocol.splits]
    return Tests(
        tuple(split.name for split in protocol.splits),
        names,
        np.repeat(np.arange(len(counts)), counts),
        protocol.indices(names),
        protocol.classes,
    )


def table_of(scores: Scores, tests: Tests) -> tuple[NDArray[np.float32], Right]:
    """Return the scores of all tests, in their order.

    Returns
    -------
    (n, classes) float32, (n,) bool
        The scores, zeros for a test that was not scored; and which tests were scored.

    Raises
    ------
    ParameterError
        The scores are of other classes.
    """
    if scores.classes != tests.classes:
        raise ParameterError(
            f"the scores are of {len(scores.classes)} classes, such as {scores.classes[0]!r}; the "
            f"{len(tests.classes)} of the protocol are expected, such as {tests.classes[0]!r}"
        )
    table = np.zeros((len(tests), len(tests.classes)), np.float32)
    known = np.zeros(len(tests), np.bool_)
    by_name = {split.split: split for split in scores.splits}
    start = 0
    for number, name in enumerate(tests.splits):
        stop = start + int(np.count_nonzero(tests.split == number))
        if (part := by_name.get(name)) is not None:
            wanted = tests.names[start:stop]
            if part.names == wanted:  # nothing to look for
                table[start:stop], known[start:stop] = part.scores, True
            else:
                row = {clip: place for place, clip in enumerate(part.names)}
                found = [place for place, clip in enumerate(wanted) if clip in row]
                table[start + np.array(found, int)] = part.scores[
                    [row[wanted[place]] for place in found]
                ]
                known[start + np.array(found, int)] = True
        start = stop
    return table, known


def predictions_of(table: NDArray[np.float32], known: Right) -> NDArray[np.int32]:
    """Return the class with the largest score of each test, -1 for one that was not scored."""
    predicted = np.asarray(table.argmax(axis=1), np.int32)
    predicted[~known] = -1
    return predicted


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of a system on the tests of a protocol.

    Attributes
    ----------
    accuracy
        Over all tests, with Wilson's interval.
    mean_accuracy
        Mean over the splits, with Student's interval.
    mean_class_accuracy
        Mean of the accuracies of the classes that have tests.
    """

    accuracy: Interval
    mean_accuracy: Interval
    mean_class_accuracy: float


def accuracy_of(right: Right, tests: Tests) -> Accuracy:
    """Return the accuracy of a system that got these tests right."""
    hits = np.bincount(tests.labels, weights=right, minlength=len(tests.classes))
    counts = np.bincount(tests.labels, minlength=len(tests.classes))
    of_split = np.bincount(tests.split, weights=right) / np.bincount(tests.split)
    return Accuracy(
        wilson(int(np.count_nonzero(right)), len(tests)),
        student(of_split.tolist()),
        float(np.mean(hits[counts > 0] / counts[counts > 0])),
    )


@dataclass(frozen=True)
class Pair:
    """Two systems on the same tests.

    Attributes
    ----------
    first_only, second_only
        Number of tests that one of the two alone got right.
    p
        Probability of a difference at least as large if neither is better: McNemar's exact test,
        two-sided.
    """

    first_only: int
    second_only: int
    p: float

    @property
    def differ(self) -> int:
        """Number of tests that one of the two alone got right."""
        return self.first_only + self.second_only


def compare_pair(first: Right, second: Right) -> Pair:
    """Compare two systems by the tests that each got right."""
    first_only = int(np.count_nonzero(first & ~second))
    second_only = int(np.count_nonzero(second & ~first))
    return Pair(first_only, second_only, mcnemar(first_only, second_only))


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Parameters
    ----------
    first_only, second_only
        Number of tests that one of the two alone got right, 0 or more.

    Raises
    ------
    ParameterError
        A number is negative.

    Examples
    --------
    >>> mcnemar(0, 5), mcnemar(7, 7)
    (0.0625, 1.0)
    """
    if first_only < 0 or second_only < 0:
        raise ParameterError(f"counts are {first_only} and {second_only}; they must be 0 or more")
    trials = first_only + second_only
    return float(stats.binomtest(first_only, trials, 0.5).pvalue) if trials else 1.0


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, by Holm's method (Scand. J. Statist. 1979).

    Examples
    --------
    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    found = np.empty(len(p_values))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * p_values[index]))
        found[index] = largest
    return found.tolist()
