"""Worker processes on this machine, each with one thread and one clip at a time.

A pool of our own, because the ones at hand lack what a run of days needs. ``concurrent.futures``
and loky declare the whole pool broken when one worker dies. pebble replaces workers and has time
limits, but a running task cannot report progress, and workers survive a parent that is killed (seen
with pebble 5.2).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
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
class _Started:
    """Message of a worker that starts its clip: the time limit counts from here."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    clip: Any = None
    deadline: float | None = None


class LocalPool:
    """Start worker processes as they are needed, and replace those that die.

    Parameters
    ----------
    work
        The function for one clip.
    size
        Largest number of processes.
    timeout
        Time limit per clip in seconds; None for no limit.
    advance
        Called with the number of units processed.
    """

    def __init__(self, work: Work[Any], size: int, timeout: float | None, advance: Advance) -> None:
        self._work = pickle.dumps(work)
        self._size = size
        self._timeout = timeout
        self._advance = advance
        self._workers: list[_Worker] = []

    def free_slots(self) -> int:
        """Return how many clips can be submitted now."""
        return self._size - sum(worker.clip is not None for worker in self._workers)

    def submit(self, clip: Any) -> None:
        """Send a clip to a free worker, or to a new one."""
        worker = next((worker for worker in self._workers if worker.clip is None), None)
        if worker is None:
            worker = _Worker(*start_process(_serve, self._work))
            self._workers.append(worker)
        worker.clip = clip
        # A worker that died while it was idle is noticed by wait().
        with contextlib.suppress(OSError):
            worker.connection.send(clip)

    def wait(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for a message, the death of a worker, or a time limit."""
        deadlines = [worker.deadline for worker in self._workers if worker.deadline is not None]
        limit = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = wait([worker.connection for worker in self._workers], limit)
        ended: list[tuple[Any, Outcome[Any] | Fatal | Lost]] = []
        for worker in [each for each in self._workers if each.connection in ready]:
            clip = worker.clip
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._remove(worker)
                if clip is not None:
                    ended.append((clip, Lost(death(worker.process))))
                continue
            if isinstance(message, _Started):
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
                self._remove(worker)
                reason = f"took longer than the {self._timeout:g} s of --timeout"
                ended.append((worker.clip, Outcome(worker.clip, "failed", "timeout", reason)))
        return ended

    def close(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._remove(worker)

    def _remove(self, worker: _Worker) -> None:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)


def death(process: BaseProcess) -> str:
    """Return how a process that has ended did so."""
    code = process.exitcode or 0
    if code >= 0:
        how = f"exited with status {code}"
    else:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        how = f"was killed by {name}"
        if name == "SIGKILL":
            how += " (out of memory?)"
    return f"the worker process {how}"


def start_process(
    serve: Callable[[Connection, bytes], None], work: bytes
) -> tuple[BaseProcess, Connection]:
    """Start a process that runs `serve`; return it and the connection to it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # The resource tracker unblocks Ctrl-C when it starts, so it is started first.
    resource_tracker.ensure_running()
    # Libraries read these variables when they are imported, before any code of ours runs.
    with _interrupts_blocked(), one_thread(), _main_hidden(unless_in=work):
        process = context.Process(target=serve, args=(theirs, work), daemon=True)
        process.start()
    theirs.close()
    return process, ours


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, which reaches the whole process group, in children started in this context.

    They inherit the block for good: the parent handles Ctrl-C and stops its workers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_hidden(unless_in: bytes) -> Iterator[None]:
    """Keep processes that are started in this context from importing the user's script.

    It would run again in each of them unless its code is under ``if __name__ == "__main__"``. They
    need it only where the pickled work is defined in it.
    """
    main = sys.modules["__main__"]
    names = () if b"__main__" in unless_in else ("__spec__", "__file__")
    before = {name: vars(main)[name] for name in names if name in vars(main)}
    for name in before:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(main, name, value)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let the libraries of processes that are started in this context use one thread each."""
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
    """Run a worker process."""
    exit_with_parent()
    work: Work[Any] = pickle.loads(pickled)
    advance = Batched(connection.send)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            clip = connection.recv()
            connection.send(_Started())
            result = attempt(work, clip, advance)
            advance.flush()
            connection.send(result)


class Batched:
    """Send counts at most five times per second."""

    def __init__(self, send: Advance) -> None:
        self._send = send
        self._count = 0
        self._last = time.monotonic()

    def __call__(self, count: int) -> None:
        """Add to the count, and send it unless one was sent just now."""
        self._count += count
        if time.monotonic() - self._last > 0.2:
            self.flush()

    def flush(self) -> None:
        """Send what has not been sent."""
        if self._count:
            self._send(self._count)
        self._count = 0
        self._last = time.monotonic()


def exit_with_parent() -> None:
    """Exit at once when the parent dies, even in the middle of a clip."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
