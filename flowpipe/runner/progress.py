"""Progress of a run on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowpipe.runner import run_status
from flowpipe.runner.run_status import RunState, State

_PLAIN_EVERY = 30.0


class Progress:
    """Counts clips and units, with the rate and the time that is left.

    The time left goes by the sizes of the videos: what is left of their bytes, at the rate of
    those that were worked on.

    Parameters
    ----------
    weights
        Bytes of each clip, by name.
    unit
        What the work counts, in the plural: ``pairs``, ``frames``.
    console
        Where to; standard error by default.
    clock
        Seconds from any origin.
    noun
        What a clip is called, where the work goes over something else.
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
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._start = self._last = clock()
        self._left = sum(weights.values())
        self._worked = 0
        self._units = 0
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self._live = Live(
            console=self._console, get_renderable=self._renderable, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def advance(self, units: int) -> None:
        """Count units that a worker has done."""
        self._units += units
        self._plain()

    def finish(self, name: str, status: str, told: str | None) -> None:
        """Count a clip, and print what is to be said of it."""
        self.counts[status] += 1
        weight = self._weights.get(name, 0)
        self._left -= weight
        if status == "done":
            self._worked += weight
        if told:
            word = "failed" if status == "failed" else "note"
            self._console.print(Text(f"{word}: {name}: {told}"), soft_wrap=True, highlight=False)
        self._plain()

    def snapshot(self, state: State) -> RunState:
        """How far the run is, to be written down."""
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
        """State of the run in one line."""
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
        now = self._clock()
        if not self._console.is_terminal and now - self._last >= _PLAIN_EVERY:
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
    """Hours, minutes and seconds as ``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
