"""Put labels into words, for pictures."""

from __future__ import annotations

from flowpipe.prediction.base import Prediction


def captions(prediction: Prediction, count: int = 3) -> list[tuple[str, str, float]]:
    """Return the best classes for :func:`flowpipe.report.labels.draw_labels`.

    Returns
    -------
    list of (str, str, float)
        The name; the probability in percent, or the score where probabilities are not calibrated;
        and the probability as the length of the bar.
    """
    return [
        (label, f"{100 * p:.0f} %" if prediction.calibrated else f"{score:.2f}", p)
        for label, score, p in prediction.top(count)
    ]
