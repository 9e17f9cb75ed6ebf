"""Record the duration of each step of a stage, summed over the runs that produced its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flowpipe.runner import atomic, json_files
from flowpipe.runner.run import Summary

_TIMES = "times.json"


def timed(out: Path, step: str, run: Callable[[], Summary]) -> Summary:
    """Run a step of a stage and add its duration to ``times.json`` in the output folder.

    A run that finds everything up to date adds nothing.
    """
    start = time.perf_counter()
    summary = run()
    if summary.done:
        times = times_of(out)
        times[step] = round(times.get(step, 0) + time.perf_counter() - start, 2)
        atomic.write_atomic(out / _TIMES, json_files.to_json(times), out)
        atomic.remove_stale(out)
    return summary


def times_of(out: Path) -> dict[str, float]:
    """Return the duration of each step of a stage in seconds, as :func:`timed` recorded it."""
    path = out / _TIMES
    return json_files.read_json(path) if path.exists() else {}
