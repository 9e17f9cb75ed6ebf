"""Networks of two inputs from the command line: both streams alone, then joined, on new videos."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.errors import ParameterError
from flowpipe.models.weights import load_model
from flowpipe.prediction import load_classifier
from flowpipe.prediction.live.networks import NetworkWindow
from flowpipe.prediction.live.parameters import Live
from flowpipe.training.distributed import torch_threads
from tests.helpers.trained import assert_same_model

SMALL = ("--preset", "small", "--backbone", "shufflenet_v2_x0_5", "--input-size", 32, "--epochs", 1)
SMALL += ("--batch-size", 3, "--loader-workers", 0, "--device", "cpu")
BOTH = (*SMALL, "--model", "two-stream-fusion", "--segments", 2, "--length", 3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def _run(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.fixture
def run(capsys, no_flushing):
    def run(*arguments):
        capsys.readouterr()
        status = _run(*arguments)
        told = capsys.readouterr().err
        return status, " ".join(re.sub(r"[│╭╮╰╯─]", " ", told).split())

    return run


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "videos"
    shape = Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=10)
    write_synthetic(root, shape)
    return root


@pytest.fixture(scope="module")
def flow(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("stored") / "flow"
    options = ("--method", "farneback", "--native", "--frames", "--jobs", "0")
    assert _run("extract-flow", videos, "--out", out, *options) == 0
    return out


@pytest.fixture(scope="module")
def streams(videos, flow, tmp_path_factory):
    """Networks on frames and on flow alone, of both splits."""
    folder = tmp_path_factory.mktemp("streams")
    for name in ("rgb", "flow"):
        options = ("--modality", name, "--length", 3 if name == "flow" else 1)
        assert _run("train", videos, flow, *SMALL, *options, "--out", folder / name) == 0
    return folder


@pytest.fixture(scope="module")
def joined(videos, flow, streams):
    out = streams / "both"
    begun = ("--weights", streams / "rgb", "--flow-weights", streams / "flow")
    stage_2 = (*begun, "--backbone-rate", 0, "--batch-norm", "frozen")
    assert _run("train", videos, flow, *BOTH, *stage_2, "--out", out) == 0
    return out


def test_each_split_begins_with_its_own_streams(streams, joined):
    for split in ("01-split1", "02-split2"):
        both = load_model(joined / split / "model.safetensors")[0].backbone
        for name in ("rgb", "flow"):
            alone = load_model(streams / name / split / "model.safetensors")[0].backbone
            found = getattr(both, name).state_dict()
            assert all(torch.equal(found[key], value) for key, value in alone.state_dict().items())


def test_test_fuse_and_label_new_videos(run, videos, flow, streams, joined, tmp_path):
    scores = tmp_path / "scores"
    test = ("--crops", 1, "--loader-workers", 0, "--device", "cpu")
    status, told = run("evaluate", joined, videos, flow, *test, "--out", scores)
    assert (status, "rgb+flow " in told, "of 12 tests" in told) == (0, True, True), told
    found = load_scores(scores / "scores.npz").splits[0]
    np.testing.assert_allclose(np.exp(found.scores).sum(axis=1), 1, rtol=1e-5)
    out = tmp_path / "flow-scores"
    assert run("evaluate", streams / "flow", videos, flow, *test, "--out", out)[0] == 0
    files = (f"{scores}/scores.npz:1", f"{out}/scores.npz:1")
    assert run("fuse", *files, "--out", tmp_path / "fused")[0] == 0

    # Frames and flow of a video are extracted again, as those of the training clips.
    classifier = scores / "classifiers/01-split1"
    name = found.names[0]
    (video,) = (path for path in videos.rglob("*.*") if str(path.with_suffix("")).endswith(name))
    labels = tmp_path / "labels.csv"
    options = ("--format", "csv", "--top", 6, "--jobs", 0, "--out", labels)
    status, told = run("predict", classifier, video, *options)
    assert status == 0, told
    rows = [line.split(",") for line in labels.read_text().splitlines()[1:]]
    classes = load_scores(scores / "scores.npz").classes
    for row in rows:
        assert float(row[4]) == pytest.approx(found.scores[0][classes.index(row[3])], abs=1e-3)
    fused = tmp_path / "fused/classifiers/01-split1"
    assert run("predict", fused, video, "--jobs", 0, "--out", tmp_path / "f.txt")[0] == 0

    told = "networks on one of them label a live video"
    with pytest.raises(ParameterError, match=told):
        NetworkWindow(load_classifier(classifier), Live())

    model = joined / "01-split1/model.safetensors"
    out = tmp_path / "features"
    status, told = run(
        "features", flow, "--classifier", model, "--jobs", 0, "--device", "cpu", "--out", out
    )
    assert status == 0, told
    assert np.load(next(out.rglob("*.npy"))).shape[1] == 1024


@pytest.mark.slow
def test_training_resumes_with_both_inputs(run, videos, flow, streams, tmp_path, monkeypatch):
    from flowpipe.training.data.pairs import PairedClips

    begun = ("--weights", streams / "rgb", "--flow-weights", streams / "flow")
    options = ("train", videos, flow, *BOTH, *begun, "--split", "split1", "--checkpoint-every", 1)
    assert run(*options, "--out", tmp_path / "whole")[0] == 0
    left, read = [5], PairedClips.__getitem__

    def stopped(self, index):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(PairedClips, "__getitem__", stopped)
    assert run(*options, "--out", tmp_path / "parts")[0] != 0
    monkeypatch.undo()
    assert (tmp_path / "parts/01-split1/checkpoint.npz").exists()
    assert run(*options, "--out", tmp_path / "parts")[0] == 0
    assert_same_model(tmp_path / "parts/01-split1", tmp_path / "whole/01-split1")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--modality", "flow"), "for two-stream-fusion it must be rgb+flow"),
        (("--model", "tsn", "--modality", "rgb+flow"), "for tsn it must be that of one input"),
        (("--model", "tsn", "--flow-weights", "x.pth"), "it applies to networks of two inputs"),
        (("--weights", "EMPTY"), "which has no 01-split1/model.safetensors"),
        (("--backbone", "densenet121"), "whose last maps are not known"),
    ],
)
def test_what_does_not_fit_is_refused(run, videos, flow, tmp_path, options, told):
    (tmp_path / "empty").mkdir()
    options = [str(tmp_path / "empty") if each == "EMPTY" else each for each in options]
    status, error = run("train", videos, flow, *BOTH, *options, "--out", tmp_path / "net")
    assert (status, told in error) == (2, True), error
    assert not (tmp_path / "net").exists()


@pytest.mark.slow
def test_streams_that_were_not_trained_alone_are_told(run, videos, flow, tmp_path):
    once = ("--split", "split1", "--out", tmp_path / "net")
    status, told = run("train", videos, flow, *BOTH, *once)
    assert (status, "which were not trained on flow" in told) == (0, True), told
