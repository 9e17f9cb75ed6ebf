"""Print the progress of a run: a live line on a terminal, a line every 30 s elsewhere.

Parts of ``rich`` are used directly: ``rich.progress`` prints a single line, at the end of the run,
if the output is no terminal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowpipe.runner import run_status
from flowpipe.runner.run_status import RunState, State

_PLAIN_EVERY = 30.0
logger = logging.getLogger(__name__)


class Progress:
    """Count clips and units, show rate and time left, and log warnings and failures of clips.

    The time left is estimated from the sizes of the videos: bytes left at the rate so far.

    Parameters
    ----------
    weights
        Size of each clip in bytes, by name.
    unit
        What the work counts, in the plural: ``pairs``, ``frames``.
    console
        Console to print to; None prints nothing.
    clock
        Return the time in seconds, from any origin.
    noun
        What the run processes, if not clips, in the singular.
    """

    def __init__(
        self,
        weights: dict[str, int],
        unit: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        noun: str = "clip",
    ) -> None:
        self._weights = weights
        self._noun = noun
        self._unit = unit
        self._console = console
        self._clock = clock
        self._start = self._last = clock()
        self._left = sum(weights.values())
        self._worked = 0
        self._units = 0
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            # Messages that are logged meanwhile appear above the live line.
            self._live = Live(
                console=console, get_renderable=self._renderable, refresh_per_second=4
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def advance(self, units: int) -> None:
        """Count units that a worker has processed."""
        self._units += units
        self._plain()

    def finish(self, name: str, status: str, reason: str | None) -> None:
        """Count a finished clip and log its warning or error, if any."""
        self.counts[status] += 1
        weight = self._weights.get(name, 0)
        self._left -= weight
        if status == "done":
            self._worked += weight
        if reason:
            logger.warning(f"{'failed' if status == 'failed' else 'note'}: {name}: {reason}")
        self._plain()

    def snapshot(self, state: State) -> RunState:
        """Return the progress of the run, to be recorded."""
        host, pid = run_status.here()
        return RunState(
            state=state,
            clips=len(self._weights),
            **self.counts,
            units=self._units,
            unit=self._unit,
            bytes_total=sum(self._weights.values()),
            bytes_left=self._left,
            bytes_worked=self._worked,
            seconds=round(self._clock() - self._start, 3),
            host=host,
            pid=pid,
            updated=run_status.now(),
        )

    def line(self) -> str:
        """Return the progress of the run as one line."""
        elapsed = self._clock() - self._start
        finished = sum(self.counts.values())
        parts = [f"{finished}/{len(self._weights)} {self._noun}s"]
        parts += [f"{self.counts[key]} {key}" for key in ("skipped", "failed") if self.counts[key]]
        parts.append(f"{self._units} {self._unit}")
        if elapsed > 0:
            parts.append(f"{self._units / elapsed:.1f} {self._unit}/s")
        if self._worked and self._left:
            parts.append(f"{clock_time(elapsed * self._left / self._worked)} left")
        else:
            parts.append(f"{clock_time(elapsed)} elapsed")
        return ", ".join(parts)

    def _plain(self) -> None:
        if self._console is None or self._live:
            return
        now = self._clock()
        if now - self._last >= _PLAIN_EVERY:
            self._last = now
            self._console.print(Text(self.line()), soft_wrap=True, highlight=False)

    def _renderable(self) -> Table:
        total = sum(self._weights.values()) or 1
        row = Table.grid(padding=(0, 1))
        row.add_row(
            ProgressBar(total=total, completed=total - self._left, width=24), Text(self.line())
        )
        return row


def clock_time(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds: ``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
