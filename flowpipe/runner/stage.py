"""What every recipe does: run a stage over its clips, and tell the user."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flowpipe.errors import ParameterError
from flowpipe.flow import store
from flowpipe.flow.store import StoredClip
from flowpipe.runner import artifacts
from flowpipe.runner.pool import C, Work, Workers
from flowpipe.runner.run import Shard, Summary, run

_TIMES = "times.json"
_CONSOLE = Console(stderr=True, highlight=False)


def run_stage(
    work: Work[C],
    clips: Sequence[C],
    *,
    out: Path,
    records: Path | None,
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
        records=records,
        sizes=sizes,
        workers=workers,
        shard=shard,
        unit=unit,
        in_threads=in_threads,
        noun=noun,
        outputs=outputs,
    )
    say(str(summary))
    return summary


def flow_to_read(source: Path, out: Path) -> list[StoredClip]:
    """The clips of a folder of flow, for a stage that makes something of them in another folder.

    Raises
    ------
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    clips = sorted(store.stored_clips(source), key=lambda clip: clip.name)
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    if source.resolve() == out.resolve():
        raise ParameterError(
            f"what is made of the flow in {str(source)!r} cannot go into its own folder; "
            "name another"
        )
    return clips


def timed(out: Path, part: str, run: Callable[[], Summary]) -> Summary:
    """Run a part of a stage and add the time that it took to the ``times.json`` of its folder.

    The times are those of all the runs that made what is there; a run that only finds it there adds
    nothing.
    """
    start = time.perf_counter()
    summary = run()
    if summary.done:
        path = out / _TIMES
        times = artifacts.read_json(path) if path.exists() else {}
        times[part] = round(times.get(part, 0) + time.perf_counter() - start, 2)
        artifacts.write_atomic(path, artifacts.to_json(times), out)
        artifacts.remove_stale(out)
    return summary


def times_of(out: Path) -> dict[str, float]:
    """Seconds of each part of a stage, as :func:`timed` recorded them."""
    path = out / _TIMES
    return artifacts.read_json(path) if path.exists() else {}


def within_memory(workers: Workers, each: int) -> Workers:
    """The workers, as many as fit in half of this machine's memory at `each` bytes; at least 1.

    Those of a cluster are left as they are.
    """
    if workers.executor != "local" or workers.jobs == 0:
        return workers
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return replace(workers, jobs=min(workers.here, max(1, memory // 2 // max(1, each))))


def say(line: str) -> None:
    """Print a line for the user."""
    _CONSOLE.print(Text(line), soft_wrap=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
