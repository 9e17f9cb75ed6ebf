"""How far a run is, on disk: what ``flowpipe status`` reads while it goes on and after it ended."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from flowpipe.errors import FormatError
from flowpipe.runner import atomic, json_files

State = Literal["running", "finished", "stopped"]

FOLDER = Path(".flowpipe", "progress")
"""Of an output folder, a file for each shard of its newest run."""

_TYPES: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float)}
_EVERY = 5.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run, or a shard of one, is.

    Attributes
    ----------
    state
        ``running``; ``finished``, with or without failures; ``stopped`` by an error or Ctrl-C. One
        that was killed still says ``running``, but is not :meth:`alive`.
    clips, done, skipped, failed
        Numbers of clips.
    units, unit
        What has been worked on, such as 1200 ``pairs``.
    bytes_total, bytes_left
        Sizes of the sources, of all and of those that are still to do.
    bytes_worked
        Sizes of the sources of the clips that were worked on and done.
    seconds
        Of work.
    host, pid
        Of the process.
    updated
        When this was written, UTC.
    """

    state: State
    clips: int
    done: int
    skipped: int
    failed: int
    units: int
    unit: str
    bytes_total: int
    bytes_left: int
    bytes_worked: int
    seconds: float
    host: str
    pid: int
    updated: str

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None where there is none yet."""
        if not self.bytes_worked:
            return None
        return self.seconds * self.bytes_left / self.bytes_worked

    def alive(self) -> bool:
        """Whether its process is still there, as far as can be told from this machine."""
        if self.state != "running":
            return False
        if self.host != socket.gethostname():
            return self.age() < 20 * _EVERY
        return atomic.alive(self.pid)

    def age(self) -> float:
        """Seconds since it was written, by this machine's clock."""
        then = datetime.strptime(self.updated, _TIME).replace(tzinfo=UTC)
        return (datetime.now(UTC) - then).total_seconds()


class Recorder:
    """Writes the state of a run: at its begin, every few seconds, and at its end.

    What cannot be written is left: a run does not fail for its record.

    Parameters
    ----------
    path
        The file.
    root
        The output folder.
    snapshot
        How far the run is, given what state it is in.
    clock
        Seconds from any origin.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        snapshot: Callable[[State], RunState],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._root = root
        self._snapshot = snapshot
        self._clock = clock

    def __enter__(self) -> Self:
        self._write("running")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._write("finished" if kind is None else "stopped")

    def tick(self) -> None:
        """Write, if it is time."""
        if self._clock() - self._last >= _EVERY:
            self._write("running")

    def _write(self, state: State) -> None:
        self._last = self._clock()
        data = json_files.to_json(asdict(self._snapshot(state)))
        with contextlib.suppress(OSError):
            atomic.write_atomic(self._path, data, self._root)


def now() -> str:
    """The time, as states have it."""
    return datetime.now(UTC).strftime(_TIME)


def here() -> tuple[str, int]:
    """Host and process."""
    return socket.gethostname(), os.getpid()


def read(path: Path) -> RunState:
    """Read a state.

    Raises
    ------
    FormatError
        The file does not hold one.
    """
    values = json_files.read_json(path)
    try:
        state = RunState(**values)
        state.age()
        for name, kind in RunState.__annotations__.items():
            expected = _TYPES.get(kind, str)
            if not isinstance(values[name], expected):
                raise TypeError(f"{name} is {values[name]!r}")
    except (TypeError, ValueError) as error:
        raise FormatError(f"{str(path)!r} does not hold the state of a run: {error}") from None
    return state


def states(out: Path) -> dict[str, RunState]:
    """The states of the newest runs in an output folder, by shard (``1-of-1`` for a whole run)."""
    return {path.stem: read(path) for path in sorted((out / FOLDER).glob("*-of-*.json"))}
