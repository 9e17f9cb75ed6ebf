"""Dispatch clips to workers, wherever these run, and retry those whose worker died."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from flowpipe.runner.pool.results import (
    Advance,
    C,
    Fatal,
    Lost,
    Outcome,
    Work,
    attempt,
    unless_fatal,
)
from flowpipe.runner.pool.workers import Workers

ATTEMPTS = 2
"""Number of times that a clip is tried if its worker dies."""


class Pool(Protocol):
    """Workers of one kind."""

    def free_slots(self) -> int:
        """Return how many clips can be submitted now."""

    def submit(self, clip: Any) -> None:
        """Start processing a clip."""

    def wait(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for an event; return the clips that ended, with their outcomes."""

    def close(self) -> None:
        """Stop the workers at once."""


def over_clips(
    work: Work[C],
    clips: Sequence[C],
    *,
    workers: Workers,
    advance: Advance = lambda n: None,
) -> Iterator[Outcome[C]]:
    """Process every clip, and yield the outcomes as they arrive.

    Parameters
    ----------
    work
        Picklable function for one clip. An exception that it raises is that clip's failure and
        does not stop the others.
    clips
        Clips, submitted in this order.
    workers
        Number and kind of the workers.
    advance
        Called with the number of units that any worker has processed.

    Yields
    ------
    Outcome

    Raises
    ------
    RunStoppedError
        The output cannot be written (full disk, quota, read-only), or the workers of a cluster are
        gone for good. Clips in flight are lost.
    ParameterError
        The executor is not installed, or no cluster answers at the address.
    """
    if workers.jobs == 0:
        for clip in clips:
            yield unless_fatal(attempt(work, clip, advance))
        return
    if clips:
        with contextlib.closing(_pool(work, workers, len(clips), advance)) as pool:
            yield from dispatch(pool, clips)


def dispatch(pool: Pool, clips: Sequence[C]) -> Iterator[Outcome[C]]:
    """Give the clips to a pool as it has room, and yield the outcomes as they arrive."""
    waiting = deque(clips)
    losses: Counter[str] = Counter()
    running = 0
    while waiting or running:
        for _ in range(min(len(waiting), pool.free_slots())):
            pool.submit(waiting.popleft())
            running += 1
        for clip, result in pool.wait():
            running -= 1
            if not isinstance(result, Lost):
                yield unless_fatal(result)
                continue
            losses[clip.name] += 1
            if losses[clip.name] < ATTEMPTS:
                waiting.appendleft(clip)
            else:
                reason = f"{result.reason}, {ATTEMPTS} times"
                yield Outcome(clip, "failed", "worker-died", reason)


def _pool(work: Work[Any], workers: Workers, clips: int, advance: Advance) -> Pool:
    # Dask and Ray are imported only if they are asked for.
    match workers.executor:
        case "dask":
            from flowpipe.runner.pool.on_dask import DaskPool

            return DaskPool(work, workers, advance)
        case "ray":
            from flowpipe.runner.pool.on_ray import RayPool

            return RayPool(work, workers, advance)
        case _:
            from flowpipe.runner.pool.local import LocalPool

            return LocalPool(work, min(workers.local_jobs, clips), workers.timeout, advance)
