"""Hand frames from the thread that decodes to the thread that extracts, dropping, not queueing.

What networks and trackers see must be like what they were trained on: flow of neighbouring frames,
stacks of consecutive fields, tracks through consecutive frames. A mailbox that only held the newest
frame would leave none of these as soon as a frame is dropped. So frames are handed over in runs of
consecutive frames, as many as a snippet or a track takes. While a run is incomplete, the next
frames are kept for it. Between runs, what has come in the meantime is dropped, unless it is little:
the next run begins with the newest frames. A mailbox never holds more than a run and a few frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Condition

from flowpipe.io.stream import StreamFrame

_SLACK = 2
"""Frames that may wait between two runs without being dropped: work takes longer now and then."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame, and whether it directly follows the one that was taken before."""

    frame: StreamFrame
    follows: bool


class Mailbox:
    """Frames of a source, taken in runs of consecutive ones.

    Parameters
    ----------
    run
        Frames of a run.
    before
        Frames before the first of a run that its field of flow needs.
    drops
        Whether frames are dropped; otherwise :meth:`put` waits.

    Attributes
    ----------
    received, used, dropped
        Numbers of frames so far.
    ended
        Whether no more frames come.
    """

    def __init__(self, run: int, before: int = 0, *, drops: bool = True) -> None:
        self.received = self.used = self.dropped = 0
        self._run, self._before, self._drops = run, before, drops
        self._waiting: deque[tuple[int, StreamFrame]] = deque()
        self._recent: deque[tuple[int, StreamFrame]] = deque(maxlen=before + 1 + _SLACK)
        self._room = run + before
        self._last = -1
        self.ended = self._closed = False
        self._changed = Condition()

    def __len__(self) -> int:
        """Return the number of frames that are held."""
        with self._changed:
            numbers = {number for number, _ in (*self._waiting, *self._recent)}
            return len(numbers)

    def put(self, frame: StreamFrame) -> None:
        """Add the next frame of the source."""
        with self._changed:
            numbered = (self.received, frame)
            self.received += 1
            if self._drops:
                self._recent.append(numbered)
            else:
                self._changed.wait_for(lambda: self._closed or not self._waiting)
            if self._room or not self._drops:
                self._waiting.append(numbered)
                self._room -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more frames come; those that wait can still be taken."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer, and give out no more frames."""
        with self._changed:
            self.ended = self._closed = True
            self._changed.notify_all()

    def take(self) -> Taken | None:
        """Wait for the next frame of a run; None once there are no more."""
        with self._changed:
            self._changed.wait_for(self._is_ready)
            if self._closed or not (self._waiting or self._newer()):
                return None
            if not self._waiting:
                self._begin_run()
            number, frame = self._waiting.popleft()
            follows = number == self._last + 1 and frame.follows
            self.dropped += number - self._last - 1
            self.used += 1
            self._last = number
            self._changed.notify_all()
            return Taken(frame, follows)

    def _is_ready(self) -> bool:
        return bool(self._waiting or self.ended or self._newer())

    def _newer(self) -> bool:
        return bool(self._recent) and self._recent[-1][0] > self._last

    def _begin_run(self) -> None:
        newer = [each for each in self._recent if each[0] > self._last]
        if newer[0][0] > self._last + 1:  # frames are lost: begin with the newest
            newer = newer[-self._before - 1 :]
            self._room = self._run + self._before
        else:
            self._room = self._run
        self._waiting.extend(newer)
        self._room = max(self._room - len(newer), 0)
