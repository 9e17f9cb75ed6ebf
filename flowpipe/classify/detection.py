"""Detected intervals, and their average precision at several temporal overlaps.

By the rules of ActivityNet (Caba Heilbron et al., CVPR 2015) or of the THUMOS'14 challenge (Jiang
et al., 2014), which give different numbers for the same detections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.per_frame import Array, mean_of, number
from flowpipe.datasets.intervals.base import Interval
from flowpipe.errors import ParameterError, check_range
from flowpipe.runner.json_files import Json

OVERLAPS = (0.3, 0.4, 0.5, 0.6, 0.7)
"""Temporal intersections over union at which THUMOS'14 is reported."""

Rules = Literal["activitynet", "thumos14"]


@dataclass(frozen=True, slots=True)
class Detection:
    """Hold an interval that a detector has found.

    Attributes
    ----------
    start, end
        In seconds from the start of the video.
    label
        Class name.
    score
        The higher, the surer.
    """

    start: float
    end: float
    label: str
    score: float

    def __post_init__(self) -> None:
        if not (self.start < self.end < math.inf and math.isfinite(self.start + self.score)):
            raise ParameterError(f"{self} must have finite numbers, and end after its start")


@dataclass(frozen=True, eq=False)
class IntervalMetrics:
    """The metrics of detected intervals.

    Attributes
    ----------
    classes
        Class names.
    overlaps
        Temporal intersections over union from which a detection is right.
    rules
        Whose rules: ``activitynet`` or ``thumos14``.
    positives
        (classes,) int64, true intervals of each class.
    average_precision
        (overlaps, classes), 0 to 1; NaN for a class without true intervals.
    """

    classes: tuple[str, ...]
    overlaps: tuple[float, ...]
    rules: Rules
    positives: NDArray[np.int64]
    average_precision: Array

    @property
    def mean_average_precision(self) -> tuple[float, ...]:
        """Mean over the classes that have intervals, at each overlap; NaN if none has."""
        return tuple(mean_of(row) for row in self.average_precision)

    @property
    def average(self) -> float:
        """Mean over classes and overlaps."""
        return mean_of(np.array(self.mean_average_precision))

    def to_json(self) -> Json:
        """Return the metrics as JSON; NaN becomes null."""
        means = map(number, self.mean_average_precision)
        return {
            "rules": self.rules,
            "mean_average_precision": number(self.average),
            "overlaps": [
                {"overlap": overlap, "mean_average_precision": mean}
                for overlap, mean in zip(self.overlaps, means, strict=True)
            ],
            "classes": [
                {
                    "class": name,
                    "intervals": int(count),
                    "average_precision": [number(value) for value in column.tolist()],
                }
                for name, count, column in zip(
                    self.classes, self.positives.tolist(), self.average_precision.T, strict=True
                )
            ],
        }


def interval_metrics(
    truth: Mapping[str, Sequence[Interval]],
    detections: Mapping[str, Sequence[Detection]],
    classes: Sequence[str],
    overlaps: Sequence[float] = OVERLAPS,
    rules: Rules = "activitynet",
    ambiguous: Mapping[str, Sequence[Interval]] | None = None,
) -> IntervalMetrics:
    """Compare detected with true intervals.

    ``activitynet``
        In the order of their scores, each detection takes the true interval of its class that it
        overlaps most of those that are free, if the overlap reaches the threshold. The average
        precision is interpolated: at each recall it is the best precision from there on.
    ``thumos14``
        Each true interval takes the free detection that overlaps it most, if the overlap is above
        the threshold. The average precision is the mean of the precisions at the right detections,
        not interpolated.

    Parameters
    ----------
    truth
        By video, the true intervals.
    detections
        By video. A video that is not in `truth` has no true intervals.
    classes
        Class names.
    overlaps
        Intersections over union, each above 0 and up to 1.
    rules
        Whose.
    ambiguous
        By video, intervals that do not count: a detection that is not right and overlaps one, if
        ever so little, is left out, as the THUMOS'14 challenge does. (ActivityNet has none.)

    Raises
    ------
    ParameterError
        A label, an overlap or the rules are unknown.

    Examples
    --------
    >>> from flowpipe.classify.detection import Detection, interval_metrics
    >>> from flowpipe.datasets.intervals import Interval
    >>> truth = {"a": [Interval(0, 10, "run"), Interval(20, 30, "run")]}
    >>> found = {"a": [Detection(0, 8, "run", 0.9), Detection(40, 50, "run", 0.8)]}
    >>> interval_metrics(truth, found, ["run"], (0.5, 0.9)).mean_average_precision
    (0.5, 0.0)
    """
    if rules not in get_args(Rules):
        raise ParameterError(f"rules is {rules!r}; it must be one of {', '.join(get_args(Rules))}")
    for overlap in overlaps:
        check_range("overlap", overlap, 0, 1, open_low=True)
    labels = {each.label for part in truth.values() for each in part}
    unknown = labels.union(each.label for part in detections.values() for each in part)
    if unknown := unknown - set(classes):
        raise ParameterError(f"labels {sorted(unknown)} are not among the classes")
    precision = np.full((len(overlaps), len(classes)), math.nan)
    positives = np.zeros(len(classes), np.int64)
    unsure = {name: _times(part) for name, part in (ambiguous or {}).items()}
    for index, label in enumerate(classes):
        true = {
            name: [each for each in part if each.label == label] for name, part in truth.items()
        }
        found = {
            name: [each for each in part if each.label == label]
            for name, part in sorted(detections.items())
        }
        positives[index] = sum(map(len, true.values()))
        if positives[index]:
            precision[:, index] = _class_precision(
                true, found, unsure, np.array(overlaps), int(positives[index]), rules
            )
    return IntervalMetrics(tuple(classes), tuple(overlaps), rules, positives, precision)


def _class_precision(
    truth: Mapping[str, Sequence[Interval]],
    detections: Mapping[str, Sequence[Detection]],
    unsure: Mapping[str, Array],
    overlaps: Array,
    n_true: int,
    rules: Rules,
) -> Array:
    """Return the average precisions of one class at each overlap, (overlaps,)."""
    scores, hits, counted = [], [], []
    for name, found in detections.items():
        if not found:
            continue
        found = sorted(found, key=lambda each: -each.score)
        times = _times(found)
        shared = temporal_overlap(times, _times(truth.get(name, ())))
        match = _matched_by_score if rules == "activitynet" else _matched_by_truth
        right = np.array([match(shared, overlap) for overlap in overlaps])
        doubtful = (temporal_overlap(times, unsure[name]) > 0).any(1) if name in unsure else False
        scores.append([each.score for each in found])
        hits.append(right)
        counted.append(right | ~np.broadcast_to(doubtful, right.shape))
    if not scores:
        return np.zeros(len(overlaps))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit, counts = (np.concatenate(part, axis=1)[:, order] for part in (hits, counted))
    true = np.cumsum(hit, axis=1)
    precision = true / np.maximum(np.cumsum(counts, axis=1), 1)
    if rules == "activitynet":
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((precision * hit).sum(axis=1) / n_true)


def _matched_by_score(shared: Array, overlap: float) -> NDArray[np.bool_]:
    """Return which detections are right: each takes the free interval that it overlaps most."""
    right = np.zeros(len(shared), bool)
    free = shared >= overlap
    for row in np.flatnonzero(free.any(axis=1)):
        candidates = np.where(free[row], shared[row], -1.0)
        best = int(candidates.argmax())
        if candidates[best] >= 0:
            right[row] = True
            free[:, best] = False
    return right


def _matched_by_truth(shared: Array, overlap: float) -> NDArray[np.bool_]:
    """Return which detections are right: each interval takes the free one that overlaps it most."""
    right = np.zeros(len(shared), bool)
    for column in shared.T:
        candidates = np.where(right, -1.0, column)
        best = int(candidates.argmax())
        if candidates[best] > overlap:
            right[best] = True
    return right


def temporal_overlap(first: Array, second: Array) -> Array:
    """Return the intersections over union of intervals (n, 2) and (m, 2), as (n, m).

    Examples
    --------
    >>> import numpy as np
    >>> from flowpipe.classify.detection import temporal_overlap
    >>> temporal_overlap(np.array([[0.0, 10.0]]), np.array([[5.0, 15.0], [20.0, 30.0]])).round(3)
    array([[0.333, 0.   ]])
    """
    low = np.maximum(first[:, None, 0], second[None, :, 0])
    high = np.minimum(first[:, None, 1], second[None, :, 1])
    shared = np.maximum(high - low, 0)
    total = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0])[None] - shared
    return np.asarray(shared / total)


def _times(intervals: Sequence[Interval] | Sequence[Detection]) -> Array:
    return np.array([(each.start, each.end) for each in intervals], float).reshape(-1, 2)
