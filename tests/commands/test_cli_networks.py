"""``train``, ``evaluate``, ``fuse`` and ``two-stream``, in this process, on few clips."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpipe.classify.scores import Scores, SplitScores, load_scores, save_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, read_synthetic, write_synthetic
from flowpipe.models import MODELS
from flowpipe.models.resnet3d import SLOW_R50, ResNet3D
from flowpipe.models.table import Model
from flowpipe.models.weights import load_model
from flowpipe.pipelines import evaluate
from flowpipe.runner.inspect import stale
from flowpipe.training import FlowClips
from flowpipe.training.data import sampled
from flowpipe.training.distributed import torch_threads
from tests.helpers.clips import REPOSITORY, contents
from tests.helpers.quick import BOTH, QUICK, TINY


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.mark.slow
def test_train_test_and_fuse(run, videos, flow, tmp_path):
    for stream in ("rgb", "flow"):
        trained = tmp_path / stream
        command = ("train", videos, flow, "--modality", stream, "--out", trained, *QUICK)
        status, told = run(*command)
        assert (status, "split1: epoch 1/1, loss" in told) == (0, True), told
        assert {path.name for path in trained.iterdir()} == {
            ".flowpipe", "01-split1", "02-split2"
        }  # fmt: skip
        assert len(list(csv.DictReader((trained / "01-split1/log.csv").open()))) == 1
        before = contents(trained)
        status, told = run(*command)
        assert status == 0
        assert told.endswith("split1: trained already split2: trained already")
        assert contents(trained) == before
        out = ("--out", tmp_path / f"{stream}-scores")
        test = ("evaluate", trained, videos, flow, "--test-clips", 2, "--crops", 1, *out)
        status, told = run(*test, "--loader-workers", 0, "--device", "cpu")
        assert (status, f"{stream} " in told, "of 12 tests" in told) == (0, True, True)
    scores = load_scores(tmp_path / "flow-scores/scores.npz")
    assert [len(split.names) for split in scores.splits] == [6, 6]
    assert len(scores.classes) == 6
    files = [f"{tmp_path}/rgb-scores/scores.npz:1", f"{tmp_path}/flow-scores/scores.npz:1.5"]
    status, told = run("fuse", *files, "--out", tmp_path / "fused")
    assert (status, "fused 1 : 1.5" in told) == (0, True)
    both = load_scores(tmp_path / "fused/fused.npz")
    rgb = load_scores(tmp_path / "rgb-scores/scores.npz")
    expected = rgb.splits[1].scores + 1.5 * scores.splits[1].scores
    np.testing.assert_allclose(both.splits[1].scores, expected, rtol=1e-5, atol=1e-7)
    metrics = json.loads((tmp_path / "fused/metrics.json").read_text())
    assert len(metrics["streams"]) == 2
    assert all("mean_class_accuracy" in each for each in metrics["streams"].values())


@pytest.mark.parametrize(
    ("options", "differ"),
    [
        (("--lr", "0.5"), "training.lr: 0.01 recorded, 0.5 requested"),
        pytest.param(
            ("--dropout", "0.1"),
            "network.dropout: 0.5 recorded, 0.1 requested",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("--modality", "rgb"),
            'clip.modality: "flow" recorded, "rgb" requested',
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_parameters_are_not_mixed_in(run, videos, flow, tmp_path, options, differ):
    command = ("train", videos, flow, "--out", tmp_path / "out", *QUICK)
    assert run(*command, "--split", "split1")[0] == 0
    before = contents(tmp_path / "out")
    status, told = run(*command, *options)
    assert (status, differ in told) == (2, True), told
    assert contents(tmp_path / "out") == before


def test_missing_clips_are_listed_before_training(run, videos, flow, tmp_path):
    some = tmp_path / "flow"
    shutil.copytree(flow, some)
    lost = sorted(some.rglob("*.zip"))[:2]
    for path in lost:
        path.unlink()
    status, told = run("train", videos, some, "--out", tmp_path / "out", *QUICK)
    assert status == 2
    for path in lost:
        assert f"{path.parent.name}/{path.stem}: not in" in told
    assert not list(tmp_path.glob("out/[!.]*/*"))
    command = ("train", videos, flow, "--out", tmp_path / "longer", *QUICK)
    status, told = run(*command, "--length", 10)
    assert (status, "12 of 12 clips cannot be used" in told) == (2, True), told
    assert "9 flow fields; a snippet takes 10" in told


def test_unusable_clips_are_left_out_on_request(run, videos, flow, tmp_path):
    some = tmp_path / "flow"
    shutil.copytree(flow, some)
    split = read_synthetic(videos).splits[0]
    lost = (split.train[0], split.test[0])
    for name in lost:
        next(some.rglob(f"{name}.zip")).unlink()
    leave, one = "--leave-out-unusable", ("--split", "split1")
    command = ("train", videos, some, "--out", tmp_path / "net", *QUICK, *one)
    status, told = run(*command, leave)
    assert (status, f"left out: {lost[0]}: not in" in told) == (0, True), told
    assert f"split1: {len(split.train) - 1} clips" in told
    quick = ("--test-clips", 1, "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    test = ("evaluate", tmp_path / "net", videos, some, "--out", tmp_path / "s", *one, *quick)
    status, told = run(*test)
    assert (status, f"{lost[1]}: not in" in told) == (2, True), told
    assert not (tmp_path / "s/scores.npz").exists()
    status, told = run(*test, leave)
    assert (status, f"left out: {lost[1]}: not in" in told) == (0, True), told
    assert load_scores(tmp_path / "s/scores.npz").splits[0].names == split.test[1:]


def test_short_clips_are_found_before_any_flow(run, videos, tmp_path):
    some, short = tmp_path / "videos", tmp_path / "short"
    shutil.copytree(videos, some)
    write_synthetic(
        short, Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=4)
    )
    replaced = sorted(path for path in some.rglob("*") if path.suffix in (".avi", ".mp4"))[0]
    shutil.copy(short / replaced.relative_to(some), replaced)
    command = ("two-stream", some, "--out", tmp_path / "out", *BOTH, "--jobs", 0)
    status, told = run(*command, "--split", "split1")
    assert (status, "2 streams: 2 networks" in told) == (2, True), told
    assert "1 of 12 clips cannot be used" in told
    assert f"{replaced.stem}: 4 frames; a snippet takes 6" in told
    assert not list(tmp_path.glob("out/flow-*"))


@pytest.mark.slow
def test_two_sets_share_a_network(run, videos, flow, tmp_path):
    also = ("--also-videos", videos, "--also-flow", flow)
    command = ("train", videos, flow, "--out", tmp_path / "out", *QUICK, *also)
    assert run(*command, "--split", "split1")[0] == 0
    network, about = load_model(tmp_path / "out/01-split1/model.safetensors")
    assert network.classes == (6, 6)
    assert len(about["classes"]) == 2
    for task, status in ((1, 0), (2, 0), (3, 2)):
        test = ("evaluate", tmp_path / "out", videos, flow, "--split", "split1")
        out = ("--out", tmp_path / f"scores{task}", "--task", task)
        options = ("--test-clips", 1, "--crops", 1, "--loader-workers", 0, "--device", "cpu")
        assert run(*test, *out, *options)[0] == status
    one, two = (load_scores(tmp_path / f"scores{task}/scores.npz").splits[0] for task in (1, 2))
    assert one.scores.shape == two.scores.shape == (6, 6)
    assert not np.array_equal(one.scores, two.scores)


class Toy(torch.nn.Module):
    """A network of one layer on the mean of a clip."""

    head_name = "layer"

    def __init__(self, clip) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(clip.channels_per_frame, 4, 1)
        self.layer = torch.nn.Linear(4, 1)
        self.n_features = 4

    def features(self, clips):
        return self.conv(clips).mean(dim=(3, 4)).transpose(1, 2)


def test_a_model_is_one_function_and_one_entry(run, videos, flow, tmp_path, monkeypatch, capsys):
    toy = Model(Toy, "frames", "a toy", "nowhere", input=(("segments", 1), ("length", 4)))
    monkeypatch.setitem(MODELS, "toy", toy)
    quick = ("--preset", "small", *TINY[2:], "--loader-workers", "0", "--device", "cpu")
    command = ("train", videos, flow, "--model", "toy", "--split", "split1", *quick)
    status, told = run(*command, "--out", tmp_path / "net")
    assert (status, "split1: 6 clips, toy" in told) == (0, True), told
    test = ("--split", "split1", "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    status, told = run("evaluate", tmp_path / "net", videos, flow, "--out", tmp_path / "s", *test)
    assert (status, "of 6 tests" in told) == (0, True), told
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "a toy" in capsys.readouterr().out
    status, told = run("train", videos, flow, "--model", "lenet", *quick)
    assert (status, "model is 'lenet'" in told, "toy" in told) == (2, True, True)


@pytest.mark.parametrize(
    "model",
    ["tsm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("trn-multiscale", "lrcn"))],
)
def test_networks_that_relate_segments_train_and_test(run, videos, flow, tmp_path, model):
    small = ("--preset", "small", "--backbone", "mobilenet_v2", "--input-size", "32")
    small += ("--epochs", "1", "--batch-size", "4", "--segments", "2", "--length", "2")
    small += ("--loader-workers", "0", "--device", "cpu")
    command = ("train", videos, flow, "--model", model, "--split", "split1", *small)
    assert run(*command, "--out", tmp_path / "net")[0] == 0
    test = ("--split", "split1", "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    status, told = run("evaluate", tmp_path / "net", videos, flow, "--out", tmp_path / "s", *test)
    assert (status, "of 6 tests" in told) == (0, True), told


def test_flow_of_another_bound_than_in_training_is_refused(run, videos, flow, tmp_path):
    out = tmp_path / "flow5"
    options = ("--method", "farneback", "--native", "--bound", "5", "--jobs", "0")
    assert run("extract-flow", videos, "--out", out, *options)[0] == 0
    network = tmp_path / "net"
    assert run("train", videos, flow, "--out", network, "--split", "split1", *QUICK)[0] == 0
    test = ("--test-clips", 2, "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    test += ("--split", "split1", "--out", tmp_path / "s")
    status, told = run("evaluate", network, videos, out, *test)
    assert (status, "bound 20.0" in told, "bound 5.0" in told) == (2, True, True), told
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_test_goes_on_with_more_splits(run, videos, flow, tmp_path):
    network = tmp_path / "net"
    assert run("train", videos, flow, "--out", network, *QUICK)[0] == 0
    test = ("evaluate", network, videos, flow, "--test-clips", 2, "--crops", 1)
    test += ("--loader-workers", 0, "--device", "cpu", "--out", tmp_path / "s")
    assert run(*test, "--split", "split1")[0] == 0
    part = tmp_path / "s/01-split1.npz"
    before = part.stat().st_mtime_ns
    assert run(*test)[0] == 0
    assert part.stat().st_mtime_ns == before
    assert [len(split.names) for split in load_scores(tmp_path / "s/scores.npz").splits] == [6, 6]
    # A fusion is identified by the content of its scores.
    fuse = ("fuse", f"{tmp_path}/s/scores.npz:1", "--out", tmp_path / "fused")
    assert run(*fuse)[0] == 0
    assert run(*fuse)[0] == 0
    status, told = run("fuse", f"{tmp_path}/s/scores.npz:2", "--out", tmp_path / "fused")
    assert (status, "holds outputs of other settings" in told) == (2, True)


@pytest.mark.slow
def test_the_whole_recipe_goes_on_where_it_stopped(run, videos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    tests = ("--test-clips", 2, "--crops", 1, "--frame-size", "64x48")
    fast = ("--tvl1.n-scales", 1, "--tvl1.warps", 1, "--tvl1.iterations", 5)
    command = ("two-stream", videos, "--out", out, *BOTH, *tests, *fast, "--jobs", 0)
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "score_clips", _interrupt)
        assert run(*command)[0] == 130
    assert not (out / "metrics.json").exists()
    models = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert len(models) == 2  # of the stream that was to be tested first
    status, told = run(*command)
    assert status == 0, told
    assert {path: path.stat().st_mtime_ns for path in models} == models
    for name in ("rgb stream", "flow stream", "fused 1 : 1.5"):
        assert name in told
    assert {"metrics.json", "fused.npz", "report.html"} < {path.name for path in out.iterdir()}
    page = (out / "report.html").read_text()
    assert "rgb stream" in page
    assert "<h2>Training</h2>" in page
    assert "fused, scores 1 : 1.5" in page
    before = contents(out)
    assert run(*command)[0] == 0
    after = contents(out)
    timed = {name for name in before if name.endswith("report.html")}
    assert {k: v for k, v in after.items() if k not in timed} == {
        k: v for k, v in before.items() if k not in timed
    }
    # Trajectories join; networks stay.
    fused = load_scores(out / "fused.npz")
    idt = tmp_path / "idt.npz"
    sure = np.eye(6, dtype=np.float32)
    perfect = tuple(
        SplitScores(s.split, s.names[::-1], s.labels[::-1].copy(), sure[s.labels[::-1]])
        for s in fused.splits
    )
    save_scores(idt, Scores(fused.classes, perfect), tmp_path)
    status, told = run(*command, "--idt", idt, "--fusion-weights", 1, 1.5, 1000)
    assert (status, "trajectories 100.0 %" in told) == (0, True), told
    assert json.loads((out / "metrics.json").read_text())["accuracy"]["value"] == 1
    # Kept classifiers are the files of the four networks.
    assert len({path.stat().st_ino for path in out.rglob("model.safetensors")}) == 4
    assert [folder.name.partition("-")[0] for folder in stale(out)] == ["fuse"]


def _interrupt(*arguments, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("modality", ["flow", "rgb"])
def test_the_script_to_copy(flow, videos, tmp_path, monkeypatch, capsys, modality, no_flushing):
    split = read_synthetic(videos).splits[0]
    for name, half in (("train", split.train), ("test", split.test)):
        lines = [f"{clip} {clip.partition('/')[0]}\n" for clip in half]
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    lists = (tmp_path / "train.txt", tmp_path / "test.txt")
    options = ("--backbone", "shufflenet_v2_x0_5", "--weights", "none", "--input-size", "32")
    options += (
        "--epochs",
        "2",
        "--batch-size",
        "4",
        "--loader-workers",
        "0",
        "--test-clips",
        "2",
    )
    script = REPOSITORY / "scripts/train_two_stream.py"
    arguments = (script, flow, *lists, *options, "--modality", modality, "--out", tmp_path / "o")
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert f"{modality}: accuracy" in capsys.readouterr().out
    scores = load_scores(tmp_path / "o/scores.npz")
    assert scores.splits[0].names == split.test
    assert len(list(csv.DictReader((tmp_path / "o/log.csv").open()))) == 2
    assert load_model(tmp_path / "o/model.safetensors")[0].classes == (6,)
    # A clip that lacks is named, and nothing is trained.
    lists[0].write_text(lists[0].read_text() + "orbit/none orbit\n")
    with pytest.raises(SystemExit, match="orbit/none: not in"):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.slow
def test_workers_and_their_number_change_nothing(run, videos, flow, tmp_path):
    for workers in ("0", "2"):
        out = ("--out", tmp_path / workers, "--split", "split1", "--epochs", 2)
        command = ("train", videos, flow, "--preset", "small", *TINY, *out)
        assert run(*command, "--loader-workers", workers, "--device", "cpu")[0] == 0
    one, two = (
        load_model(tmp_path / w / "01-split1/model.safetensors")[0].state_dict() for w in "02"
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_long_clip_is_read_in_parts(run, videos, flow, tmp_path, monkeypatch):
    """All frames of a clip are tested, a snippet at a time."""

    def build(clip):
        return ResNet3D(SLOW_R50, clip.channels_per_frame, 1, width=8)

    monkeypatch.setitem(MODELS, "slow-r50", replace(MODELS["slow-r50"], build=build))
    net = ("--model", "slow-r50", "--length", 4, "--frame-stride", 1, "--input-size", 32)
    options = ("--preset", "small", *net, "--epochs", 1, "--loader-workers", 0, "--device", "cpu")
    out = tmp_path / "net"
    assert run("train", videos, flow, *options, "--split", "split1", "--out", out)[0] == 0
    read = []
    levels = FlowClips.levels

    def recorded(self, index, snippets, view=None):
        read.append(snippets)
        return levels(self, index, snippets, view)

    monkeypatch.setattr(sampled, "_WHOLE", 4)
    monkeypatch.setattr(FlowClips, "levels", recorded)
    test = ("--split", "split1", "--test-clips", "all", "--crops", 1, "--device", "cpu")
    status, told = run("evaluate", out, videos, flow, *test, "--out", tmp_path / "scores")
    assert status == 0, told
    assert {len(snippets) for snippets in read} == {1}
    fields = np.concatenate([snippets.ravel() for snippets in read])
    n_clips = len(load_scores(tmp_path / "scores/scores.npz").splits[0].names)
    assert np.bincount(fields).min() >= n_clips  # every field, of each clip
