"""Calibrate probabilities: the softmax of scores that are divided by one number, the temperature.

C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017:
the temperature minimises the cross entropy of held-out clips. It changes no label and no order of
classes. The targets are those of J. Platt, "Probabilistic Outputs for Support Vector Machines",
1999, for several classes: where every held-out clip is right, probabilities stay below 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import minimize_scalar

from flowpipe.classify.scores import Scores

_LOG_RANGE = 12.0
"""The temperature is searched from e^-12 to e^12 times the spread of the scores."""


def temperature(scores: Scores) -> float:
    """Return the temperature of scores of held-out clips.

    Parameters
    ----------
    scores
        Scores of all splits. Each clip was scored by a classifier that was not trained on it.

    Returns
    -------
    float
        More than 0. ``softmax(scores / temperature)`` are calibrated probabilities.

    Notes
    -----
    Classes without a held-out clip are left out of the softmax, since nothing is known of them.

    Examples
    --------
    >>> from flowpipe.classify.calibration import temperature
    >>> from flowpipe.classify.scores import Scores, SplitScores
    >>> import numpy as np
    >>> table = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    >>> labels = np.array([0, 0, 1, 1])  # the last clip is wrong
    >>> held_out = Scores(("a", "b"), (SplitScores("1", tuple("wxyz"), labels, table),))
    >>> probability = 1 / (1 + np.exp(-2 / temperature(held_out)))
    >>> round(float(probability), 2)  # near 3 of 4
    0.67
    """
    table = np.concatenate([split.scores for split in scores.splits]).astype(np.float64)
    true = np.concatenate([split.true_scores for split in scores.splits]).astype(np.float64)
    table = table[:, np.unique(np.concatenate([split.tested for split in scores.splits]))]
    count, classes = table.shape
    spread = float(np.ptp(table, axis=1).mean())
    if classes < 2 or spread == 0:
        return 1.0
    # Platt's targets, (count + 1) / (count + classes) for the true class and 1 / (count + classes)
    # for the others, times the scores.
    expected = (table.sum(axis=1) + count * true).mean() / (count + classes)

    def cross_entropy(logarithm: float) -> float:
        heat = spread * np.exp(logarithm)
        return float(special.logsumexp(table / heat, axis=1).mean() - expected / heat)

    # The cross entropy is convex in the inverse of the temperature, so it has one minimum.
    best = minimize_scalar(cross_entropy, bounds=(-_LOG_RANGE, _LOG_RANGE), method="bounded")
    return float(spread * np.exp(best.x))


def probabilities(
    scores: NDArray[np.floating], present: NDArray[np.bool_], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return the softmax of the scores of a clip.

    Parameters
    ----------
    scores
        (classes,) scores.
    present
        (classes,) bool: classes with training clips; the others have probability 0.
    temperature
        Of :func:`temperature`; 1 if the scores are not calibrated.

    Returns
    -------
    (classes,) float64
        At least 0; their sum is 1.
    """
    found = np.zeros(len(scores))
    found[present] = special.softmax(scores[present].astype(np.float64) / temperature)
    return found
