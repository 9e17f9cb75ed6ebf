"""What is extracted and scored of the last seconds is as in training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import flowpipe
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Dis, Tvl1
from flowpipe.flow.quantize import from_uint8, to_uint8
from flowpipe.flow.store import FlowReader
from flowpipe.io import video
from flowpipe.io.stream import StreamError
from flowpipe.pipelines.live import window_of
from flowpipe.prediction.fusion import FusionClassifier
from flowpipe.prediction.live.flow import FrameFlow, live_method
from flowpipe.prediction.live.mailbox import Mailbox, Taken
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.ring import Entry
from flowpipe.prediction.record import Record
from flowpipe.training.data.stacks import read_stack
from flowpipe.training.testing import Testing
from tests.helpers import media
from tests.helpers.clips import smooth_flow, store_clip
from tests.helpers.live import (
    LONG,
    images,
    labels_of,
    live_frames,
    random_network,
    random_trajectory_classifier,
)


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
    classifier = replace(classifier, record=Record(testing=Testing(4, 1)))
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
        expected = read_stack(reader, range(3), stacking="trajectory")
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


def test_a_fusion_adds_what_its_members_say(tmp_path):
    frames = images(24, (100, 80))
    members = [
        random_network(tmp_path, length=2),
        random_trajectory_classifier(tmp_path / "c", frames),
    ]
    fusion = FusionClassifier(
        tmp_path / "fusion.json", members[0].classes, tuple(members), (1.0, 0.5), softmax=False
    )
    window = window_of(fusion, LONG)
    assert (window.run, window.before) == (30, 1)
    alone = [labels_of(each, live_frames(frames), drops=False)[-1].scores for each in members]
    got = labels_of(fusion, live_frames(frames), drops=False)[-1]
    np.testing.assert_allclose(got.scores, alone[0] + 0.5 * alone[1], atol=1e-5)
    assert got.time == pytest.approx(23 / 25)


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
    with pytest.raises(StreamError, match="ended after 15 frames; a label needs at least 16"):
        labels_of(classifier, live_frames(frames[:15]))
    with pytest.raises(ParameterError, match=r"snippets is 3, but .* was trained on trajectories"):
        window_of(classifier, Live(snippets=3))
    with pytest.raises(ParameterError, match="live_flow is 'fast'"):
        window_of(classifier, Live(live_flow="fast"))
    record = classifier.stage | {"parameters": classifier.stage["parameters"] | {"start_frame": 3}}
    with pytest.raises(ParameterError, match="was trained on frames 3 to None"):
        window_of(replace(classifier, stage=record), Live())
