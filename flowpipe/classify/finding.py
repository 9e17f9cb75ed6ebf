"""Find intervals in the scores of steps, while the steps come.

The sliding threshold of temporal action detection by frame scores: for every class and every
threshold, the longest runs of steps whose score reaches it are candidates, with their mean score.
Of candidates of a class that overlap, those with the largest score are kept (non-maximum
suppression). Runs at a higher threshold lie inside those at a lower one, so that all candidates
that can overlap are known once the run at the lowest threshold is over: intervals are given out
then, and are those that the scores of the whole video give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from flowpipe.classify.detection import Detection
from flowpipe.classify.nms import temporal_nms
from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class Finding:
    """How intervals are found in the scores of steps."""

    threshold: Annotated[tuple[float, ...], arg(metavar="P [P ...]")] = (0.5,)
    """Probabilities that the steps of an interval have at least. With several, there are intervals
    at each, of which overlapping ones are suppressed."""
    nms: Annotated[float, arg(metavar="OVERLAP")] = 0.4
    """Largest overlap, intersection over union, of two intervals of a class that are both kept:
    that with the larger mean probability suppresses the other."""

    def __post_init__(self) -> None:
        if not self.threshold or not all(0 < each < 1 for each in self.threshold):
            raise ParameterError(
                f"threshold is {self.threshold}; it must be probabilities, more than 0 and less "
                "than 1"
            )
        if not 0 <= self.nms <= 1:
            raise ParameterError(f"nms is {self.nms}; it must be an overlap, 0 to 1")


def sliding() -> Finding:
    """Return thresholds of 0.1, 0.2, ..., 0.9, for mean average precision."""
    return Finding(threshold=tuple(round(0.1 * number, 1) for number in range(1, 10)))


@dataclass
class _Run:
    """Steps whose score reaches a threshold."""

    start: float
    total: float = 0.0
    steps: int = 0


@dataclass
class _Class:
    """Open runs of a class by threshold, and candidates that may still be suppressed."""

    open: dict[float, _Run] = field(default_factory=dict)
    over: list[tuple[float, float, float]] = field(default_factory=list)


class IntervalFinder:
    """Find intervals in scores that come step by step.

    Parameters
    ----------
    classes
        Class names.
    finding
        Thresholds and suppression.

    Examples
    --------
    >>> finder = IntervalFinder(("run",), Finding(threshold=(0.5,)))
    >>> [finder.add(time, [score]) for time, score in ((0.0, 0.1), (0.5, 0.75), (1.0, 0.2))]
    [[], [], [Detection(start=0.5, end=1.0, label='run', score=0.75)]]
    >>> finder.finish(1.5)
    []
    """

    def __init__(self, classes: Sequence[str], finding: Finding) -> None:
        self._classes, self._nms = classes, finding.nms
        self._thresholds = sorted(set(finding.threshold))
        self._states = [_Class() for _ in classes]

    def add(self, time: float, scores: Sequence[float] | NDArray[np.floating]) -> list[Detection]:
        """Add a step, and return the intervals that are over with it.

        Parameters
        ----------
        time
            When it becomes the present, in seconds; the step before ends then.
        scores
            (classes,) probabilities.
        """
        found: list[Detection] = []
        for label, state, score in zip(self._classes, self._states, scores, strict=True):
            found += self._advance(label, state, time, float(score))
        return found

    def finish(self, time: float) -> list[Detection]:
        """Return the intervals that last until the end of the video, in seconds."""
        found: list[Detection] = []
        for label, state in zip(self._classes, self._states, strict=True):
            found += self._advance(label, state, time, -1.0)
        return found

    def _advance(self, label: str, state: _Class, time: float, score: float) -> list[Detection]:
        for threshold in self._thresholds:
            run = state.open.get(threshold)
            if score >= threshold:
                run = state.open.setdefault(threshold, _Run(time))
                run.total, run.steps = run.total + score, run.steps + 1
            elif run is not None:
                del state.open[threshold]
                if time > run.start:
                    state.over.append((run.start, time, run.total / run.steps))
        if state.open or not state.over:
            return []
        kept = suppressed(state.over, self._nms)
        state.over = []
        return [Detection(start, end, label, mean) for start, end, mean in kept]


def suppressed(
    candidates: Sequence[tuple[float, float, float]], most: float
) -> list[tuple[float, float, float]]:
    """Return (start, end, score) without those that overlap a better one more than `most`.

    In the order of their starts. Of equal scores, the longer interval is the better one.
    """
    ordered = sorted(candidates, key=lambda each: each[0] - each[1])
    table = np.array(ordered, np.float64).reshape(-1, 3)
    return sorted(ordered[row] for row in temporal_nms(table[:, :2], table[:, 2], most))


def find_intervals(
    times: NDArray[np.float64],
    scores: NDArray[np.floating],
    classes: Sequence[str],
    finding: Finding,
) -> list[Detection]:
    """Return the intervals of a video.

    Parameters
    ----------
    times
        (T, 2) seconds at which each step begins and ends to be the newest.
    scores
        (T, classes) probabilities.
    classes, finding
        As for :class:`IntervalFinder`.
    """
    finder = IntervalFinder(classes, finding)
    found: list[Detection] = []
    for (start, _), row in zip(times, scores, strict=True):
        found += finder.add(float(start), row)
    return found + (finder.finish(float(times[-1, 1])) if len(times) else [])
