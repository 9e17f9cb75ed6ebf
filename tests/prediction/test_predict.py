"""Labels of new videos: the scores of the evaluation, through the raw video; refusals; resuming."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import flowpipe
from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.base import Clip
from flowpipe.datasets.load import load_dataset
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.pipelines.warp import warp_flow
from flowpipe.prediction.trajectories import FORMAT
from flowpipe.training.parameters import Fusion, preset
from flowpipe.training.testing import Testing
from flowpipe.trajectories.parameters import TrajectoryStage, stage_of
from tests.helpers.clips import contents

ACTORS = ("daria", "denis", "eli")
ACTIONS = ("bend", "jack", "jump")
QUICK = Testing(test_clips=3, crops=1)


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
@pytest.mark.parametrize("folder", ["alone", "with-frames", "warped"])
def test_trajectories_on_stored_flow_are_those_of_the_baseline(videos, flow, tmp_path, folder):
    out = tmp_path / "idt"
    options = {"kind": "dt", "descriptors": ("hof", "mbhx"), "gaussians": 4, "size": (64, 48)}
    flowpipe.idt_baseline(videos, out, flow=flow / folder, workers=2, **options)
    splits = sorted((out / "classifiers").iterdir())
    assert largest_skew(splits, out / "scores.npz", videos) < 1e-4
    video, cache = videos / "jack/eli_jack.avi", tmp_path / "cache"
    (found,) = flowpipe.predict(splits[0], video, cache=cache, workers=0).predictions
    before = contents(cache)
    assert any(path.endswith("eli_jack.h5") for path in before)
    (again,) = flowpipe.predict(splits[0], video, cache=cache, workers=0).predictions
    np.testing.assert_array_equal(found.scores, again.scores)
    assert contents(cache).keys() == before.keys()
    with pytest.raises(ParameterError, match="was trained on flow from a folder"):
        list(flowpipe.predict_live(splits[0], video))


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
    # The evaluation keeps the network with its views of a clip, and calibrates it.
    kept = flowpipe.load_classifier(scores)
    asked = {name: value for name, value in asdict(QUICK).items() if value is not None}
    assert asked.items() <= asdict(kept.record.testing).items()  # the others are as resolved
    assert largest_skew([kept.path], scores / "scores.npz", videos) < 1e-4
    prediction = kept.predict(videos / "jump/daria_jump.avi")
    assert prediction.calibrated
    untrained = sorted(set(kept.classes) - set(ACTIONS))
    assert {label for label, _, _ in prediction.top(10)} == set(ACTIONS)
    assert untrained
    assert not flowpipe.load_classifier(net).predict(videos / "jump/daria_jump.avi").calibrated


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [False, True])
def test_a_fusion_gives_the_scores_of_its_fusion(videos, idt, tmp_path, softmax):
    tiny = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1, "batch_size": 6}
    streams = {name: preset("small", name).changed(**tiny) for name in ("rgb", "flow")}
    out = tmp_path / "fused"
    flowpipe.two_stream(
        videos,
        out,
        stage=flowpipe.FlowStage(
            parameters=flowpipe.FlowStage().parameters.fast(), size=(64, 48), frames=True
        ),
        streams=streams,
        testing=QUICK,
        fusion=Fusion(fusion_weights=(1, 1.5, 0.5), softmax=softmax),
        idt=idt / "fisher/scores.npz",
        splits=["without daria"],
        final=True,
        workers=2,
    )
    (split,) = (out / "classifiers").glob("0*")
    assert largest_skew([split], out / "fused.npz", videos) < 1e-4
    final = flowpipe.load_classifier(out)
    assert final.path.parent.name == "final"
    assert [type(each).__name__ for each in final.members] == [
        "NetworkClassifier",
        "NetworkClassifier",
        "TrajectoryClassifier",
    ]
    whole = flowpipe.predict(final, videos / "jump", workers=0)
    cached = flowpipe.predict(final, videos / "jump", cache=tmp_path / "cache", workers=2)
    assert [p.scores.tobytes() for p in cached.predictions] == [
        p.scores.tobytes() for p in whole.predictions
    ]
    (final.path.parent / "2" / "model.safetensors").unlink()
    with pytest.raises(ParameterError, match="holds no classifier"):
        flowpipe.load_classifier(out)


@pytest.mark.slow
def test_probabilities_of_the_baseline_are_calibrated(idt, videos):
    final = flowpipe.load_classifier(idt / "fisher")
    (split,) = (idt / "fisher/classifiers").glob("01-*")
    assert final.record.held_out == len(ACTORS) * len(ACTIONS)
    assert final.record == flowpipe.load_classifier(split).record
    prediction = final.predict(videos / "jack/eli_jack.avi")
    assert prediction.calibrated
    assert prediction.label == "jack"
    assert sum(prediction.probabilities > 0) == len(ACTIONS)


@pytest.mark.slow
def test_trajectories_share_the_score_of_a_fisher_vector(idt, videos, tmp_path):
    final = flowpipe.load_classifier(idt / "fisher")
    clip = Clip(videos / "jump/eli_jump.avi", "eli_jump")
    final.extraction(tmp_path)(clip, lambda units: None)
    scores = final.scores(clip, tmp_path)
    for row, index in enumerate(final.present):
        label = final.classes[index]
        shares = final.shares(clip, tmp_path, label)
        assert shares.sum() + final.intercept[row] == pytest.approx(scores[index], abs=1e-4)
    with pytest.raises(ParameterError, match="must be a class with training clips"):
        final.shares(clip, tmp_path, "wave1")


@pytest.mark.slow
def test_words_of_a_bag_speak_by_the_change_that_they_make(idt, videos, tmp_path):
    """The gradient of the decision is that of small changes of the histograms."""
    (split,) = (idt / "bow/classifiers").glob("01-*")
    bow = flowpipe.load_classifier(split)
    rng = np.random.default_rng(0)
    vectors = {name: rng.random(20).astype(np.float32) / 20 for name in ("hog", "mbhx")}
    for name in vectors:
        for word in (0, 7, 19):
            changed = [{**vectors, name: vectors[name].copy()} for _ in range(2)]
            step = vectors[name][word] / 16
            changed[0][name][word] -= step
            changed[1][name][word] += step
            before, after = (bow.decisions(each)[1] for each in changed)
            slope = (after - before) / (2 * step)
            gradient = bow._gradient(vectors, 1)[name][word]
            assert slope == pytest.approx(gradient, rel=0.02, abs=1e-3)


@pytest.mark.slow
def test_labels_and_what_speaks_for_them_are_drawn(idt, videos, tmp_path):
    video = videos / "jack/eli_jack.avi"
    flowpipe.predict(idt / "fisher", video, draw=tmp_path / "drawn", workers=0)
    (path,) = (tmp_path / "drawn").iterdir()
    assert path.name == "eli_jack.mp4"
    before, after = flowpipe.read_video(video), flowpipe.read_video(path)
    assert after.shape == (len(before), 2 * before.shape[1], 2 * before.shape[2], 3)
    changed = np.abs(after[:, ::2, ::2].astype(int) - before).max(axis=3) > 60
    still, panel = changed[:, 100:, 150:], changed[:, :20, :80]
    assert still.mean() < 0.001  # nothing moves there
    assert panel.mean() > 0.1
    moving = changed[20:, 40:]
    assert moving.any(axis=(1, 2)).mean() > 0.9


@pytest.mark.slow
def test_records_and_fusions_of_strangers_are_refused(idt, tmp_path):
    (source,) = (idt / "fisher/classifiers").glob("01-*")
    record = json.loads((source / "prediction.json").read_text())
    fusion = {
        "format": "flowpipe fusion 1",
        "of": "scores",
        "members": [{"name": "idt", "weight": 2}],
    }

    def refused(reason: str, record: object = record, fusion: object = fusion) -> None:
        shutil.rmtree(tmp_path / "f", ignore_errors=True)
        shutil.copytree(source, tmp_path / "f/1")
        (tmp_path / "f/1/prediction.json").write_text(json.dumps(record))
        (tmp_path / "f/fusion.json").write_text(json.dumps(fusion))
        with pytest.raises(FormatError, match=reason):
            flowpipe.load_classifier(tmp_path / "f")

    refused("'flowpipe prediction 9'", {**record, "format": "flowpipe prediction 9"})
    refused("temperature is 0", {**record, "temperature": 0})
    refused("temperature is 'hot'", {**record, "temperature": "hot"})
    refused("no record of a classifier", {"format": record["format"]})
    refused("task", {**record, "task": -1})
    refused("crops is 7", {**record, "testing": {"test_clips": 3, "crops": 7}})
    refused("test_clips is 'most'", {**record, "testing": {"test_clips": "most", "crops": 1}})
    refused("testing is 3", {**record, "testing": 3})
    refused("scores are no digests", {**record, "scores": [1]})
    refused("an object is expected", [record])
    refused("'flowpipe fusion 2'", fusion={**fusion, "format": "flowpipe fusion 2"})
    refused("is no fusion", fusion={**fusion, "members": []})
    refused("is no fusion", fusion={**fusion, "of": "ranks"})
    refused("a weight is expected", fusion={**fusion, "members": [{"name": "a", "weight": "b"}]})
    refused("lacks the folder '2'", fusion={**fusion, "members": fusion["members"] * 2})

    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/fusion.json").write_text(json.dumps(fusion))
    (tmp_path / "loop/1").symlink_to(tmp_path / "loop")
    with pytest.raises(FormatError, match="fusion of fusions"):
        flowpipe.load_classifier(tmp_path / "loop")


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
    assert json.loads(line)["calibrated"] is True
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
    [({"boxes": "sha256"}, "bounding boxes"), ({"flow": None}, "flow from a folder without a")],
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
