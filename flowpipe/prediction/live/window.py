"""What a classifier is given of the last seconds of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.prediction.live.mailbox import Taken
from flowpipe.prediction.live.ring import Entry


@dataclass(frozen=True, slots=True)
class WindowClip:
    """What was extracted of the last seconds, up to one moment.

    Attributes
    ----------
    entries
        What was extracted of each frame, oldest first.
    """

    entries: list[Entry[Any]]

    @property
    def time(self) -> float:
        """Time of the newest frame, in seconds of the source."""
        return self.entries[-1].time

    @property
    def arrived(self) -> float:
        """When the newest frame arrived: ``time.monotonic()``."""
        return self.entries[-1].arrived


class Window(Protocol):
    """Extracts frames as they come, and scores what was extracted of the last seconds.

    One thread adds frames, while another scores.

    Attributes
    ----------
    run
        Consecutive frames that a snippet or a track takes.
    before
        Frames before the first of a run that the first field of flow needs.
    fewest
        Consecutive frames that a label needs.
    """

    run: int
    before: int
    fewest: int

    def add(self, taken: Taken) -> None:
        """Extract the next frame."""

    def clip(self) -> WindowClip | None:
        """Return what there is of the last seconds; None if it is too little to be scored."""

    def scores(self, clip: WindowClip) -> NDArray[np.float32]:
        """Return the (classes,) scores of what was extracted."""
