"""A classifier on the trajectories of the last seconds of a source.

Points are tracked from frame to frame as in training. A label is for the tracks that begin and end
in the window, whose times are fractions of the window.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.flow import solvers
from flowpipe.flow.solvers import Solver
from flowpipe.io.source import resized
from flowpipe.prediction.live.mailbox import Taken
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.ring import Ring
from flowpipe.prediction.live.window import WindowClip
from flowpipe.prediction.trajectories import TrajectoryClassifier
from flowpipe.trajectories.clip_tables import POSITIONS
from flowpipe.trajectories.extract import Extractor, set_times, to_grey

Rows = dict[str, NDArray[np.float32]]
"""By descriptor, and ``info``."""

_RUN = 2
"""Lengths of a track that a run takes: tracks end in half of its frames."""


class TrajectoryWindow:
    """Tracks of the last seconds, and the classifier that scores them.

    A :class:`~flowpipe.prediction.live.window.Window`.

    Parameters
    ----------
    classifier
        The classifier.
    live
        Options.

    Raises
    ------
    ParameterError
        An option does not apply to trajectories, or the classifier was trained on a part of each
        clip.
    """

    before = 0

    def __init__(self, classifier: TrajectoryClassifier, live: Live) -> None:
        for name, default in (("live_flow", "auto"), ("snippets", None)):
            if (value := getattr(live, name)) != default:
                raise ParameterError(
                    f"{name} is {value!r}, but {str(classifier.path)!r} was trained on "
                    f"trajectories; {name} applies to networks"
                )
        if classifier.flow is not None:
            raise ParameterError(
                f"{str(classifier.path)!r} was trained on flow from a folder; tracks of a live "
                "source follow flow that is computed with them, farneback or tvl1"
            )
        self._classifier = classifier
        self._stage = classifier.trajectories()
        parameters = self._stage.parameters
        if parameters.start_frame or parameters.end_frame is not None:
            raise ParameterError(
                f"{str(classifier.path)!r} was trained on frames {parameters.start_frame} to "
                f"{parameters.end_frame} of each clip, which a live source does not have"
            )
        self._length = parameters.track_length
        self.run, self.fewest = _RUN * self._length, self._length + 1
        self._ring: Ring[Rows | None] = Ring(live.window, self._length + 1)
        self._extractor: Extractor | None = None
        self._solver: tuple[tuple[int, int], Solver] | None = None
        self._size: tuple[int, ...] | None = None

    def add(self, taken: Taken) -> None:
        """Track the points to the next frame.

        Where frames were dropped all tracks begin again; where they change their size the window is
        emptied too.
        """
        image = taken.frame.image
        changed = self._size is not None and image.shape != self._size
        self._size = image.shape
        if changed or not taken.follows:
            self._ring.begin_run(empty=changed)
            self._extractor = None
        grey = to_grey(resized(image, self._stage.size))
        own_flow = self._stage.flow != "tvl1"
        if self._extractor is None:
            self._extractor = Extractor(grey, self._stage.parameters, own_flow=own_flow)
            self._ring.append(taken.frame, None)
            return
        flow = None if own_flow else self._tvl1(self._extractor.grey, grey)
        found = self._extractor.step(0, grey, flow=flow)
        names = ("info", *self._classifier.encoding.descriptors)
        self._ring.append(taken.frame, {name: getattr(found, name) for name in names})

    def clip(self) -> WindowClip | None:
        """Return the tracks of the last seconds; None if they are shorter than a track."""
        entries = self._ring.entries()
        return WindowClip(entries) if len(entries) > self._length else None

    def scores(self, clip: WindowClip) -> NDArray[np.float32]:
        """Return the values of the decision functions."""
        return self._classifier.scores_of(self._blocks(clip))

    def _blocks(self, clip: WindowClip) -> Iterator[tuple[Rows, NDArray[np.float32]]]:
        """Yield the tracks that lie in the window, with their places in it."""
        parts: list[Rows] = []
        for number, entry in enumerate(clip.entries):
            rows = entry.value
            if rows is not None and number >= self._length and len(rows["info"]):
                info = rows["info"].copy()
                info[:, 0] = number
                set_times(info, self._stage.parameters, len(clip.entries))
                parts.append({**rows, "info": info})
        if parts:
            rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            yield rows, rows["info"][:, POSITIONS]

    def _tvl1(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = (first.shape[0], first.shape[1])
        if self._solver is None or self._solver[0] != size:
            self._solver = size, solvers.create(self._stage.tvl1, self._stage.solver, *size)
        flow: NDArray[np.float32] = self._solver[1](first[None], second[None])[0]
        return flow
