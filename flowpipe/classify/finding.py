"""Find intervals in the scores of steps, while the steps come.

The sliding threshold of temporal action detection by frame scores: for every class and every
threshold, the longest runs of steps whose score reaches it are candidates. A candidate's score is
the mean of its steps less the mean of those on both sides of it, a quarter of its length each: a
run within a longer action scores low, however sure its steps are. Of candidates of a class that
overlap, those with the largest score are kept (non-maximum suppression).

Runs at a higher threshold lie inside those at a lower one, so that all candidates that can overlap
are known once the run at the lowest threshold is over. They are scored and given out then, by the
steps that have come until then: the steps of a whole video give the same intervals.
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

_MARGIN = 0.25
"""Length of what a run is compared with, on each side, as a fraction of the run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How intervals are found in the scores of steps."""

    threshold: Annotated[tuple[float, ...], arg(metavar="P [P ...]")] = (0.5,)
    """Probabilities that the steps of an interval have at least. With several, there are intervals
    at each, of which overlapping ones are suppressed."""
    nms: Annotated[float, arg(metavar="OVERLAP")] = 0.4
    """Largest overlap, intersection over union, of two intervals of a class that are both kept:
    that with the larger score suppresses the other."""

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
class _Class:
    """First steps of the open runs of a class by threshold, and the runs that are over."""

    open: dict[float, int] = field(default_factory=dict)
    over: set[tuple[int, int]] = field(default_factory=set)


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
    [[], [], [Detection(start=0.5, end=1.0, label='run', score=0.6)]]
    >>> finder.finish(1.5)
    []
    """

    def __init__(self, classes: Sequence[str], finding: Finding) -> None:
        self._classes, self._nms = classes, finding.nms
        self._thresholds = sorted(set(finding.threshold))
        self._states = [_Class() for _ in classes]
        self._times: list[float] = []
        self._scores: list[list[float]] = [[] for _ in classes]

    def add(self, time: float, scores: Sequence[float] | NDArray[np.floating]) -> list[Detection]:
        """Add a step, and return the intervals that are over with it.

        Parameters
        ----------
        time
            When it becomes the present, in seconds; the step before ends then.
        scores
            (classes,) probabilities.
        """
        self._times.append(time)
        found: list[Detection] = []
        for number, score in enumerate(np.asarray(scores, np.float64).tolist()):
            self._scores[number].append(score)
            found += self._advance(number, score)
        return found

    def finish(self, time: float) -> list[Detection]:
        """Return the intervals that last until the end of the video, in seconds."""
        self._times.append(time)
        return [each for number in range(len(self._classes)) for each in self._advance(number, -1)]

    def _advance(self, number: int, score: float) -> list[Detection]:
        """Open and close the runs of a class at the newest step."""
        state, now = self._states[number], len(self._times) - 1
        for threshold in self._thresholds:
            if score >= threshold:
                state.open.setdefault(threshold, now)
            elif (first := state.open.pop(threshold, None)) is not None:
                state.over.add((first, now))
        if state.open or not state.over:
            return []
        candidates = []
        for first, stop in sorted(state.over):
            start, end = self._times[first], self._times[stop]
            if start < end and (value := _contrast(self._scores[number], first, stop)) > 0:
                candidates.append((start, end, value))
        state.over = set()
        label = self._classes[number]
        return [Detection(*each[:2], label, each[2]) for each in suppressed(candidates, self._nms)]


def _contrast(scores: Sequence[float], first: int, stop: int) -> float:
    """Return the mean of steps less that of their neighbours, as far as these have come."""
    side = max(round(_MARGIN * (stop - first)), 1)
    around = [*scores[max(first - side, 0) : first], *scores[stop : stop + side]]
    inside = sum(scores[first:stop]) / (stop - first)
    return inside - (sum(around) / len(around) if around else 0.0)


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
