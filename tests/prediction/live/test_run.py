"""Labels come in time, sources end in every way, and memory does not grow."""

from __future__ import annotations

import itertools
import json
import logging
import time
import tracemalloc

import pytest

from flowpipe.io.stream import StreamError, StreamFrame
from flowpipe.pipelines.live import json_line, window_of
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.run import live_labels
from tests.helpers.live import (
    FakeSource,
    images,
    labels_of,
    live_frames,
    random_network,
)


def _keep(labels, got: list) -> None:
    for label in labels:
        got.append(label)


def test_labels_come_every_so_many_seconds_and_at_the_end(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=1)
    frames = live_frames(images(60))  # 2.36 s
    live = Live(every=0.5, window=1)
    # One after the other, so that a slow machine has the same labels.
    source = FakeSource(frames, wait=0.01)
    got = labels_of(classifier, source, live)
    times = [each.time for each in got]
    assert times[0] >= 0.5
    assert times[-1] == pytest.approx(59 / 25)
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert len(got) <= 5
    assert all(each.used + each.dropped <= each.frames for each in got)
    assert all(each.delay > 0 for each in got)
    line = json.loads(json_line(got[0], 2))
    assert line["label"] == line["top"][0]["label"] == got[0].label
    assert len(line["top"]) == 2
    assert {"time", "delay", "frames", "used", "dropped", "fps", "calibrated"} < set(line)


def test_the_duration_ends_it(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=1)
    endless = (frame for _ in itertools.count() for frame in live_frames(images(50)))
    source = FakeSource(endless)
    live = Live(duration=1.0, every=10)
    (got,) = labels_of(classifier, source, live, drops=False)
    assert got.time == pytest.approx(24 / 25)
    assert got.used == 25


def test_labels_of_a_source_that_stalls_are_kept(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=1)
    live = Live(stall=0.3, every=1.0)
    source = FakeSource(live_frames(images(30)), "stall")
    source.heard -= 100  # it is begun later than it was made
    got, labels = [], live_labels(classifier, window_of(classifier, live), source, live)
    with pytest.raises(StreamError, match=r"'fake' gave no frame for 0\.3 s"):
        _keep(labels, got)
    assert got[-1].time == pytest.approx(29 / 25)
    time.sleep(0.1)
    assert source.stopped


def test_extraction_that_is_slow_is_no_stall(tmp_path, monkeypatch):
    classifier = random_network(tmp_path, "rgb", length=1)
    live = Live(stall=0.1)
    window = window_of(classifier, live)
    add = window.add
    monkeypatch.setattr(window, "add", lambda taken: (time.sleep(0.4), add(taken)))
    source = FakeSource(live_frames(images(3)))
    (got,) = live_labels(classifier, window, source, live)
    assert got.used == 3


def test_an_error_of_the_source_comes_after_its_last_label(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=1)
    source = FakeSource(live_frames(images(10)), StreamError("'cam' broke off"))
    live = Live()
    got, labels = [], live_labels(classifier, window_of(classifier, live), source, live)
    with pytest.raises(StreamError, match="broke off"):
        _keep(labels, got)
    assert len(got) == 1


def test_a_source_that_is_too_short_is_an_error(tmp_path):
    classifier = random_network(tmp_path, length=5)
    with pytest.raises(StreamError, match="ended after 5 frames; a label needs at least 6"):
        labels_of(classifier, live_frames(images(5)))
    assert labels_of(classifier, live_frames(images(6)))


def test_leaving_the_loop_stops_the_source(tmp_path, caplog):
    classifier = random_network(tmp_path, "rgb", length=1)
    source = FakeSource(live_frames(images(30)), "stall")
    live = Live(every=0.4)
    with caplog.at_level(logging.INFO, "flowpipe"):
        labels = live_labels(classifier, window_of(classifier, live), source, live)
        next(labels)
        labels.close()
    time.sleep(0.1)
    assert source.stopped
    assert "1 labels in" in caplog.text
    assert "dropped" in caplog.text


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    classifier = random_network(tmp_path, length=2)
    frames = images(8)

    def endless():
        for number in itertools.count():
            now = time.monotonic()
            yield StreamFrame(frames[number % 8], number / 25, now, number > 0)

    live = Live(every=1, window=0.4, live_flow="dis", duration=40)
    window = window_of(classifier, live)
    labels = live_labels(classifier, window, FakeSource(endless()), live, drops=False)
    for label in labels:
        assert len(window._ring) <= 12
        if label.time > 10:
            break
    tracemalloc.start()
    try:
        next(labels)
        before = tracemalloc.get_traced_memory()[0]
        *_, last = labels
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert last.used == 1000
    assert grown < 300_000  # a field of this size has 6 kB; 700 were made
