"""``train-stream``, ``test-stream``, ``fuse`` and ``two-stream``, in this process, on few clips."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch

from flowpipe.classify.scores import Scores, SplitScores, load_scores, save_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, read_synthetic, write_synthetic
from flowpipe.models.weights import load_model
from flowpipe.pipelines import streams
from flowpipe.runner.inspect import stale
from flowpipe.training.distributed import torch_threads
from tests.helpers.clips import REPOSITORY, contents

TINY = ("--backbone", "shufflenet_v2_x0_5", "--size", "32", "--epochs", "1", "--batch-size", "4")
QUICK = ("--preset", "small", *TINY, "--workers", "0", "--device", "cpu")


@pytest.fixture
def run(capsys, no_flushing):
    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr().err
        return end.value.code, " ".join(re.sub(r"[│╭╮╰╯─]", " ", told).split())

    return run


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "videos"
    write_synthetic(
        root, Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=10)
    )
    return root


@pytest.fixture(scope="module")
def flow(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("stored") / "flow"
    options = ("--method", "farneback", "--native", "--frames", "--jobs", "0")
    with pytest.raises(SystemExit) as end:
        main(["extract-flow", str(videos), "--out", str(out), *options])
    assert end.value.code == 0
    return out


def test_train_test_and_fuse(run, videos, flow, tmp_path):
    for stream in ("rgb", "flow"):
        trained = tmp_path / stream
        command = ("train-stream", videos, flow, "--stream", stream, "--out", trained, *QUICK)
        status, told = run(*command)
        assert (status, "split1: epoch 1/1, loss" in told) == (0, True), told
        assert {path.name for path in trained.iterdir()} == {
            ".flowpipe", "01-split1", "02-split2"
        }  # fmt: skip
        assert len(list(csv.DictReader((trained / "01-split1/log.csv").open()))) == 1
        before = contents(trained)
        status, told = run(*command)
        assert (status, told) == (0, "split1: trained already split2: trained already")
        assert contents(trained) == before
        out = ("--out", tmp_path / f"{stream}-scores")
        test = ("test-stream", videos, flow, trained, "--segments", 2, "--crops", 1, *out)
        status, told = run(*test, "--workers", 0, "--device", "cpu")
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


def test_flow_of_another_bound_than_in_training_is_refused(run, videos, flow, tmp_path):
    out = tmp_path / "flow5"
    options = ("--method", "farneback", "--native", "--bound", "5", "--jobs", "0")
    assert run("extract-flow", videos, "--out", out, *options)[0] == 0
    network = tmp_path / "net"
    assert run("train-stream", videos, flow, "--out", network, *QUICK)[0] == 0
    test = ("--segments", 2, "--crops", 1, "--workers", 0, "--device", "cpu")
    status, told = run("test-stream", videos, out, network, "--out", tmp_path / "s", *test)
    assert (status, "bound 20.0" in told, "bound 5.0" in told) == (2, True, True), told
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "differ"),
    [
        (("--lr", "0.5"), "training.lr: 0.01 recorded, 0.5 requested"),
        (("--dropout", "0.1"), "network.dropout: 0.5 recorded, 0.1 requested"),
        (("--stream", "rgb"), 'snippets.modality: "flow" recorded, "rgb" requested'),
    ],
)
def test_other_parameters_are_not_mixed_in(run, videos, flow, tmp_path, options, differ):
    command = ("train-stream", videos, flow, "--out", tmp_path / "out", *QUICK)
    assert run(*command, "--split", "split1")[0] == 0
    before = contents(tmp_path / "out")
    status, told = run(*command, *options)
    assert (status, differ in told) == (2, True), told
    assert contents(tmp_path / "out") == before


def test_clips_that_lack_are_listed_before_training(run, videos, flow, tmp_path):
    some = tmp_path / "flow"
    shutil.copytree(flow, some)
    lost = sorted(some.rglob("*.zip"))[:2]
    for path in lost:
        path.unlink()
    status, told = run("train-stream", videos, some, "--out", tmp_path / "out", *QUICK)
    assert status == 2
    for path in lost:
        assert f"{path.parent.name}/{path.stem}: not in" in told
    assert not list(tmp_path.glob("out/[!.]*/*"))
    command = ("train-stream", videos, flow, "--out", tmp_path / "longer", *QUICK)
    status, told = run(*command, "--length", 10)
    assert (status, "12 of 12 clips cannot be used" in told) == (2, True), told
    assert "9 flow fields; a snippet takes 10" in told


def test_two_sets_share_a_network(run, videos, flow, tmp_path):
    also = ("--also-videos", videos, "--also-flow", flow)
    command = ("train-stream", videos, flow, "--out", tmp_path / "out", *QUICK, *also)
    assert run(*command, "--split", "split1")[0] == 0
    network, about = load_model(tmp_path / "out/01-split1/model.npz")
    assert network.classes == (6, 6)
    assert len(about["classes"]) == 2
    for task, status in ((1, 0), (2, 0), (3, 2)):
        test = ("test-stream", videos, flow, tmp_path / "out", "--split", "split1")
        out = ("--out", tmp_path / f"scores{task}", "--task", task)
        options = ("--segments", 1, "--crops", 1, "--workers", 0, "--device", "cpu")
        assert run(*test, *out, *options)[0] == status
    one, two = (load_scores(tmp_path / f"scores{task}/scores.npz").splits[0] for task in (1, 2))
    assert one.scores.shape == two.scores.shape == (6, 6)
    assert not np.array_equal(one.scores, two.scores)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--backbone", "lenet"), "backbone is 'lenet'"),
        (("--epochs", "0"), "epochs is 0"),
        (("--lr", "-1"), "lr is -1.0"),
        (("--weights", "none", "--batch-norm", "partial"), "batch_norm is 'partial'"),
        (("--weights", "w.pth"), "'w.pth' does not exist"),
        (("--split", "split9"), "has no split 'split9'; there are 'split1', 'split2'"),
        (("--also-flow", "x"), "--also-videos and --also-flow go together"),
        (("--device", "tpu9"), "device is 'tpu9'"),
        (("--workers", "-1"), "workers is -1"),
        (("--checkpoint-every", "0"), "checkpoint_every is 0"),
        (("--protocol", "some"), "protocol is 'some'"),
        (("--milestones", "3"), "milestones are (3.0,)"),
    ],
)
def test_wrong_values_are_named(run, videos, flow, tmp_path, options, told):
    status, said = run("train-stream", videos, flow, "--out", tmp_path / "out", *QUICK, *options)
    assert status == 2
    assert told in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out/[!.]*/*"))


@pytest.mark.slow
def test_the_whole_recipe_goes_on_where_it_stopped(run, videos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    tests = ("--test-segments", 2, "--test-crops", 1, "--frame-size", "64x48")
    fast = ("--tvl1.n-scales", 1, "--tvl1.warps", 1, "--tvl1.iterations", 5)
    command = ("two-stream", videos, "--out", out, *QUICK, *tests, *fast, "--jobs", 0)
    with monkeypatch.context() as patched:
        patched.setattr(streams, "score_clips", _interrupt)
        assert run(*command)[0] == 130
    assert not (out / "metrics.json").exists()
    models = {path: path.stat().st_mtime_ns for path in out.rglob("model.npz")}
    assert len(models) == 2  # of the stream that was to be tested first
    status, told = run(*command)
    assert status == 0, told
    assert {path: path.stat().st_mtime_ns for path in models} == models
    for name in ("rgb stream", "flow stream", "fused 1 : 1.5"):
        assert name in told
    assert {"metrics.json", "fused.npz", "report.html"} < {path.name for path in out.iterdir()}
    page = (out / "report.html").read_text()
    assert "rgb stream" in page
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
    status, told = run(*command, "--idt", idt, "--weights-of-fusion", 1, 1.5, 1000)
    assert (status, "trajectories 100.0 %" in told) == (0, True), told
    assert json.loads((out / "metrics.json").read_text())["accuracy"]["value"] == 1
    assert len(list(out.rglob("model.npz"))) == 4
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
    options = ("--backbone", "shufflenet_v2_x0_5", "--weights", "none", "--size", "32")
    options += ("--epochs", "2", "--batch-size", "4", "--workers", "0", "--test-segments", "2")
    script = REPOSITORY / "scripts/train_two_stream.py"
    arguments = (script, flow, *lists, *options, "--modality", modality, "--out", tmp_path / "o")
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert f"{modality}: accuracy" in capsys.readouterr().out
    scores = load_scores(tmp_path / "o/scores.npz")
    assert scores.splits[0].names == split.test
    assert len(list(csv.DictReader((tmp_path / "o/log.csv").open()))) == 2
    assert load_model(tmp_path / "o/model.npz")[0].classes == (6,)
    # A clip that lacks is named, and nothing is trained.
    lists[0].write_text(lists[0].read_text() + "orbit/none orbit\n")
    with pytest.raises(SystemExit, match="orbit/none: not in"):
        runpy.run_path(str(script), run_name="__main__")


def test_only_training_takes_several_processes(run, videos, flow, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for command in (
        ("test-stream", videos, flow, tmp_path / "models", "--out", tmp_path / "out"),
        ("two-stream", videos, "--out", tmp_path / "out"),
    ):
        status, told = run(*command, "--device", "cpu")
        assert (status, "torchrun started 2; train-stream takes several" in told) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_workers_and_their_number_change_nothing(run, videos, flow, tmp_path):
    for workers in ("0", "2"):
        out = ("--out", tmp_path / workers, "--split", "split1", "--epochs", 2)
        command = ("train-stream", videos, flow, "--preset", "small", *TINY, *out)
        assert run(*command, "--workers", workers, "--device", "cpu")[0] == 0
    one, two = (load_model(tmp_path / w / "01-split1/model.npz")[0].state_dict() for w in "02")
    assert all(torch.equal(one[name], two[name]) for name in one)
