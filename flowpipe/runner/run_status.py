"""Record the progress of a run on disk, for ``flowpipe status`` during and after the run."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from flowpipe.errors import FormatError
from flowpipe.runner import atomic, json_files

State = Literal["running", "finished", "stopped"]

FOLDER = Path(".flowpipe", "progress")
"""Folder in an output folder with one file per shard of the newest run."""

_TYPES: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float)}
_EVERY = 5.0
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class RunState:
    """Progress of a run, or of one shard of it.

    Attributes
    ----------
    state
        ``running``; ``finished``, with or without failures; ``stopped`` by an error or Ctrl-C. A
        run that was killed remains ``running``, but is not :meth:`alive`.
    clips, done, skipped, failed
        Numbers of clips.
    units, unit
        Amount of work done, such as 1200 ``pairs``.
    bytes_total, bytes_left
        Size of all source files, and of those still to be processed.
    bytes_worked
        Size of the source files of the clips that this run processed.
    seconds
        Duration of the run so far.
    host, pid
        Host name and process id of the run.
    updated
        Time at which this was written, UTC.
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
        """Estimated time left in seconds at the rate so far; None if no clip is done yet."""
        if not self.bytes_worked:
            return None
        return self.seconds * self.bytes_left / self.bytes_worked

    def alive(self) -> bool:
        """Return whether the run is still active, as far as this machine can tell."""
        if self.state != "running":
            return False
        if self.host != socket.gethostname():
            return self.age() < 20 * _EVERY
        return atomic.alive(self.pid)

    def age(self) -> float:
        """Return the seconds since this was written, by the clock of this machine."""
        then = datetime.strptime(self.updated, _TIME).replace(tzinfo=UTC)
        return (datetime.now(UTC) - then).total_seconds()


class Recorder:
    """Write the progress of a run: at its start, every few seconds, and at its end.

    Errors are ignored: a run does not fail because its progress cannot be recorded.

    Parameters
    ----------
    path
        The file.
    root
        The output folder.
    snapshot
        Return the progress of the run in the given state.
    clock
        Return the time in seconds, from any origin.
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

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._write("finished" if kind is None else "stopped")

    def tick(self) -> None:
        """Write the progress if five seconds have passed."""
        if self._clock() - self._last >= _EVERY:
            self._write("running")

    def _write(self, state: State) -> None:
        self._last = self._clock()
        data = json_files.to_json(asdict(self._snapshot(state)))
        with contextlib.suppress(OSError):
            atomic.write_atomic(self._path, data, self._root)


def now() -> str:
    """Return the current time as it is recorded."""
    return datetime.now(UTC).strftime(_TIME)


def here() -> tuple[str, int]:
    """Return the host name and the process id."""
    return socket.gethostname(), os.getpid()


def read(path: Path) -> RunState:
    """Read the progress of a run.

    Raises
    ------
    FormatError
        The file is damaged.
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
        raise FormatError(f"{str(path)!r} does not hold the progress of a run: {error}") from None
    return state


def states(out: Path) -> dict[str, RunState]:
    """Return the progress of the newest run by shard (``1-of-1`` for a run without shards)."""
    return {path.stem: read(path) for path in sorted((out / FOLDER).glob("*-of-*.json"))}
