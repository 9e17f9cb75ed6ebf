"""Metrics of a classification: per split, over the splits, and over all test clips.

Two means differ where folds differ in size, and both are given: the mean over splits, which papers
quote for UCF101 and HMDB51, with Student's interval (a rough one, since splits share training
clips), and the accuracy over all test clips, with Wilson's interval.
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
"""Confidence level of the intervals."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; where there is none, both ends are NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class SplitMetrics:
    """The metrics of one split.

    Attributes
    ----------
    split
        Name of the split.
    n_clips
        Number of test clips.
    accuracy
        Fraction of the clips that are classified correctly.
    mean_class_accuracy
        Mean of the accuracies of the classes that have test clips.
    mean_average_precision
        Mean of their average precisions, each class against all others.
    """

    split: str
    n_clips: int
    accuracy: float
    mean_class_accuracy: float
    mean_average_precision: float


@dataclass(frozen=True, eq=False)
class Metrics:
    """The metrics of a protocol.

    Attributes
    ----------
    classes
        Class names.
    splits
        Metrics of each split.
    accuracy
        Accuracy over all test clips, with Wilson's interval.
    mean_accuracy, mean_class_accuracy, mean_average_precision
        Means over the splits, with Student's interval.
    confusion
        (classes, classes) int64, true class by predicted class, over all splits.
    class_accuracy
        (classes,) accuracy over all splits; NaN for a class without test clips.
    average_precision
        (classes,) mean over the splits that test the class; NaN for a class without test clips.
    failed
        Number of clips that could not be used, where a pipeline counts them.

    Examples
    --------
    >>> import flowpipe
    >>> import numpy as np
    >>> from flowpipe.classify.metrics import evaluate
    >>> from flowpipe.classify.scores import Scores, SplitScores
    >>> scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32)
    >>> split = SplitScores("split1", ("a", "b", "c", "d"), np.array([0, 0, 1, 1]), scores)
    >>> metrics = evaluate(Scores(("run", "walk"), (split,)))
    >>> metrics.accuracy.value
    0.75
    >>> metrics.confusion
    array([[2, 0],
           [1, 1]])
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
        """Return the metrics as JSON; NaN becomes null."""
        names = ("accuracy", "mean_accuracy", "mean_class_accuracy", "mean_average_precision")
        return {
            **{name: interval_json(getattr(self, name)) for name in names},
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
    """Compare scores with the true classes."""
    classes = range(len(scores.classes))
    splits, precisions = [], []
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    for split in scores.splits:
        truth, predicted = split.labels, split.predictions
        tested = split.tested
        precision = np.full(len(classes), np.nan)
        for label in tested:
            precision[label] = average_precision_score(truth == label, split.scores[:, label])
        recall = recall_score(truth, predicted, labels=tested, average="macro")
        splits.append(
            SplitMetrics(
                split.split,
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
        student([each.accuracy for each in splits]),
        student([each.mean_class_accuracy for each in splits]),
        student([each.mean_average_precision for each in splits]),
        confusion,
        class_accuracy,
        average_precision,
    )


@dataclass(frozen=True)
class Mistake:
    """A misclassified clip.

    Attributes
    ----------
    name, split
        Name of the clip, and of the split that tested it.
    truth, predicted
        Class names.
    margin
        Score of the predicted class minus that of the true one.
    """

    name: str
    split: str
    truth: str
    predicted: str
    margin: float


def mistakes(scores: Scores) -> list[Mistake]:
    """Return the misclassified clips, with the largest margin first."""
    classes = scores.classes
    found = [
        Mistake(name, split.split, classes[true], classes[predicted], float(margin))
        for split in scores.splits
        for name, true, predicted, margin in zip(
            split.names,
            split.labels,
            split.predictions,
            split.scores.max(axis=1) - split.true_scores,
            strict=True,
        )
        if true != predicted
    ]
    return sorted(found, key=lambda mistake: -mistake.margin)


def wilson(successes: int, trials: int) -> Interval:
    """Return a proportion with Wilson's interval of 95 %.

    Raises
    ------
    ParameterError
        There are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ParameterError(f"{successes} of {trials} is no proportion")
    interval = stats.binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


def student(values: list[float]) -> Interval:
    """Return a mean with Student's interval of 95 %, clipped to 0..1; one value has none."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, max(0.0, mean - reach), min(1.0, mean + reach))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def interval_json(interval: Interval) -> Json:
    """Return an interval as JSON; NaN becomes null."""
    return {
        "value": interval.value,
        "low": _number(interval.low),
        "high": _number(interval.high),
    }
