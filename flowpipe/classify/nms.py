"""Non-maximum suppression of intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.detection import temporal_overlap
from flowpipe.errors import ParameterError, check_range

Array = NDArray[np.float64]


def temporal_nms(intervals: Array, scores: Array, overlap: float) -> NDArray[np.int64]:
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
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        shared = temporal_overlap(intervals[best : best + 1], intervals[left])[0]
        left = left[shared <= overlap]
    return np.array(kept, np.int64)
