"""Scores of frames to intervals: candidates, their scores, and non-maximum suppression.

Candidates of a class are the runs of frames whose score reaches a threshold, for several
thresholds, and sliding windows of several lengths. A candidate's score is the mean inside less the
mean on both sides of it: a window within a longer action, or around a short one, scores low. Of
candidates that overlap much, non-maximum suppression keeps the one that scores most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.detection import Detection, temporal_overlap
from flowpipe.errors import ParameterError, check_range

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class IntervalSearch:
    """Hold how intervals are found in the scores of frames."""

    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Scores of 0 to 1 from which frames belong to a run."""
    windows: tuple[float, ...] = ()
    """Lengths of sliding windows in seconds; they move by a quarter of their length."""
    margin: float = 0.25
    """Length of what is compared on each side, as a fraction of the interval."""
    overlap: float = 0.4
    """Intersection over union above which the lower of two intervals is left out, 0 to 1."""
    min_score: float = 0.05
    """Intervals that score less are left out; scores are -1 to 1."""
    max_intervals: int = 200
    """Most intervals of a class in a video, the best."""

    def __post_init__(self) -> None:
        for threshold in self.thresholds:
            check_range("thresholds", threshold, 0, 1, open_low=True)
        for window in self.windows:
            check_range("windows", window, 0, 1e6, open_low=True)
        check_range("margin", self.margin, 0, 10, open_low=True)
        check_range("overlap", self.overlap, 0, 1)
        check_range("min_score", self.min_score, -1, 1)
        check_range("max_intervals", self.max_intervals, 1)
        if not self.thresholds and not self.windows:
            raise ParameterError("thresholds and windows are empty; one of them must have values")


def find_intervals(
    scores: NDArray[np.floating],
    classes: Sequence[str],
    frame_rate: float,
    parameters: IntervalSearch | None = None,
) -> tuple[Detection, ...]:
    """Find intervals in the scores of the frames of one video.

    Parameters
    ----------
    scores
        (frames, classes) probabilities, 0 to 1; or (frames, classes + 1), where the last column is
        the background, which is not searched.
    classes
        Class names.
    frame_rate
        Frames, or feature vectors, per second.
    parameters
        By default ``IntervalSearch()``.

    Returns
    -------
    tuple of Detection
        The best first. Frame t is taken to last from ``t / frame_rate`` to
        ``(t + 1) / frame_rate``, as by :func:`flowpipe.datasets.intervals.frame_labels`.

    Raises
    ------
    ParameterError
        The shape does not fit, or a score is not a number of 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from flowpipe.classify.nms import find_intervals
    >>> scores = np.array([[0.0], [0.0], [0.75], [0.75], [0.0], [0.0]])
    >>> find_intervals(scores, ["run"], frame_rate=2.0)
    (Detection(start=1.0, end=2.0, label='run', score=0.75),)
    """
    parameters = parameters or IntervalSearch()
    check_range("frame_rate", frame_rate, 0, 1e9, open_low=True)
    frames: Array = np.asarray(scores, np.float64)
    if frames.ndim != 2 or frames.shape[1] - len(classes) not in (0, 1):
        raise ParameterError(
            f"scores are {frames.shape}; they must be (frames, {len(classes)}), or have one column "
            "more for the background"
        )
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
        raise ParameterError("scores must be probabilities, from 0 to 1")
    found: list[Detection] = []
    for index, label in enumerate(classes):
        column = frames[:, index]
        candidates = _candidates(column, frame_rate, parameters)
        values = _contrast(column, candidates, parameters.margin)
        sure = values >= parameters.min_score
        candidates, values = candidates[sure], values[sure]
        kept = temporal_nms(
            candidates / frame_rate, values, parameters.overlap, parameters.max_intervals
        )
        for number in kept.tolist():
            start, end = (candidates[number] / frame_rate).tolist()
            found.append(Detection(start, end, label, float(values[number])))
    return tuple(sorted(found, key=lambda each: -each.score))


def temporal_nms(
    intervals: Array, scores: Array, overlap: float, most: int | None = None
) -> NDArray[np.int64]:
    """Return which intervals are left by non-maximum suppression, the best first.

    An interval is left out if its intersection over union with one that is kept and scores more is
    above `overlap`.

    Parameters
    ----------
    intervals
        (n, 2) starts and ends, each end after its start.
    scores
        (n,); of equal ones the first counts as the better.
    overlap
        0 to 1.
    most
        Keep no more than this, the best; by default all.

    Examples
    --------
    >>> import numpy as np
    >>> from flowpipe.classify.nms import temporal_nms
    >>> intervals = np.array([[0.0, 10.0], [1.0, 11.0], [20.0, 30.0]])
    >>> temporal_nms(intervals, np.array([0.8, 0.9, 0.1]), 0.5)
    array([1, 2])
    """
    check_range("overlap", overlap, 0, 1)
    intervals, scores = np.asarray(intervals, float), np.asarray(scores, float)
    if intervals.shape != (len(scores), 2) or scores.ndim != 1:
        raise ParameterError(
            f"intervals are {intervals.shape} and scores {scores.shape}; they must be (n, 2) and "
            "(n,)"
        )
    if not (np.isfinite(intervals).all() and (intervals[:, 0] < intervals[:, 1]).all()):
        raise ParameterError("intervals must be finite, and end after their start")
    left = np.argsort(-scores, kind="stable")
    kept: list[np.int64] = []
    while len(left) and len(kept) != most:
        best, left = left[0], left[1:]
        kept.append(best)
        shared = temporal_overlap(intervals[best : best + 1], intervals[left])[0]
        left = left[shared <= overlap]
    return np.array(kept, np.int64)


def _candidates(scores: Array, frame_rate: float, parameters: IntervalSearch) -> NDArray[np.int64]:
    """Return different runs and windows as frames (n, 2), the end being the one after the last."""
    parts = [np.zeros((0, 2), np.int64)]
    for threshold in parameters.thresholds:
        inside = np.concatenate([[False], scores >= threshold, [False]])
        parts.append(np.flatnonzero(inside[1:] != inside[:-1]).reshape(-1, 2))
    for seconds in parameters.windows:
        length = max(round(seconds * frame_rate), 1)
        starts = np.arange(0, len(scores) - length + 1, max(length // 4, 1))
        parts.append(np.stack([starts, starts + length], axis=1))
    return np.unique(np.concatenate(parts), axis=0)


def _contrast(scores: Array, candidates: NDArray[np.int64], margin: float) -> Array:
    """Return the mean score inside each candidate less the mean on both sides, -1 to 1.

    Beyond the ends of the video scores are 0.
    """
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    start, end = candidates.T
    sides = np.maximum(np.rint((end - start) * margin).astype(np.int64), 1)
    low, high = np.maximum(start - sides, 0), np.minimum(end + sides, len(scores))
    inside = (sums[end] - sums[start]) / (end - start)
    outside = (sums[start] - sums[low] + sums[high] - sums[end]) / (2 * sides)
    return np.asarray(inside - outside)
