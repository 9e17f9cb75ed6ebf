"""How well a set was classified: per split, over the splits, and over all tested clips.

Two means differ where folds differ in size, and both are given: the mean over splits, which papers
quote for UCF101 and HMDB51, with Student's interval (splits share training clips, so it is a
rough one), and the part of all tested clips that is right, with Wilson's interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score, recall_score

from flowpipe.classify.scores import Scores
from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json

LEVEL = 0.95
"""Of the confidence intervals."""


@dataclass(frozen=True)
class Interval:
    """A value and the interval of confidence around it; without one, both ends are NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class SplitMetrics:
    """Of one split.

    Attributes
    ----------
    split
        Its name.
    n_clips
        Tested.
    accuracy
        Part of the clips that is right.
    mean_class_accuracy
        Mean over the classes that have test clips.
    mean_average_precision
        The same, of the average precision of each class against the others.
    """

    split: str
    n_clips: int
    accuracy: float
    mean_class_accuracy: float
    mean_average_precision: float


@dataclass(frozen=True, eq=False)
class Metrics:
    """Of a protocol.

    Attributes
    ----------
    classes
        Class names.
    splits
        Metrics of each.
    accuracy
        Over all tested clips, with Wilson's interval.
    mean_accuracy, mean_class_accuracy, mean_average_precision
        Means over the splits, with Student's interval.
    confusion
        (classes, classes) int64, true class by predicted class, over all splits.
    class_accuracy
        (classes,) over all splits; NaN for a class that was never tested.
    average_precision
        (classes,) mean over the splits that test the class; NaN for one that was never tested.
    failed
        Number of clips that could not be used, where a recipe knows it.
    """

    classes: tuple[str, ...]
    splits: tuple[SplitMetrics, ...]
    accuracy: Interval
    mean_accuracy: Interval
    mean_class_accuracy: Interval
    mean_average_precision: Interval
    confusion: NDArray[np.int64]
    class_accuracy: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    failed: int = 0

    def to_json(self) -> Json:
        """All of it as JSON; NaN becomes null."""
        names = ("accuracy", "mean_accuracy", "mean_class_accuracy", "mean_average_precision")
        return {
            **{name: _interval_json(getattr(self, name)) for name in names},
            "confidence": LEVEL,
            "classes": [
                {"class": name, "accuracy": _number(right), "average_precision": _number(precise)}
                for name, right, precise in zip(
                    self.classes,
                    self.class_accuracy.tolist(),
                    self.average_precision.tolist(),
                    strict=True,
                )
            ],
            "splits": [
                {
                    "split": split.split,
                    "clips": split.n_clips,
                    "accuracy": split.accuracy,
                    "mean_class_accuracy": split.mean_class_accuracy,
                    "mean_average_precision": split.mean_average_precision,
                }
                for split in self.splits
            ],
            "confusion": self.confusion.tolist(),
        }


def evaluate(scores: Scores) -> Metrics:
    """Compare scores with the truth."""
    classes = range(len(scores.classes))
    splits, precisions = [], []
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for part in scores.splits:
        truth, predicted = part.labels, part.predictions
        tested = np.unique(truth)
        precision = np.full(len(classes), np.nan)
        for label in tested:
            precision[label] = average_precision_score(truth == label, part.scores[:, label])
        recall = recall_score(truth, predicted, labels=tested, average="macro")
        splits.append(
            SplitMetrics(
                part.split,
                len(truth),
                float(accuracy_score(truth, predicted)),
                float(recall),
                float(precision[tested].mean()),
            )
        )
        precisions.append(precision)
        np.add.at(confusion, (truth, predicted), 1)
    tested_ever = confusion.sum(axis=1)
    seen = tested_ever > 0
    class_accuracy = np.full(len(classes), np.nan)
    class_accuracy[seen] = confusion.diagonal()[seen] / tested_ever[seen]
    average_precision = np.full(len(classes), np.nan)
    average_precision[seen] = np.nanmean(np.array(precisions)[:, seen], axis=0)
    return Metrics(
        scores.classes,
        tuple(splits),
        wilson(int(confusion.trace()), int(confusion.sum())),
        student([split.accuracy for split in splits]),
        student([split.mean_class_accuracy for split in splits]),
        student([split.mean_average_precision for split in splits]),
        confusion,
        class_accuracy,
        average_precision,
    )


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with Wilson's interval of 95 %.

    Raises
    ------
    ParameterError
        There are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ParameterError(f"{successes} of {trials} is no proportion")
    found = stats.binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))


def student(values: list[float]) -> Interval:
    """A mean with Student's interval of 95 %; one value has none.

    The interval is cut at 0 and 1.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _interval_json(interval: Interval) -> Json:
    return {
        "value": interval.value,
        "low": _number(interval.low),
        "high": _number(interval.high),
    }
