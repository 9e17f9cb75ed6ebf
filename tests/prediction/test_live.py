"""Labels of live sources: what is scored, what is dropped, and how sources end."""

from __future__ import annotations

import itertools
import json
import logging
import signal
import subprocess
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Dis, Tvl1
from flowpipe.flow.quantize import from_uint8, to_uint8
from flowpipe.flow.store import FlowReader
from flowpipe.io import video
from flowpipe.io.stream import StreamError, StreamFrame
from flowpipe.pipelines.live import json_line, predict_live, window_of
from flowpipe.prediction.live.flow import FrameFlow, live_method
from flowpipe.prediction.live.mailbox import Mailbox, Taken
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.ring import Entry
from flowpipe.prediction.live.run import live_labels
from flowpipe.training.data.stacks import read_stack
from flowpipe.training.testing import Testing
from tests.helpers import media
from tests.helpers.clips import command, environment, smooth_flow, store_clip
from tests.helpers.live import (
    CLASSES,
    SIZE,
    FakeSource,
    live_frames,
    random_network,
    random_trajectory_classifier,
)

LONG = Live(window=1000, every=1000)
"""One label, of everything, at the end."""


def images(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    width, height = size
    return [media.coloured(grey) for grey in media.moving(count, height, width)]


def labels_of(classifier, frames, live=LONG, **options):
    source = frames if isinstance(frames, FakeSource) else FakeSource(frames)
    return list(live_labels(classifier, window_of(classifier, live), source, live, **options))


def _keep(labels, got: list) -> None:
    for label in labels:
        got.append(label)


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


@pytest.mark.parametrize("step", [1, -1, 2])
def test_fields_are_the_flow_of_neighbouring_frames(step):
    stage = FlowStage(parameters=Tvl1.fast(), size=None, step=step, layout="npy")
    flow = FrameFlow(live_method(stage, "trained", 20.0, warped=False))
    frames = images(5)
    fields = [flow.add(image) for image in frames]
    assert [field is None for field in fields] == [n < abs(step) for n in range(5)]
    for number in range(abs(step), 5):
        first, second = frames[number - abs(step)], frames[number]
        if step < 0:
            first, second = second, first
        first, second = first[..., ::-1], second[..., ::-1]
        parameters = {"n_scales": 4, "scale_step": 0.7, "warps": 3, "epsilon": 0.02}
        expected = flowpipe.optical_flow(
            first, second, iterations=16, steps="over-relaxed", **parameters
        )
        np.testing.assert_array_equal(fields[number], to_uint8(expected))
    flow.restart()
    assert flow.add(frames[0]) is None


def test_the_method_of_live_flow():
    stage = FlowStage(parameters=Tvl1(), layout="npy")

    def chosen(choice, stage=stage):
        return live_method(stage, choice, 20.0, warped=False).parameters

    assert chosen("auto") == Tvl1.fast()
    assert chosen("trained") == Tvl1()
    assert chosen("dis") == Dis(preset="fast")
    dis = FlowStage(parameters=Dis(), layout="npy")
    assert chosen("auto", dis) == Dis()
    assert chosen("fast", dis) == Tvl1.fast()


@pytest.mark.parametrize(
    ("modality", "length", "options"),
    [
        ("flow", 3, {}),
        ("flow", 3, {"bound": 7.0, "subtract_mean": True}),
        ("warped-flow", 3, {}),
        ("rgb", 1, {}),
        ("rgb-diff", 2, {}),
    ],
)
def test_a_whole_file_has_the_scores_of_the_video(tmp_path, modality, length, options):
    # FFV1 is lossless, and the layout npy stores flow as it is: only rounding may differ.
    path = media.write(tmp_path / "clip.mkv", images(16, (80, 60)), codec="ffv1", pix_fmt="bgr0")
    classifier = random_network(tmp_path, modality, length=length, **options)
    classifier = replace(classifier, testing=Testing(4, 1))
    expected = classifier.predict(path)
    frames = live_frames([frame.image for frame in video.frames(path)])
    (got,) = labels_of(classifier, frames, replace(LONG, snippets=4), drops=False)
    np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-5, atol=1e-4)
    assert np.ptp(expected.scores) > 0.1
    assert (got.used, got.dropped, got.time) == (16, 0, pytest.approx(15 / 25))


def test_stacks_along_trajectories_are_those_of_stored_flow(tmp_path):
    classifier = random_network(tmp_path, length=3, stacking="trajectory")
    levels = to_uint8(smooth_flow(3))
    stored = store_clip(tmp_path / "flow", "npy", from_uint8(levels, zero=127.5))
    with FlowReader(stored) as reader:
        expected = read_stack(reader, 0, 3, stacking="trajectory")
    window = window_of(classifier, LONG)
    entries = [Entry(number / 25, 0.0, 0, each) for number, each in enumerate(levels)]
    np.testing.assert_array_equal(window._snippet(entries), expected)
    assert (expected != levels.reshape(expected.shape)).mean() > 0.1


def test_snippets_lie_in_consecutive_frames_of_the_window(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=2)
    live = Live(window=0.5, every=1000, snippets=2)
    window = window_of(classifier, live)
    seen = []
    window._classifier = replace(classifier)
    object.__setattr__(window._classifier, "scores_of", lambda clips, crops: seen.append(clips))
    for number, frame in enumerate(live_frames([np.full((48, 64, 3), n) for n in range(50)])):
        if number not in (40, 45):  # dropped
            window.add(Taken(frame, follows=number - 1 not in (40, 45)))
    clip = window.clip()
    levels = [int(entry.value[0, 0, 0]) for entry in clip.entries]
    assert levels == [37, 38, 39, 41, 42, 43, 44, 46, 47, 48, 49]  # newer than 49 / 25 - 0.5 s
    window.scores(clip)
    ((snippets, _),) = seen[0]
    # Starts of whole snippets are 37, 38, 41, 42, 43, 46, 47, 48: the first and the last.
    assert snippets[:, [0, 3], 0, 0].tolist() == [[37, 38], [48, 49]]


def test_one_snippet_is_the_newest(tmp_path):
    classifier = random_network(tmp_path, "rgb", length=1)
    frames = images(8)
    (got,) = labels_of(classifier, live_frames(frames), replace(LONG, snippets=1), drops=False)
    (last,) = labels_of(classifier, live_frames(frames[-1:]), replace(LONG, snippets=1))
    np.testing.assert_allclose(got.scores, last.scores, atol=1e-5)


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


def test_frames_of_another_size_begin_anew(tmp_path):
    classifier = random_network(tmp_path, length=2, segments=1)
    live = replace(LONG, snippets=2)
    small, large = images(6), images(7, (128, 96))
    mixed = live_frames([*small, *large])
    (got,) = labels_of(classifier, mixed, live, drops=False)
    (alone,) = labels_of(classifier, live_frames(large), live, drops=False)
    np.testing.assert_allclose(got.scores, alone.scores, atol=1e-5)
    assert got.used == 13


def test_a_pair_does_not_reach_across_a_reopening(tmp_path):
    classifier = random_network(tmp_path, length=2)
    window = window_of(classifier, LONG)
    mailbox = Mailbox(window.run, window.before, drops=False)
    frames = [*live_frames(images(4)), *live_frames(images(4), begin=1.0)]
    for frame in frames:
        mailbox.put(frame)
        window.add(mailbox.take())
    runs = [entry.run for entry in window.clip().entries]
    assert len(runs) == 6
    assert runs[:3] == [runs[0]] * 3
    assert runs[3:] == [runs[3]] * 3 != runs[:3]


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


def test_options_that_do_not_apply_are_refused(tmp_path):
    rgb = random_network(tmp_path, "rgb", length=1)
    with pytest.raises(ParameterError, match=r"live_flow is 'dis', but .* rgb"):
        window_of(rgb, Live(live_flow="dis"))
    with pytest.raises(ParameterError, match="live and every exclude each other"):
        predict_live(rgb, "-", Live(), every=2)
    with pytest.raises(ParameterError, match="device is 'cuda'"):
        predict_live(rgb, "-", device="cuda")
    for wrong in ({"every": 0}, {"window": -1}, {"stall": 0}, {"snippets": 0}, {"duration": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            Live(**wrong)
    with pytest.raises(ParameterError, match="live_flow is 'slow'"):
        Live(live_flow="slow")


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(end.value.code)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--live", "-", "--cache", "c"], "cache is"),
        (["--live", "-", "--shard", "1/2"], "shard is '1/2'"),
        (["--live", "-", "--format", "csv"], "format is 'csv'"),
        (["--live", "-", "--out", "x"], "out is"),
        (["--live", "-", "--crops", "1"], "crops is 1"),
        (["--live", "-", "--jobs", "2"], "jobs is 2"),
        (["--live", "-", "video.mp4"], "videos is"),
        (["video.mp4", "--every", "2"], "every is 2.0; it applies to --live"),
        (["video.mp4", "--overlay", "o.mp4"], "overlay is"),
        (["--live", "ftp://x/y"], "has the scheme ftp"),
        (["--live", "no-such-file.mp4"], "'no-such-file.mp4' cannot be read"),
    ],
)
def test_the_command_refuses_what_does_not_apply(tmp_path, capsys, arguments, reason):
    random_network(tmp_path, "rgb", length=1)
    assert run_main("predict", tmp_path, *arguments) == 2
    assert reason in capsys.readouterr().err


def test_a_file_is_played_and_drawn(tmp_path, capsys):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.mp4", images(30))
    out = tmp_path / "overlay.mp4"
    arguments = ("--live", path, "--every", 0.4, "--overlay", out, "--device", "cpu")
    begin = time.monotonic()
    assert run_main("predict", tmp_path, *arguments) == 0
    assert time.monotonic() - begin > 29 / 25
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert lines[-1]["time"] == pytest.approx(29 / 25, abs=0.01)
    assert {line["label"] for line in lines} <= set(CLASSES)
    assert f"{len(lines)} labels" in printed.err
    shown = list(video.frames(out))
    assert shown[0].image.shape == (48, 64, 3)
    assert shown[-1].time == pytest.approx(29 / 25, abs=0.05)
    differences = np.abs(shown[-1].image.astype(int) - images(30)[-1])
    assert differences.max() > 100  # the label
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_standard_input_is_read(tmp_path, suffix):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / f"clip{suffix}", images(40))
    arguments = ("predict", tmp_path, "--live", "-", "--top", 1, "--device", "cpu")
    done = subprocess.run(
        command(*arguments),
        input=path.read_bytes(),
        capture_output=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["time"] == pytest.approx(39 / 25, abs=0.05)
    assert last["frames"] == 40
    assert last["used"] + last["dropped"] == 40
    assert last["source"] == "-"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["stall", "interrupt"])
def test_a_pipe_that_stays_open(tmp_path, ending):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.ts", images(60))
    options = ("--stall", 2) if ending == "stall" else ()
    process = subprocess.Popen(
        command("predict", tmp_path, "--live", "-", "--device", "cpu", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(path.read_bytes())
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["label"] in CLASSES  # it is flushed
    if ending == "interrupt":
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == (1 if ending == "stall" else 0)
    told = process.stderr.read().decode()
    assert ("'-' gave no frame for 2 s" in told) == (ending == "stall")
    assert "labels in" in told
    assert "Traceback" not in told


def test_a_python_loop(tmp_path):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.mp4", images(12))
    labels = list(flowpipe.predict_live(tmp_path, path, every=0.2, device="cpu"))
    assert labels[-1].time == pytest.approx(11 / 25, abs=0.01)
    assert labels[0].top(1)[0][0] == labels[0].label
    assert isinstance(labels[0].path, Path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dt", "idt"])
def test_trajectories_of_a_whole_file_have_the_scores_of_the_video(tmp_path, kind):
    # Two textures that move differently, so that something moves beside the camera.
    pairs = zip(images(30, (100, 80)), media.moving(30, 40, 50, dx=-1, dy=2, seed=1), strict=True)
    frames = []
    for image, grey in pairs:
        image[20:60, 25:75] = media.coloured(grey)
        frames.append(image)
    path = media.write(tmp_path / "clip.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    classifier = random_trajectory_classifier(tmp_path / "c", frames, kind)
    expected = classifier.predict(path).scores
    (got,) = labels_of(classifier, live_frames(frames), drops=False)
    np.testing.assert_allclose(got.scores, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1
    # The last 0.8 s are frames 10 to 29: the tracks in them are those that begin there.
    short = replace(LONG, window=0.79)
    window = window_of(classifier, short)
    for number, frame in enumerate(live_frames(frames)):
        window.add(Taken(frame, follows=number > 0))
    ((rows, positions),) = window._blocks(window.clip())
    assert set(rows["info"][:, 0]) <= {15.0, 16.0, 17.0, 18.0, 19.0}
    np.testing.assert_allclose(positions[:, 2], (rows["info"][:, 0] - 7.5) / 20, atol=1e-6)
    # A gap ends all tracks.
    window.add(Taken(live_frames(frames[:1], begin=1.24)[0], follows=False))
    assert window.clip().entries[-1].value is None


def test_a_classifier_on_trajectories_refuses_options_of_networks(tmp_path):
    frames = images(20)
    classifier = random_trajectory_classifier(tmp_path / "c", frames)
    with pytest.raises(ParameterError, match=r"snippets is 3, but .* was trained on trajectories"):
        window_of(classifier, Live(snippets=3))
    with pytest.raises(ParameterError, match="live_flow is 'fast'"):
        window_of(classifier, Live(live_flow="fast"))
    record = classifier.stage | {"parameters": classifier.stage["parameters"] | {"start_frame": 3}}
    with pytest.raises(ParameterError, match="was trained on frames 3 to None"):
        window_of(replace(classifier, stage=record), Live())
