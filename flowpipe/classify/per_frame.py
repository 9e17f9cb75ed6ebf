"""Average precision of the classes of frames, as online action detection reports it.

Over all frames of all test videos at once; and the calibrated average precision of TVSeries (De
Geest et al., ECCV 2016), in which positives weigh as much as negatives, whatever their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrameMetrics:
    """The metrics of scores of frames.

    Attributes
    ----------
    classes
        Class names, without the background.
    n_frames
        Frames that count.
    positives
        (classes,) int64, frames of each class.
    average_precision, calibrated
        (classes,) average precision and calibrated average precision, 0 to 1; NaN for a class
        without frames.
    """

    classes: tuple[str, ...]
    n_frames: int
    positives: NDArray[np.int64]
    average_precision: Array
    calibrated: Array

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precisions of the classes that have frames; NaN if none has."""
        return mean_of(self.average_precision)

    @property
    def mean_calibrated(self) -> float:
        """Mean of the calibrated average precisions of the classes that have frames."""
        return mean_of(self.calibrated)

    def to_json(self) -> Json:
        """Return the metrics as JSON; NaN becomes null."""
        return {
            "mean_average_precision": number(self.mean_average_precision),
            "mean_calibrated_average_precision": number(self.mean_calibrated),
            "frames": self.n_frames,
            "classes": [
                {
                    "class": name,
                    "frames": int(count),
                    "average_precision": number(precision),
                    "calibrated_average_precision": number(calibrated),
                }
                for name, count, precision, calibrated in zip(
                    self.classes,
                    self.positives.tolist(),
                    self.average_precision.tolist(),
                    self.calibrated.tolist(),
                    strict=True,
                )
            ],
        }


def frame_metrics(
    labels: NDArray[np.bool_],
    scores: NDArray[np.floating],
    classes: Sequence[str],
    ignored: NDArray[np.bool_] | None = None,
) -> FrameMetrics:
    """Compare scores of frames with their classes.

    Equals the evaluators of TRN, OadTR and LSTR (scikit-learn's ``average_precision_score`` of each
    class over the frames of all videos at once) without their smoothing over five frames. Frames
    with equal scores count as one step, so that their order does not matter.

    Parameters
    ----------
    labels
        (frames, classes) bool, of all test videos one after another.
    scores
        (frames, classes), the higher, the surer; or (frames, classes + 1), where the last column is
        the background, which does not count.
    classes
        Class names.
    ignored
        (frames,) bool, frames that do not count, such as ambiguous ones.

    Raises
    ------
    ParameterError
        The shapes do not fit, or a score is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from flowpipe.classify.per_frame import frame_metrics
    >>> labels = np.array([[True], [False], [True], [False], [False], [False]])
    >>> scores = np.array([[0.9], [0.8], [0.7], [0.3], [0.2], [0.1]])
    >>> found = frame_metrics(labels, scores, ["run"])
    >>> found.average_precision.round(4), found.calibrated.round(4)
    (array([0.8333]), array([0.9]))
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    count = len(classes)
    if labels.dtype != np.bool_ or labels.ndim != 2 or labels.shape[1] != count:
        raise ParameterError(
            f"labels are {labels.dtype} {labels.shape}; they must be bool (frames, {count})"
        )
    if scores.shape not in (labels.shape, (len(labels), count + 1)):
        raise ParameterError(
            f"scores are {scores.shape}; they must be {labels.shape}, or have one column more for "
            "the background"
        )
    if ignored is not None and (ignored.dtype != np.bool_ or ignored.shape != labels.shape[:1]):
        raise ParameterError(
            f"ignored is {ignored.dtype} {ignored.shape}; it must be bool ({len(labels)},)"
        )
    kept = slice(None) if ignored is None else ~ignored
    precision, calibrated = np.full((2, count), math.nan)
    positives = np.zeros(count, np.int64)
    for index in range(count):
        # contiguous: what follows reads them several times
        truth = np.ascontiguousarray(labels[:, index][kept])
        column = np.ascontiguousarray(scores[:, index][kept])
        if not np.isfinite(column).all():
            raise ParameterError(f"scores of {classes[index]!r} must be finite numbers")
        positives[index] = truth.sum()
        precision[index], calibrated[index] = _frame_precision(truth, column)
    n_frames = len(labels) if ignored is None else int((~ignored).sum())
    return FrameMetrics(tuple(classes), n_frames, positives, precision, calibrated)


def _frame_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> tuple[float, float]:
    """Return the average precision of one class, and the calibrated one.

    Precision changes the average only where positives are found: two sorts and one search take the
    place of a sort of all frames with their labels.
    """
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    if not len(positive):
        return math.nan, math.nan
    steps, first, count = np.unique(positive, return_index=True, return_counts=True)
    true = len(positive) - first
    false = len(negative) - np.searchsorted(negative, steps, side="left")
    weight = len(negative) / len(positive)
    share = count / len(positive)
    # without negatives all precisions are 1, whatever the weight
    calibrated = weight * true / (weight * true + false) if weight else np.ones(len(steps))
    return float(share @ (true / (true + false))), float(share @ calibrated)


def mean_of(values: Array) -> float:
    """Return the mean of the values that are not NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def number(value: float) -> float | None:
    """Return a value for JSON, None for NaN."""
    return None if math.isnan(value) else value
