"""Labels of new videos: the scores of the evaluation, through the raw video; refusals; resuming."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import flowpipe
from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.load import load_dataset
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.pipelines.warp import warp_flow
from flowpipe.prediction.trajectories import FORMAT
from flowpipe.training.testing import Testing
from flowpipe.trajectories.parameters import TrajectoryStage, stage_of

ACTORS = ("daria", "denis", "eli")
ACTIONS = ("bend", "jack", "jump")
QUICK = Testing(test_segments=3, crops=1)


@pytest.fixture(scope="module")
def videos(test_data, tmp_path_factory) -> Path:
    """Nine real clips of Weizmann's: three actions of three actors."""
    root = tmp_path_factory.mktemp("weizmann") / "weizmann"
    for action in ACTIONS:
        (root / action).mkdir(parents=True)
        for actor in ACTORS:
            name = f"{action}/{actor}_{action}.avi"
            shutil.copy(test_data / "weizmann" / name, root / name)
    return root


def largest_skew(classifiers: list[Path], scores: Path, videos: Path, testing=None) -> float:
    """Largest difference between the scores of predictions and those of an evaluation."""
    paths = {clip.name: clip.path for clip in load_dataset(videos).clips}
    skews = []
    found = load_scores(scores)
    assert len(classifiers) == len(found.splits)
    for folder, split in zip(classifiers, found.splits, strict=True):
        classifier = flowpipe.load_classifier(folder, testing)
        assert classifier.classes == found.classes
        for name, expected in zip(split.names, split.scores, strict=True):
            got = classifier.predict(paths[name]).scores
            skews.append(np.abs(got - expected).max())
    return max(skews)


@pytest.fixture(scope="module")
def idt(videos, tmp_path_factory):
    """Folders of the baseline by encoding."""
    root = tmp_path_factory.mktemp("idt")
    options = {"kind": "dt", "descriptors": ("hog", "mbhx"), "workers": 2}
    flowpipe.idt_baseline(
        videos, root / "fisher", encoding="fisher", gaussians=4, final=True, **options
    )
    flowpipe.idt_baseline(videos, root / "bow", encoding="bow", clusters=20, **options)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["fisher", "bow"])
def test_a_split_s_classifier_gives_the_scores_of_the_baseline(idt, videos, encoding):
    out = idt / encoding
    splits = sorted(path for path in (out / "classifiers").iterdir() if path.name != "final")
    assert largest_skew(splits, out / "scores.npz", videos) < 1e-4


@pytest.mark.slow
def test_the_final_classifier_has_seen_every_clip(idt, videos, tmp_path, capsys):
    out = tmp_path / "labels.csv"
    with pytest.raises(SystemExit) as end:
        main(
            [
                "predict", str(idt / "fisher"), str(videos), "--format", "csv", "--top", "1",
                "--out", str(out), "--jobs", "2",
            ]
        )  # fmt: skip
    assert end.value.code == 0, capsys.readouterr().err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip"].split("/")[0] for row in rows] == [row["label"] for row in rows]
    assert len(rows) == 9


@pytest.fixture(scope="module")
def flow(videos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("flow")
    fast = {"parameters": flowpipe.FlowStage().parameters.fast(), "size": (64, 48)}
    flowpipe.extract_flow(videos, root / "with-frames", frames=True, workers=2, **fast)
    flowpipe.extract_flow(videos, root / "alone", layout="npy", bound=None, workers=2, **fast)
    warp_flow(root / "with-frames", root / "warped", WarpStage())
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modality", "folder"),
    [
        ("flow", "with-frames"),
        ("flow", "alone"),
        ("warped-flow", "warped"),
        ("rgb", "with-frames"),
        ("rgb", "alone"),
        ("rgb-diff", "with-frames"),
    ],
)
def test_a_network_gives_the_scores_of_its_evaluation(videos, flow, tmp_path, modality, folder):
    tiny = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 2, "batch_size": 6}
    net, scores = tmp_path / "net", tmp_path / "scores"
    labelled = (videos, flow / folder)
    flowpipe.train(*labelled, net, "small", splits=["without daria"], modality=modality, **tiny)
    flowpipe.evaluate(net, *labelled, scores, QUICK, splits=["without daria"])
    (folder_of_split,) = net.glob("*-*")
    skew = largest_skew([folder_of_split], scores / "scores.npz", videos, QUICK)
    assert skew < 1e-4


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_is_labelled(idt, videos, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    shutil.copy(videos / "jack/eli_jack.avi", tmp_path / "new/good.avi")
    (tmp_path / "new/bad.avi").write_text("no video")
    arguments = ["predict", idt / "fisher", tmp_path / "new", "--format", "jsonl", "--jobs", 0]
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    printed = capsys.readouterr()
    assert end.value.code == 1
    (line,) = printed.out.splitlines()
    assert json.loads(line)["label"] == "jack"
    assert json.loads(line)["calibrated"] is False
    assert "bad" in printed.err


@pytest.mark.slow
def test_a_cache_resumes_and_gives_the_same_labels(idt, videos, tmp_path):
    fisher, cache = idt / "fisher", tmp_path / "cache"
    whole = flowpipe.predict(fisher, videos / "bend", workers=0)
    flowpipe.predict(fisher, videos / "bend/eli_bend.avi", cache=cache, workers=0)
    (table,) = cache.rglob("*.h5")
    before = table.stat().st_mtime_ns
    flowpipe.predict(fisher, videos / "bend", cache=cache, workers=0)
    again = flowpipe.predict(fisher, videos / "bend", cache=cache, workers=2)
    assert table.stat().st_mtime_ns == before
    assert [(p.name, *p.scores) for p in again.predictions] == [
        (p.name, *p.scores) for p in whole.predictions
    ]
    with pytest.raises(FlowpipeError, match="kind"):
        flowpipe.predict(fisher, videos / "bend", cache=_other_cache(tmp_path, videos), workers=0)


def _other_cache(tmp_path: Path, videos: Path) -> Path:
    out = tmp_path / "other"
    flowpipe.extract_trajectories(videos / "bend/eli_bend.avi", out, kind="idt", workers=0)
    return out


@pytest.mark.slow
def test_files_of_strangers_are_refused(idt, tmp_path):
    path = idt / "fisher/classifiers/final/classifier.safetensors"
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["flowpipe"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def refused(reason: str, described: object = about, **changed: np.ndarray | None) -> None:
        content = {k: v for k, v in {**arrays, **changed}.items() if v is not None}
        out = tmp_path / "classifier.safetensors"
        safetensors.numpy.save_file(content, out, {"flowpipe": json.dumps(described)})
        with pytest.raises(FormatError, match=reason):
            flowpipe.load_classifier(out)

    refused("has format 'flowpipe classifier 9'", {**about, "format": "flowpipe classifier 9"})
    refused("has format None", [FORMAT])
    refused("names of classes", {**about, "classes": ["one", "two"]})
    refused("trajectories", {**about, "trajectories": {"flow": "farneback"}})
    refused("no array 'weights.hog'", **{"weights.hog": None})
    refused(r"array 'weights.hog' .* is expected", **{"weights.hog": arrays["weights.hog"][:, 1:]})
    refused("not finite", intercept=arrays["intercept"] * np.nan)
    refused("no array 'encoder.mbhx", **dict.fromkeys([k for k in arrays if "mbhx" in k]))
    (tmp_path / "classifier.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="not a whole classifier"):
        flowpipe.load_classifier(tmp_path)


@pytest.mark.slow
def test_a_folder_of_several_classifiers_names_them(idt):
    with pytest.raises(ParameterError, match=r"holds 3 classifiers, .*'classifiers/01-without"):
        flowpipe.load_classifier(idt / "bow")
    with pytest.raises(ParameterError, match="is no network"):
        flowpipe.load_classifier(idt / "fisher", QUICK)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"boxes": "sha256"}, "bounding boxes"), ({"flow": {"stage": "flow"}}, "flow from a folder")],
)
def test_trajectories_that_need_more_than_a_video_are_refused(changed, reason):
    record = TrajectoryStage().description()
    assert stage_of(record, "c.safetensors") == TrajectoryStage()
    with pytest.raises(ParameterError, match=rf"'c\.safetensors' was made .*{reason}"):
        stage_of({**record, **changed}, "c.safetensors")


def test_what_is_no_classifier_is_said(tmp_path):
    with pytest.raises(ParameterError, match="does not exist"):
        flowpipe.load_classifier(tmp_path / "none")
    with pytest.raises(ParameterError, match="holds no classifier"):
        flowpipe.load_classifier(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(FormatError, match="is no classifier"):
        flowpipe.load_classifier(tmp_path / "a.txt")
