"""What was extracted of the last seconds of a source."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from flowpipe.io.stream import StreamFrame

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What was extracted of one frame.

    Attributes
    ----------
    time, arrived
        Of the frame.
    run
        Entries of the same run are of consecutive frames.
    value
        What was extracted.
    """

    time: float
    arrived: float
    run: int
    value: T


class Ring(Generic[T]):
    """Entries of the last seconds; filled by one thread and read by another.

    Parameters
    ----------
    seconds
        Older entries are dropped.
    least
        So many are kept, however old they are.
    """

    def __init__(self, seconds: float, least: int) -> None:
        self._seconds, self._least = seconds, least
        self._entries: deque[Entry[T]] = deque()
        self._run = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, frame: StreamFrame, value: T) -> None:
        """Add what was extracted of a frame."""
        with self._lock:
            self._entries.append(Entry(frame.time, frame.arrived, self._run, value))
            oldest = frame.time - self._seconds
            while len(self._entries) > self._least and self._entries[0].time <= oldest:
                self._entries.popleft()

    def begin_run(self, *, empty: bool = False) -> None:
        """Begin another run; the entries so far are dropped if `empty`."""
        with self._lock:
            self._run += 1
            if empty:
                self._entries.clear()

    def entries(self) -> list[Entry[T]]:
        """Return the entries, oldest first."""
        with self._lock:
            return list(self._entries)


def whole(entries: list[Entry[T]], length: int) -> list[int]:
    """Return the indices at which `length` entries of consecutive frames begin."""
    return [
        first
        for first in range(len(entries) - length + 1)
        if entries[first].run == entries[first + length - 1].run
    ]
