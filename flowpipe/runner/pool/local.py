"""Worker processes on this machine: each of one thread, each with one clip at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from flowpipe.runner.pool.results import Advance, Fatal, Lost, Outcome, Work, attempt

_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A worker has taken up its clip: from here on the clip's time is counted."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    clip: Any = None
    deadline: float | None = None


class Crew:
    """Worker processes, started as they are needed and replaced when they die.

    Parameters
    ----------
    work
        What they do.
    size
        At most so many.
    timeout
        Seconds for a clip; None for no limit.
    advance
        Told of the units done.
    """

    def __init__(self, work: Work[Any], size: int, timeout: float | None, advance: Advance) -> None:
        self._work = pickle.dumps(work)
        self._size = size
        self._timeout = timeout
        self._advance = advance
        self._workers: list[_Worker] = []

    def room(self) -> int:
        """How many clips can be given out now."""
        return self._size - sum(worker.clip is not None for worker in self._workers)

    def give(self, clip: Any) -> None:
        """Have a free worker take a clip, or a new one."""
        worker = next((worker for worker in self._workers if worker.clip is None), None)
        if worker is None:
            worker = _start(self._work)
            self._workers.append(worker)
        worker.clip = clip
        # One that died idle is found dead by take().
        with contextlib.suppress(OSError):
            worker.connection.send(clip)

    def take(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for a message, a death, or the end of a clip's time."""
        deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = wait([worker.connection for worker in self._workers], patience)
        ended: list[tuple[Any, Outcome[Any] | Fatal | Lost]] = []
        for worker in [one for one in self._workers if one.connection in ready]:
            clip = worker.clip
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._dismiss(worker)
                if clip is not None:
                    ended.append((clip, Lost(_how_it_died(worker))))
                continue
            if isinstance(message, _Begun):
                if self._timeout is not None:
                    worker.deadline = time.monotonic() + self._timeout
            elif isinstance(message, int):
                self._advance(message)
            else:
                worker.clip = worker.deadline = None
                ended.append((clip, message))
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.deadline is not None and worker.deadline <= now:
                worker.process.kill()
                self._dismiss(worker)
                told = f"took longer than the {self._timeout:g} s that --timeout allows a clip"
                ended.append((worker.clip, Outcome(worker.clip, "failed", "timeout", told)))
        return ended

    def close(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)


def _how_it_died(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    if code >= 0:
        how = f"exited with status {code}"
    else:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        how = f"was ended by {name}"
        if name == "SIGKILL":
            how += " (out of memory?)"
    return f"the worker process {how}"


def _start(work: bytes) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # The tracker lifts the block on Ctrl-C when it starts, so it starts before.
    resource_tracker.ensure_running()
    # The libraries read these when they are imported, before any code of ours runs there.
    with _interrupts_blocked(), one_thread():
        process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C, which reaches the whole group, from the children that are started in here.

    They inherit the block for good; the parent decides, and ends its workers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have the libraries of processes that are started in here use one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, pickled: bytes) -> None:
    """The life of a worker process."""
    _end_with_parent()
    work: Work[Any] = pickle.loads(pickled)
    advance = _Batched(connection.send)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            clip = connection.recv()
            connection.send(_Begun())
            result = attempt(work, clip, advance)
            advance.flush()
            connection.send(result)


class _Batched:
    """Passes counts on a few times a second at most."""

    def __init__(self, send: Advance) -> None:
        self._send = send
        self._count = 0
        self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        self._count += count
        if time.monotonic() - self._last > 0.2:
            self.flush()

    def flush(self) -> None:
        if self._count:
            self._send(self._count)
        self._count = 0
        self._last = time.monotonic()


def _end_with_parent() -> None:
    """Exit at once when the parent is gone, in the middle of a clip too."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
