"""Detectors on new videos: what streams is what was stored, and nothing is of the future."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from flowpipe.classify.finding import Finding, find_intervals
from flowpipe.cli import main
from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.io import video
from flowpipe.pipelines.detect import detect, detect_video
from flowpipe.pipelines.detection_data import labelled_steps
from flowpipe.pipelines.live import load_live, predict_live, window_of
from flowpipe.pipelines.train_detector import train_detector
from flowpipe.pipelines.warp import warp_flow
from flowpipe.prediction import load_classifier
from flowpipe.prediction.detection.load import load_detector
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.run import live_labels
from flowpipe.training.detection.files import load_detector_file, save_detector
from flowpipe.training.detection.scores import step_scores
from tests.helpers import media
from tests.helpers.detection import SMALL, STAGE, compute_features, record
from tests.helpers.live import FakeSource, images, live_frames, random_network

SEVERAL = Finding((0.3, 0.36, 0.4))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def detectors(recordings):
    """Folders of detectors by the streams that they are trained on."""
    folders = {}
    for streams in (("flow",), ("rgb",), ("flow", "rgb")):
        out = recordings.root / "-".join(("detector", *streams))
        train_detector(
            recordings.videos,
            [recordings.features[each] for each in streams],
            out,
            SMALL,
            splits=["without g1"],
            final=True,
            networks=[recordings.networks[each] for each in streams],
        )
        folders[streams] = out
    return folders


@pytest.mark.parametrize("streams", [("flow",), ("rgb",), ("flow", "rgb")])
def test_frame_by_frame_gives_the_scores_of_stored_features(recordings, detectors, streams):
    folder = detectors[streams]
    found = detect(folder, recordings.videos, finding=SEVERAL)
    assert found.failed == {}
    features = [recordings.features[each] for each in streams]
    labelled = labelled_steps(recordings.videos, features)
    detector = load_detector_file(folder / "final" / "detector.safetensors")
    assert [each.name for each in found.videos] == ["v0", "v1", "v2"]
    for each in found.videos:
        steps = labelled.steps[each.name]
        scores = step_scores(detector, steps.features)
        np.testing.assert_allclose(each.scores, scores, atol=1e-5)
        np.testing.assert_allclose(each.times, steps.times()[:, 0], atol=1e-6)
        stored = find_intervals(steps.times(), scores[:, :-1], detector.classes, SEVERAL)
        assert [(one.label, one.start) for one in each.intervals] == [
            (one.label, pytest.approx(one.start)) for one in stored
        ]
        assert [one.end for one in each.intervals] == pytest.approx([one.end for one in stored])


def test_a_video_that_is_shorter_than_a_window_has_one_score(tmp_path, recordings, detectors):
    path = media.write(tmp_path / "short.avi", media.moving(3))
    (each,) = detect(detectors["flow", "rgb"], path).videos
    assert each.scores.shape == (1, 3)
    assert each.times.tolist() == pytest.approx([2 / 25])
    single = media.write(tmp_path / "single.avi", media.moving(1))
    assert len(detect(detectors["rgb",], single).videos) == 1
    failed = detect(detectors["flow",], single).failed
    assert "has 1 frame, too few for a feature" in failed["single"]


def test_frames_that_come_later_change_no_score(tmp_path, detectors):
    frames = media.moving(24)
    others = [255 - frame for frame in media.moving(24, dx=-3, seed=5)]
    lossless = {"codec": "ffv1", "pix_fmt": "yuv444p"}
    one = media.write(tmp_path / "one.mkv", frames, **lossless)
    other = media.write(tmp_path / "other.mkv", frames[:16] + others[16:], **lossless)
    first, second = detect(detectors["flow", "rgb"], [one, other]).videos
    until = first.times < 15.5 / 25
    assert 0 < until.sum() < len(until)
    np.testing.assert_array_equal(first.scores[until], second.scores[until])
    assert not np.array_equal(first.scores[~until], second.scores[~until])


def test_intervals_are_given_out_before_the_video_ends(tmp_path, detectors, monkeypatch):
    """Each once, when the frames have come with which it is over."""
    detector = load_detector(detectors["rgb",], "cpu")
    path = media.write(tmp_path / "a.avi", [*media.moving(12), *media.moving(12, dx=-2, seed=3)])
    scores = iter([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0]] + [[0.1, 0.8, 0.1]] * 99)
    monkeypatch.setattr(
        "flowpipe.training.detection.scores.StepScorer.next",
        lambda scorer, feature: np.array(next(scores), np.float32),
    )
    decoded, given_out = [], []
    frames = video.frames

    def counted(*arguments, **options):
        for frame in frames(*arguments, **options):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(video, "frames", counted)
    done = detect_video(
        detector, Clip(path, "a"), Finding(), lambda _, each: given_out.append((each, len(decoded)))
    )
    assert [each for each, _ in given_out] == list(done.intervals)
    (first, seen), (second, at_end) = given_out
    assert (first.label, first.start, first.end) == ("left", 0.0, pytest.approx(6 / 25))
    assert seen == 7  # steps are frames 0, 3, 6
    assert (second.label, second.end, at_end) == ("right", pytest.approx(24 / 25), 24)


def test_the_command_writes_rows_a_table_and_a_page(tmp_path, recordings, detectors, capsys):
    out = tmp_path / "found"
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("detect", str(detectors["flow",]), str(recordings.videos), "--out", str(out)),
                *("--threshold", "0.3", "0.36", "--device", "cpu"),
            ]
        )
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert printed == (out / "intervals.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert rows
    assert list(rows[0]) == ["path", "start", "end", "label", "score"]
    content = json.loads((out / "intervals.json").read_text())
    stored = [one for each in content["videos"] for one in each["intervals"]]
    assert [float(row["start"]) for row in rows] == pytest.approx(
        [each["start"] for each in stored], abs=1e-3
    )
    assert content["failed"] == {}
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg") == page.count("data:image/svg+xml") == 3
    assert "<script" not in page


def test_lines_of_json_and_videos_that_fail(tmp_path, detectors, capsys):
    good = media.write(tmp_path / "good.avi", media.moving(20))
    bad = tmp_path / "bad.avi"
    bad.write_bytes(b"nothing")
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("detect", str(detectors["rgb",]), str(bad), str(good)),
                *("--format", "jsonl", "--threshold", "0.01"),
            ]
        )
    assert end.value.code == 1
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert {row["path"] for row in rows} == {str(good)}
    assert "failed: bad" in printed.err


def test_live_scores_are_those_of_the_same_frames(recordings, detectors):
    """Without JPEG between them, and with the solver of the training."""
    detector = load_detector(detectors["flow", "rgb"], "cpu")
    frames = images(23)
    live = Live(live_flow="trained", every=1000)
    (label,) = live_labels(
        detector, window_of(detector, live), FakeSource(live_frames(frames)), live, drops=False
    )
    features, scorer = detector.features(stored=False), detector.scorer()
    expected = [
        scorer.next(feature) for feature in map(features.add, frames) if feature is not None
    ][-1]
    probabilities = {name: p for name, _, p in label.top(3)}
    assert label.classes == ("left", "right", "background")
    np.testing.assert_allclose([probabilities[name] for name in label.classes], expected, atol=1e-6)
    assert label.time == pytest.approx(22 / 25)
    assert not label.calibrated


def test_a_live_source_that_jumps_begins_its_features_again(detectors):
    detector = load_detector(detectors["flow",], "cpu")
    frames = live_frames(images(10))
    jump = [
        replace(frame, follows=number != 5 and number > 0) for number, frame in enumerate(frames)
    ]
    live = Live(every=0.04)
    labels = list(
        live_labels(detector, window_of(detector, live), FakeSource(jump), live, drops=False)
    )
    # Windows of four fields: frames 0 to 4, and 5 to 9 after the jump.
    assert [round(label.time * 25) for label in labels] == [4, 9]


def test_a_file_is_played_by_its_folder(tmp_path, recordings, detectors):
    path = media.write(tmp_path / "clip.avi", media.moving(20))
    labels = list(predict_live(detectors["rgb",], path, every=0.3, device="cpu"))
    assert labels[-1].label in ("left", "right", "background")


def test_live_options_that_do_not_apply_are_refused(detectors):
    detector = load_detector(detectors["rgb",], "cpu")
    for live, reason in (
        (Live(window=2.0), "window is 2.0; it applies to classifiers"),
        (Live(snippets=2), "snippets is 2; it applies to classifiers"),
        (Live(live_flow="dis"), "networks see no flow"),
    ):
        with pytest.raises(ParameterError, match=reason):
            window_of(detector, live)


def test_detectors_and_classifiers_are_told_apart(tmp_path, recordings, detectors):
    with pytest.raises(ParameterError, match="holds a detector, which labels the frames"):
        load_classifier(detectors["rgb",])
    with pytest.raises(ParameterError, match="holds no detector"):
        load_detector(recordings.networks["rgb"])
    with pytest.raises(ParameterError, match="does not exist; the output folder of train"):
        load_detector(tmp_path / "gone")
    assert load_live(recordings.networks["rgb"], "cpu").classes == ("a", "b", "c")


def test_several_detectors_are_not_chosen_among(tmp_path, recordings, detectors):
    folder = tmp_path / "two"
    for name in ("01-a", "02-b"):
        shutil.copytree(detectors["rgb",] / "final", folder / name)
    with pytest.raises(ParameterError, match="holds 2 detectors, one for each split"):
        load_detector(folder)
    assert load_detector(folder / "01-a", "cpu").stride == 3


def test_networks_that_are_missing_or_others_are_named(tmp_path, recordings, detectors):
    folder = tmp_path / "copy"
    shutil.copytree(detectors["rgb",] / "final", folder)
    (network,) = folder.glob("network-1.*")
    network.unlink()
    with pytest.raises(ParameterError, match="has no network for the features 1; run train-det"):
        load_detector(folder)
    shutil.copy(recordings.networks["flow"] / "model.safetensors", network)
    with pytest.raises(FormatError, match="is not the network of the features: "):
        load_detector(folder)
    other = random_network(tmp_path / "other", "rgb", length=1, classes=("a", "b"))
    with pytest.raises(ParameterError, match="is of none of the features"):
        train_detector(
            recordings.videos, recordings.features["rgb"], tmp_path / "d", networks=[other.path]
        )
    with pytest.raises(ParameterError, match="holds no network"):
        train_detector(
            recordings.videos, recordings.features["rgb"], tmp_path / "d", networks=[folder]
        )


def test_networks_can_be_added_to_trained_detectors(tmp_path, recordings):
    arguments = (recordings.videos, recordings.features["rgb"], tmp_path / "d", SMALL)
    (path,) = train_detector(*arguments, splits=["without g0"])
    weights = path.read_bytes()
    with pytest.raises(ParameterError, match="has no network for the features"):
        load_detector(path.parent)
    train_detector(*arguments, splits=["without g0"], networks=[recordings.networks["rgb"]])
    assert path.read_bytes() == weights
    assert load_detector(path.parent, "cpu").classes == ("left", "right", "background")


def test_features_without_a_record_of_frames_take_no_new_video(tmp_path, recordings, detectors):
    folder = tmp_path / "copy"
    shutil.copytree(detectors["rgb",] / "final", folder)
    detector = load_detector_file(folder / "detector.safetensors")
    for changes, reason in (
        ({"source": None}, "have no record by"),
        ({"source": {"stage": "flow"}}, "does not say how"),
        ({"source": {"step": 1}}, "does not say how"),
        ({"crops": "many"}, "crops is"),
        ({"network": {"model": 3, "weights": "none"}}, "no|must"),
        ({"network": None}, "not of a network"),
    ):
        records = [{**each, **changes} for each in detector.about["features"]]
        save_detector(
            folder / "detector.safetensors",
            detector.network,
            {
                "model": "oadtr", "n_features": detector.n_features,
                "classes": list(detector.classes), "options": SMALL.options(), "standardise": False,
            },
            {**detector.about, "features": records},
            folder,
        )  # fmt: skip
        with pytest.raises((FormatError, ParameterError), match=reason):
            load_detector(folder)


def test_flow_without_the_motion_of_the_camera_streams_alike(tmp_path, recordings):
    """Warped flow is made of flow that went through JPEG, and goes through it again."""
    warped, features = tmp_path / "warped", tmp_path / "features"
    warp_flow(recordings.flow, warped, WarpStage(quality=90), workers=1)
    net = tmp_path / "net"
    random_network(net, "warped-flow", length=4, segments=1, stage=STAGE)
    compute_features(warped, features, net, 4)
    out = tmp_path / "detector"
    train_detector(
        recordings.videos, features, out, SMALL, final=True, splits=["without g0"], networks=[net]
    )
    labelled = labelled_steps(recordings.videos, features)
    detector = load_detector_file(out / "final" / "detector.safetensors")
    for each in detect(out, recordings.videos).videos:
        scores = step_scores(detector, labelled.steps[each.name].features)
        np.testing.assert_allclose(each.scores, scores, atol=1e-5)


def test_other_layouts_of_flow_stream_alike(tmp_path):
    """Stored as floating point, at another size, without the frames."""
    stage = FlowStage(parameters=Tvl1.fast(), size=(48, 36), layout="npy", dtype="float16")
    made = record(tmp_path, (14, 13), stride=2, stage=stage)
    out = tmp_path / "detector"
    train_detector(
        made.videos, made.features["flow"], out, SMALL, final=True, splits=["without g0"],
        networks=[made.networks["flow"]],
    )  # fmt: skip
    labelled = labelled_steps(made.videos, made.features["flow"])
    detector = load_detector_file(out / "final" / "detector.safetensors")
    for each in detect(out, made.videos).videos:
        scores = step_scores(detector, labelled.steps[each.name].features)
        np.testing.assert_allclose(each.scores, scores, atol=1e-5)
