"""A function over many clips: worker processes, retries, failures, progress.

Each worker is one process of one thread that takes one clip at a time, so what a crash costs is
exactly the clip in flight; it is tried once more and then reported. Results do not depend on the
number of workers, since a clip's output depends on the clip alone.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from flowpipe.errors import FlowpipeError, ParameterError

ATTEMPTS = 2
"""How often a clip is tried whose worker dies."""

Advance = Callable[[int], None]
"""Called by the work with the number of units (frame pairs, frames) done since the last call."""

_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@dataclass(frozen=True, slots=True)
class Done:
    """What the work returns for a clip.

    Attributes
    ----------
    skipped
        The output was there already.
    warning
        What the user should know of a clip that is done all the same.
    """

    skipped: bool = False
    warning: str | None = None


class Named(Protocol):
    """A clip, to this module: something with a name of its own, that can be pickled."""

    @property
    def name(self) -> str:
        """Tells the clip from all others of the run."""

    @property
    def path(self) -> Path:
        """Where it is read from, for reports."""


C = TypeVar("C", bound=Named)
C_contra = TypeVar("C_contra", bound=Named, contravariant=True)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[C]):
    """How a clip ended.

    Attributes
    ----------
    kind
        For a failure, a stable word: the error's own, ``worker-died`` or ``internal``.
    reason
        For a failure the message, for a clip that is done a warning or None.
    detail
        Traceback of an error that flowpipe does not raise on purpose.
    """

    clip: C
    status: Literal["done", "skipped", "failed"]
    kind: str | None = None
    reason: str | None = None
    detail: str | None = None


class Work(Protocol[C_contra]):
    """What is done to a clip; pickled once and sent to every worker."""

    def __call__(self, clip: C_contra, advance: Advance, /) -> Done:
        """Make the clip's output, or find that it is there."""


class RunStoppedError(FlowpipeError):
    """The run cannot go on: the disk is full, or not writable."""


def default_jobs() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def over_clips(
    work: Work[C], clips: Sequence[C], *, jobs: int, advance: Advance = lambda n: None
) -> Iterator[Outcome[C]]:
    """Do the work to every clip, yielding outcomes as they come.

    Parameters
    ----------
    work
        Must be picklable. What it raises is the clip's failure, and never stops the others.
    clips
        Given out in this order.
    jobs
        Worker processes; 0 works in this process, one clip after the other.
    advance
        Told of the units done, from all workers.

    Raises
    ------
    RunStoppedError
        The output cannot be written (full disk, quota, read-only). Clips in flight are lost.
    ParameterError
        ``jobs`` is negative.
    """
    if jobs < 0:
        raise ParameterError(f"jobs is {jobs}; it must be 0 (in this process) or more")
    if jobs == 0:
        for clip in clips:
            yield _checked(_attempt(work, clip, advance))
        return
    crew = _Crew(work, min(jobs, len(clips)))
    try:
        yield from crew.run(clips, advance)
    finally:
        crew.kill()


def over_clips_in_threads(
    work: Work[C], clips: Sequence[C], *, threads: int, advance: Advance = lambda n: None
) -> Iterator[Outcome[C]]:
    """Do the work to every clip in threads of this process, yielding outcomes as they come.

    For work whose heavy part is on another device and gathers what the threads hand in.

    Parameters
    ----------
    work, clips, advance
        As for :func:`over_clips`.
    threads
        Clips that are worked on at once, at least 1.

    Raises
    ------
    RunStoppedError
        As :func:`over_clips` does.
    """
    if threads < 1:
        raise ParameterError(f"jobs is {threads}; work that gathers clips needs at least 1")
    messages: queue.SimpleQueue[Outcome[C] | _Fatal | int] = queue.SimpleQueue()
    waiting = deque(clips)

    def serve() -> None:
        with contextlib.suppress(IndexError):
            while True:
                messages.put(_attempt(work, waiting.popleft(), messages.put))

    for _ in range(min(threads, len(clips))):
        # Daemons, so that Ctrl-C and a full disk end the run at once.
        threading.Thread(target=serve, daemon=True).start()
    left = len(clips)
    try:
        while left:
            message = messages.get()
            if isinstance(message, int):
                advance(message)
                continue
            left -= 1
            yield _checked(message)
    finally:
        waiting.clear()


def _attempt(work: Work[C], clip: C, advance: Advance) -> Outcome[C] | _Fatal:
    try:
        done = work(clip, advance)
    except FlowpipeError as error:
        kind = getattr(error, "kind", type(error).__name__.removesuffix("Error").lower())
        return Outcome(clip, "failed", kind, str(error))
    except OSError as error:
        if error.errno in _FATAL:
            return _Fatal(clip.name, error.errno, str(error))
        return Outcome(clip, "failed", "os", f"{type(error).__name__}: {error}")
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        return Outcome(clip, "failed", "internal", told, traceback.format_exc())
    return Outcome(clip, "skipped" if done.skipped else "done", reason=done.warning)


@dataclass(frozen=True, slots=True)
class _Fatal:
    clip: str
    errno: int
    reason: str


def _checked(result: Outcome[C] | _Fatal) -> Outcome[C]:
    if isinstance(result, _Fatal):
        cause = {errno.EROFS: "the output folder is read-only"}.get(
            result.errno, "the disk is full"
        )
        raise RunStoppedError(
            f"stopped at {result.clip!r}: {cause} ({result.reason}). What is finished is "
            "whole; make room and run the same command again to go on"
        )
    return result


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    clip: Any = None


@dataclass
class _Crew:
    """The workers of one run."""

    work: Work[Any]
    size: int
    workers: list[_Worker] = field(default_factory=list)

    def run(self, clips: Sequence[C], advance: Advance) -> Iterator[Outcome[C]]:
        waiting = deque(clips)
        attempts: dict[str, int] = {}
        while waiting or any(worker.clip for worker in self.workers):
            while len(self.workers) < min(
                self.size, len(waiting) + sum(worker.clip is not None for worker in self.workers)
            ):
                self.workers.append(_start(self.work))
            for worker in self.workers:
                if worker.clip is None and waiting:
                    worker.clip = waiting.popleft()
                    # One that died idle is found dead below, and its clip given out again.
                    with contextlib.suppress(OSError):
                        worker.connection.send(worker.clip)
            ready = wait([worker.connection for worker in self.workers])
            for worker in [one for one in self.workers if one.connection in ready]:
                clip = worker.clip
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    self.workers.remove(worker)
                    worker.process.join()
                    if clip is None:
                        continue
                    attempts[clip.name] = attempts.get(clip.name, 0) + 1
                    if attempts[clip.name] < ATTEMPTS:
                        waiting.appendleft(clip)
                    else:
                        yield Outcome(clip, "failed", "worker-died", _how_it_died(worker))
                    continue
                if isinstance(message, int):
                    advance(message)
                else:
                    worker.clip = None
                    yield _checked(message)

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()
        self.workers.clear()


def _how_it_died(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    if code >= 0:
        how = f"exited with status {code}"
    else:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        how = f"was ended by {name}"
        if name == "SIGKILL":
            how += " (out of memory?)"
    return f"the worker process {how}, {ATTEMPTS} times"


def _start(work: Work[Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    # The tracker lifts the block on Ctrl-C when it starts, so it starts before.
    resource_tracker.ensure_running()
    # The libraries read these when they are imported, before any code of ours runs there.
    with _interrupts_blocked(), _environment(dict.fromkeys(_ONE_THREAD, "1")):
        process = context.Process(target=_serve, args=(theirs, pickle.dumps(work)), daemon=True)
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
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
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
            result = _attempt(work, clip, advance)
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
