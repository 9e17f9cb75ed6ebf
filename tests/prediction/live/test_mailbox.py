"""Frames are dropped between whole runs, and counted."""

from __future__ import annotations

from threading import Thread

import numpy as np
import pytest

from flowpipe.prediction.live.mailbox import Mailbox
from tests.helpers.live import (
    live_frames,
)


def taken_numbers(mailbox: Mailbox, per_frame: int, count: int) -> list[int]:
    """Numbers of the frames that are taken, one for every so many that come."""
    numbers = []
    for number, frame in enumerate(live_frames([np.zeros((2, 2, 3), np.uint8)] * count, rate=1)):
        mailbox.put(frame)
        if number % per_frame == per_frame - 1:
            numbers.append(round(mailbox.take().frame.time))
    return numbers


def test_no_frame_is_dropped_while_they_are_used_as_fast_as_they_come():
    mailbox = Mailbox(run=5, before=1)
    assert taken_numbers(mailbox, 1, 100) == list(range(100))
    assert (mailbox.received, mailbox.used, mailbox.dropped) == (100, 100, 0)


@pytest.mark.parametrize(("run", "before"), [(1, 0), (5, 1), (10, 1), (3, 2)])
@pytest.mark.parametrize("per_frame", [2, 3, 7])
def test_frames_that_come_too_fast_are_dropped_between_whole_runs(run, before, per_frame):
    mailbox = Mailbox(run, before)
    numbers = taken_numbers(mailbox, per_frame, 1000)
    assert mailbox.dropped > 300
    assert mailbox.received == 1000
    gaps = np.flatnonzero(np.diff(numbers) > 1) + 1
    lengths = np.diff([0, *gaps])
    assert lengths.min() >= run + before
    assert len(mailbox) <= run + 2 * before + 3
    # How far behind the newest frame it is, does not grow.
    came = np.arange(1, len(numbers) + 1) * per_frame - 1
    assert (came - numbers).max() <= (run + before + 3) * per_frame


def test_drops_are_counted_and_the_next_frame_does_not_follow():
    mailbox = Mailbox(run=2)
    frames = live_frames([np.zeros((2, 2, 3), np.uint8)] * 20, rate=1)
    for frame in frames:
        mailbox.put(frame)
    mailbox.end()
    taken = list(iter(mailbox.take, None))
    assert [round(each.frame.time) for each in taken] == [0, 1, 19]
    assert [each.follows for each in taken] == [False, True, False]
    assert (mailbox.received, mailbox.used, mailbox.dropped) == (20, 3, 17)


def test_without_drops_the_source_waits():
    mailbox = Mailbox(run=1, drops=False)
    frames = live_frames([np.zeros((2, 2, 3), np.uint8)] * 50, rate=1)

    def put() -> None:
        for frame in frames:
            mailbox.put(frame)
        mailbox.end()

    thread = Thread(target=put)
    thread.start()
    taken = []
    while (each := mailbox.take()) is not None:
        taken.append(each)
        assert len(mailbox) <= 1
    thread.join()
    assert all(each.follows for each in taken[1:])
    assert (mailbox.used, mailbox.dropped) == (50, 0)
