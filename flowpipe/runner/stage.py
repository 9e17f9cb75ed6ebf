"""What every recipe does: run a stage over its clips, and tell the user."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flowpipe.runner import atomic, json_files
from flowpipe.runner.pool import C, Work, Workers
from flowpipe.runner.run import Shard, Summary, run

_TIMES = "times.json"
logger = logging.getLogger(__name__)


def run_stage(
    work: Work[C],
    clips: Sequence[C],
    *,
    out: Path,
    record: bool = True,
    workers: Workers,
    unit: str,
    shard: Shard | None = None,
    in_threads: bool = False,
    noun: str = "clip",
    outputs: Callable[[C], Sequence[Path]] | None = None,
) -> Summary:
    """:func:`flowpipe.runner.run.run`, and its summary printed."""
    sizes = {clip.name: _size(clip.path) for clip in clips}
    summary = run(
        work,
        clips,
        out=out,
        record=record,
        sizes=sizes,
        workers=workers,
        shard=shard,
        unit=unit,
        in_threads=in_threads,
        noun=noun,
        outputs=outputs,
    )
    logger.info(str(summary))
    return summary


def timed(out: Path, part: str, run: Callable[[], Summary]) -> Summary:
    """Run a part of a stage and add the time that it took to the ``times.json`` of its folder.

    The times are those of all the runs that made what is there; a run that only finds it there adds
    nothing.
    """
    start = time.perf_counter()
    summary = run()
    if summary.done:
        path = out / _TIMES
        times = json_files.read_json(path) if path.exists() else {}
        times[part] = round(times.get(part, 0) + time.perf_counter() - start, 2)
        atomic.write_atomic(path, json_files.to_json(times), out)
        atomic.remove_stale(out)
    return summary


def times_of(out: Path) -> dict[str, float]:
    """Seconds of each part of a stage, as :func:`timed` recorded them."""
    path = out / _TIMES
    return json_files.read_json(path) if path.exists() else {}


def within_memory(workers: Workers, each: int) -> Workers:
    """The workers, as many as fit in half of this machine's memory at `each` bytes; at least 1.

    Those of a cluster are left as they are.
    """
    if workers.executor != "local" or workers.jobs == 0:
        return workers
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return replace(workers, jobs=min(workers.here, max(1, memory // 2 // max(1, each))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
