from __future__ import annotations

import io

import pytest
from rich.console import Console

from flowpipe.runner.progress import Progress, clock_time


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def started(weights, *, terminal=False):
    text, clock = io.StringIO(), Clock()
    console = Console(file=text, force_terminal=terminal, width=100)
    return Progress(weights, "pairs", console, clock), clock, text


def test_time_left_goes_by_the_bytes_that_were_worked_on():
    progress, clock, _ = started({"a": 100, "b": 200, "c": 300, "d": 400})
    assert progress.line() == "0/4 clips, 0 pairs, 0:00:00 elapsed"
    clock.now += 10
    progress.advance(50)
    assert progress.line() == "0/4 clips, 50 pairs, 5.0 pairs/s, 0:00:10 elapsed"
    progress.finish("a", "done", None)
    # 100 bytes took 10 s, 900 are left
    assert progress.line() == "1/4 clips, 50 pairs, 5.0 pairs/s, 0:01:30 left"
    progress.finish("b", "skipped", None)
    # Those that were there already cost nothing and say nothing of the rate.
    assert progress.line() == "2/4 clips, 1 skipped, 50 pairs, 5.0 pairs/s, 0:01:10 left"
    clock.now += 10
    progress.finish("c", "failed", "broken")
    assert progress.line() == "3/4 clips, 1 skipped, 1 failed, 50 pairs, 2.5 pairs/s, 0:01:20 left"
    progress.finish("d", "done", None)
    assert progress.line().endswith("0:00:20 elapsed")


def test_clips_of_unknown_size():
    progress, clock, _ = started({"a": 0, "b": 0})
    clock.now += 5
    progress.finish("a", "done", None)
    progress.finish("another", "done", None)
    assert progress.line().endswith("0:00:05 elapsed")


def test_plain_lines_now_and_then_where_there_is_no_terminal():
    progress, clock, text = started({"a": 1, "b": 1, "c": 1})
    with progress:
        for seconds in (0, 10, 19, 1, 15, 16):
            clock.now += seconds
            progress.advance(1)
        clock.now += 1
        progress.finish("a", "done", None)
    lines = text.getvalue().splitlines()
    assert lines == [
        "0/3 clips, 4 pairs, 0.1 pairs/s, 0:00:30 elapsed",
        "0/3 clips, 6 pairs, 0.1 pairs/s, 0:01:01 elapsed",
    ]


def test_failures_and_warnings_are_logged_as_they_come(caplog):
    progress, _, text = started({"a": 1, "[red]b": 1, "c": 1})
    long = "cannot be read: " + "x" * 300
    with progress:
        progress.finish("a", "failed", long)
        progress.finish("[red]b", "done", "truncated: [bold] 12:30")
        progress.finish("c", "skipped", None)
    assert text.getvalue() == ""
    assert caplog.messages == [f"failed: a: {long}", "note: [red]b: truncated: [bold] 12:30"]
    assert progress.counts == {"done": 1, "skipped": 1, "failed": 1}


def test_a_live_line_on_a_terminal():
    progress, clock, text = started({"a": 1, "b": 1}, terminal=True)
    with progress:
        clock.now += 60
        progress.advance(3)
        progress.finish("a", "done", None)
    assert "1/2 clips, 3 pairs" in text.getvalue()
    assert "\x1b[?25h" in text.getvalue()  # the cursor is back


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (360000, "100:00:00")],
)
def test_clock_time(seconds, told):
    assert clock_time(seconds) == told
