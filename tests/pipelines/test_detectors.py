"""Training and evaluating detectors on stored features of a set with labelled intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from flowpipe.classify.per_frame import frame_metrics
from flowpipe.cli import main
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import load_arrays
from flowpipe.models.detectors import DETECTORS, DetectorEntry
from flowpipe.models.oadtr import Detection
from flowpipe.pipelines.detection_data import labelled_steps
from flowpipe.pipelines.evaluate_detector import SCORES, evaluate_detector
from flowpipe.pipelines.train_detector import train_detector
from flowpipe.runner.provenance import StageMismatchError, read_stage
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.detection.parameters import DetectorTraining
from tests.helpers.detection import store_features

pytestmark = pytest.mark.usefixtures("no_flushing")

LINEAR = DetectorTraining("linear", epochs=12, batch_size=8, lr=0.05, drop_every=None)
RATE = 10.0
ROWS = {
    "v1.avi": [("run", 0.5, 1.5), ("jump", 2.0, 3.0)],
    "v2.avi": [("jump", 0.0, 1.0), ("run", 2.5, 4.0)],
    "v3.avi": [("run", 1.0, 2.0), ("jump", 2.5, 3.5), ("jump", 0.2, 0.6)],
}


def write_list(root, rows=ROWS, more=()):
    lines = ["path,start,end,label,group"]
    for path, intervals in rows.items():
        (root / path).touch()
        for label, start, end in intervals:
            lines.append(f"{path},{start},{end},{label},{path[:2]}")
    (root / "intervals.csv").write_text("\n".join([*lines, *more]) + "\n")
    return root / "intervals.csv"


def told_features(rows=ROWS, frames: int = 40, noise: float = 0.3) -> dict[str, np.ndarray]:
    """Features that tell the classes of each frame."""
    arrays = {}
    for number, (path, intervals) in enumerate(rows.items()):
        array = np.random.default_rng(number).normal(0, noise, (frames, 4))
        for label, start, end in intervals:
            array[round(start * RATE) : round(end * RATE), ("run", "jump").index(label)] += 2
        arrays[path.removesuffix(".avi")] = array
    return arrays


@pytest.fixture
def made(tmp_path):
    """A list of intervals, and features that tell them."""
    return write_list(tmp_path), store_features(tmp_path / "features", told_features())


def test_what_the_features_tell_is_found(tmp_path, made):
    dataset, features = made
    paths = train_detector(dataset, features, tmp_path / "d", LINEAR)
    assert [path.parent.name for path in paths] == [
        "01-without-v1", "02-without-v2", "03-without-v3",
    ]  # fmt: skip
    metrics = evaluate_detector(tmp_path / "d", dataset, features, tmp_path / "s")
    assert metrics.frames.mean_average_precision > 0.95
    assert metrics.intervals.mean_average_precision[0] > 0.8
    assert metrics.frames.n_frames == 120
    assert metrics.chance == pytest.approx(np.mean([35, 34]) / 120)
    content = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert content["frames"] == metrics.to_json()["frames"]
    page = (tmp_path / "s" / "report.html").read_text()
    assert page.count("data:image/svg+xml") == 3


def test_the_metrics_are_those_of_the_stored_scores(tmp_path, made):
    dataset, features = made
    train_detector(dataset, features, tmp_path / "d", replace(LINEAR, epochs=1))
    metrics = evaluate_detector(tmp_path / "d", dataset, features, tmp_path / "s")
    described, arrays = load_arrays(tmp_path / "s" / "scores.npz", SCORES)
    labelled = labelled_steps(dataset, features)
    names = [video["name"] for video in described["videos"]]
    assert names == ["v1", "v2", "v3"]
    again = frame_metrics(
        np.concatenate([labelled.labels(name).classes for name in names]),
        np.concatenate([arrays[f"{number}/scores"] for number in range(3)]),
        described["classes"],
    )
    np.testing.assert_array_equal(again.average_precision, metrics.frames.average_precision)
    assert arrays["0/present"].tolist() == list(range(40))


def test_only_intervals_of_training_videos_train_again(tmp_path, made, caplog):
    caplog.set_level("INFO", logger="flowpipe")
    dataset, features = made
    arguments = (dataset, features, tmp_path / "d", replace(LINEAR, epochs=1))
    paths = train_detector(*arguments)
    before = [path.read_bytes() for path in paths]
    write_list(tmp_path, {**ROWS, "v1.avi": [("run", 0.5, 1.0), ("jump", 2.0, 3.0)]})
    train_detector(*arguments)
    after = [path.read_bytes() for path in paths]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    assert "without v2: intervals of training videos have changed" in caplog.text


def test_ambiguous_steps_do_not_count(tmp_path, made):
    _, features = made
    dataset = write_list(tmp_path, more=["v1.avi,1.0,2.0,Ambiguous,v1"])
    labelled = labelled_steps(dataset, features)
    targets = labelled.labels("v1").targets()
    assert targets[5:15].argmax(axis=1).tolist() == [1] * 10  # run, though ambiguous from 1 s on
    assert not targets[15:20].any()
    train_detector(labelled.dataset, features, tmp_path / "d", replace(LINEAR, epochs=1))
    metrics = evaluate_detector(tmp_path / "d", labelled.dataset, features, tmp_path / "s")
    assert metrics.frames.n_frames == 115


def test_intervals_past_the_end_of_a_video_are_cut(tmp_path, made, caplog):
    _, features = made
    dataset = write_list(tmp_path, {**ROWS, "v2.avi": [("jump", 0.0, 1.0), ("run", 2.5, 9.0)]})
    labelled = labelled_steps(dataset, features)
    assert labelled.dataset.intervals["v2"][1].end == 4.0
    assert "'v2' (4.00 s, intervals up to 9.00 s)" in caplog.text


def test_videos_without_features_are_listed_or_left_out(tmp_path, made, caplog):
    dataset, features = made
    (features / "v2.npy.json").unlink()
    with pytest.raises(UnusableClipsError, match="1 of 3 clips cannot be used:\n  v2: not in"):
        train_detector(dataset, features, tmp_path / "d", LINEAR)
    assert not (tmp_path / "d").exists()
    paths = train_detector(
        dataset, features, tmp_path / "d", replace(LINEAR, epochs=1), leave_out_unusable=True
    )
    assert len(paths) == 2
    assert "left out: v2: not in" in caplog.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"length": 1, "stride": 2}, "stride"),
        ({"network": {"model": "tsm", "clip": {"modality": "rgb"}, "weights": "none"}}, "tsm"),
        ({"network": {"model": "tsn", "clip": {"modality": "rgb"}, "weights": "x"}}, "weights"),
        ({"crops": 10}, "crops"),
    ],
)
def test_features_of_another_network_or_stride_are_refused(tmp_path, made, changes, reason):
    dataset, features = made
    train_detector(dataset, features, tmp_path / "d", replace(LINEAR, epochs=1))
    stride = changes.get("stride", 1)
    arrays = {name: array[::stride] for name, array in told_features().items()}
    frames = dict.fromkeys(arrays, 40)
    other = store_features(
        tmp_path / "other", arrays, stride=stride, frames=frames, changes=changes
    )
    with pytest.raises(ParameterError, match=f"trained on other features than those .*{reason}"):
        evaluate_detector(tmp_path / "d", dataset, other, tmp_path / "s")
    with pytest.raises(ParameterError, match="on 1 folders of features; 2 are given"):
        evaluate_detector(tmp_path / "d", dataset, [features, features], tmp_path / "s")
    with pytest.raises(StageMismatchError):
        train_detector(dataset, other, tmp_path / "d", replace(LINEAR, epochs=1))
    assert not (tmp_path / "s").exists()


def test_detectors_of_other_classes_are_refused(tmp_path, made):
    dataset, features = made
    train_detector(dataset, features, tmp_path / "d", replace(LINEAR, epochs=1))
    renamed = {
        path: [("hop" if label == "jump" else label, *times) for label, *times in intervals]
        for path, intervals in ROWS.items()
    }
    other = write_list(tmp_path, renamed)
    with pytest.raises(FormatError, match=r"trained on the classes jump, run; those .* hop, run"):
        evaluate_detector(tmp_path / "d", other, features, tmp_path / "s")


def test_splits_can_be_chosen_and_another_one_is_an_error(tmp_path, made):
    dataset, features = made
    quick = replace(LINEAR, epochs=1)
    (path,) = train_detector(dataset, features, tmp_path / "d", quick, splits=["without v2"])
    metrics = evaluate_detector(
        tmp_path / "d", dataset, features, tmp_path / "s", splits=["without v2"]
    )
    assert metrics.frames.n_frames == 40
    with pytest.raises(FormatError, match=r"01-without-v1.* does not exist; a trained detector"):
        evaluate_detector(tmp_path / "d", dataset, features, tmp_path / "all")
    with pytest.raises(ParameterError, match="has no split 'v9'; there are 'without v1'"):
        train_detector(dataset, features, tmp_path / "d", quick, splits=["v9"])
    assert read_stage(tmp_path / "d")["features"] == [read_stage(features)]
    assert path.is_file()


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(end.value.code)


def test_the_commands(tmp_path, made, capsys):
    dataset, features = made
    trained = ("--out", tmp_path / "d", "--model", "linear", "--epochs", 2, "--final")
    assert run_main("train-detector", dataset, features, *trained) == 0
    assert (tmp_path / "d" / "final" / "detector.safetensors").is_file()
    assert run_main(
        "evaluate-detector", tmp_path / "d", dataset, features, "--out", tmp_path / "s",
        "--nms", 0.3,
    ) == 0  # fmt: skip
    assert "linear: per-frame mAP" in capsys.readouterr().err
    stage = read_stage(tmp_path / "s")
    assert stage["nms"] == 0.3
    assert stage["threshold"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert run_main("train-detector", dataset, features, "--model", "linear", "--steps", 4) == 2
    assert "steps is 4; it applies to oadtr and lstm" in capsys.readouterr().err


class Toy(nn.Module):
    steps = 3

    def __init__(self, n_features, classes, bonus=0.0):
        super().__init__()
        self.now = nn.Linear(n_features, classes)
        self.bonus = bonus

    def forward(self, features):
        scores = self.now(features.mean(dim=1)) + self.bonus
        return Detection(scores, scores[:, None][:, :0])


def test_a_detector_is_one_entry_of_the_table(tmp_path, made, monkeypatch, capsys):
    dataset, features = made
    entry = DetectorEntry("a toy", "", f"{__name__}:Toy")
    monkeypatch.setitem(DETECTORS, "toy", entry)
    options = ("--model", "toy", "--epochs", 1, "--out", tmp_path / "d")
    assert run_main("train-detector", dataset, features, *options) == 0
    assert run_main("train-detector", "--help") == 0
    assert "oadtr,lstm,linear,toy" in "".join(capsys.readouterr().out.split())
    assert run_main("train-detector", dataset, features, "--model", "no") == 2
