"""What every recipe does: run a stage over its clips, and tell the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flowpipe import runs
from flowpipe.execution import C, Work, Workers
from flowpipe.runs import Shard, Summary

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
) -> Summary:
    """:func:`flowpipe.runs.run`, and its summary printed."""
    sizes = {clip.name: _size(clip.path) for clip in clips}
    summary = runs.run(
        work,
        clips,
        out=out,
        records=records,
        sizes=sizes,
        workers=workers,
        shard=shard,
        unit=unit,
        in_threads=in_threads,
    )
    say(str(summary))
    return summary


def say(line: str) -> None:
    """Print a line for the user."""
    _CONSOLE.print(Text(line), soft_wrap=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
