"""Sharing clips out among workers, wherever these are."""

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
    checked,
)
from flowpipe.runner.pool.workers import Workers

ATTEMPTS = 2
"""How often a clip is tried whose worker dies."""


class Pool(Protocol):
    """Workers."""

    def room(self) -> int:
        """How many clips can be given out now."""

    def give(self, clip: Any) -> None:
        """Give out a clip."""

    def take(self) -> list[tuple[Any, Outcome[Any] | Fatal | Lost]]:
        """Wait for something to happen; return the clips that ended, and how."""

    def close(self) -> None:
        """End the workers at once."""


def over_clips(
    work: Work[C],
    clips: Sequence[C],
    *,
    workers: Workers,
    advance: Advance = lambda n: None,
) -> Iterator[Outcome[C]]:
    """Do the work to every clip, yielding outcomes as they come.

    Parameters
    ----------
    work
        Must be picklable. What it raises is the clip's failure, and never stops the others.
    clips
        Given out in this order.
    workers
        Who does it.
    advance
        Told of the units done, by all workers.

    Raises
    ------
    RunStoppedError
        The output cannot be written (full disk, quota, read-only), or a cluster's workers are gone
        and do not come back. Clips in flight are lost.
    ParameterError
        The executor is not installed, or there is no cluster at the address.
    """
    if workers.jobs == 0:
        for clip in clips:
            yield checked(attempt(work, clip, advance))
        return
    waiting = deque(clips)
    if not waiting:
        return
    losses: Counter[str] = Counter()
    given = 0
    with contextlib.closing(_pool(work, workers, len(clips), advance)) as pool:
        while waiting or given:
            for _ in range(min(len(waiting), pool.room())):
                pool.give(waiting.popleft())
                given += 1
            for clip, result in pool.take():
                given -= 1
                if not isinstance(result, Lost):
                    yield checked(result)
                    continue
                losses[clip.name] += 1
                if losses[clip.name] < ATTEMPTS:
                    waiting.appendleft(clip)
                else:
                    told = f"{result.reason}, {ATTEMPTS} times"
                    yield Outcome(clip, "failed", "worker-died", told)


def _pool(work: Work[Any], workers: Workers, clips: int, advance: Advance) -> Pool:
    # Dask and Ray are looked for only where they are asked for.
    match workers.executor:
        case "dask":
            from flowpipe.runner.pool.on_dask import DaskPool

            return DaskPool(work, workers, advance)
        case "ray":
            from flowpipe.runner.pool.on_ray import RayPool

            return RayPool(work, workers, advance)
        case _:
            from flowpipe.runner.pool.local import Crew

            return Crew(work, min(workers.local_jobs, clips), workers.timeout, advance)
