"""Time that the parts of a stage took, summed over all runs that produced its outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flowpipe.runner import atomic, json_files
from flowpipe.runner.run import Summary

_TIMES = "times.json"


def timed(out: Path, part: str, run: Callable[[], Summary]) -> Summary:
    """Run a part of a stage and add its duration to the ``times.json`` of the output folder.

    A run that finds everything finished adds nothing.
    """
    start = time.perf_counter()
    summary = run()
    if summary.done:
        times = times_of(out)
        times[part] = round(times.get(part, 0) + time.perf_counter() - start, 2)
        atomic.write_atomic(out / _TIMES, json_files.to_json(times), out)
        atomic.remove_stale(out)
    return summary


def times_of(out: Path) -> dict[str, float]:
    """Return the seconds that each part of a stage took, as :func:`timed` recorded them."""
    path = out / _TIMES
    return json_files.read_json(path) if path.exists() else {}
