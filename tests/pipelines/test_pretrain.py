"""Networks are pretrained on clips without labels, split by split, and others begin with them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

import flowpipe
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.parameters import Farneback
from flowpipe.models import MODELS
from flowpipe.models.pretrained import load_pretrained
from flowpipe.models.weights import load_model
from flowpipe.pipelines import pretrain as module
from flowpipe.runner.inspect import stale
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.distributed import torch_threads
from flowpipe.training.runtime import TrainingRuntime
from tests.helpers.nets import SMALL_MODELS

pytestmark = pytest.mark.usefixtures("no_flushing")

RUNTIME = TrainingRuntime(device="cpu", loader_workers=0)
SEEN = {"model": "small-vivit", "length": 4, "input_size": 32, "segments": 1, "batch_size": 4}
QUICK = {**SEEN, "epochs": 1, "warmup": 0.0, "mask_ratio": 0.75, "decoder_width": 24,
         "decoder_depth": 1}  # fmt: skip
OPTIONS = (
    "--model", "small-vivit", "--length", "4", "--input-size", "32", "--segments", "1",
    "--batch-size", "4", "--epochs", "1", "--loader-workers", "0", "--device", "cpu",
)  # fmt: skip
MAE_OPTIONS = ("--pretrain", "mae", "--warmup", "0", "--mask-ratio", "0.75", "--decoder-width",
               "24", "--decoder-depth", "1")  # fmt: skip


@pytest.fixture(autouse=True)
def _small_model(monkeypatch):
    monkeypatch.setitem(MODELS, "small-vivit", SMALL_MODELS["small-vivit"])
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of ``videos`` with labels and of ``loose`` ones without, and the flow of each."""
    root = tmp_path_factory.mktemp("data")
    small = {"clips_per_group": 1, "width": 64, "height": 48, "n_frames": 10}
    flowpipe.write_synthetic(root / "videos", n_groups=2, **small)
    (root / "loose").mkdir()
    for number, path in enumerate(sorted((root / "videos").rglob("*.avi"))[:6]):
        shutil.copy(path, root / "loose" / f"{number}.avi")
    stage = flowpipe.FlowStage(parameters=Farneback(), frames=True, size=None)
    for name in ("videos", "loose"):
        flowpipe.extract_flow(root / name, root / f"{name}-flow", stage, workers=0)
    return root


def test_each_split_has_an_encoder_that_its_network_begins_with(data, tmp_path):
    out = tmp_path / "pre"
    found = flowpipe.pretrain(
        data / "videos", data / "videos-flow", out, runtime=RUNTIME, final=True, **QUICK
    )
    assert [path.parent.name for path in found] == ["01-split1", "02-split2", "final"]
    dataset = flowpipe.load_dataset(data / "videos")
    for path, train in zip(found, [*(s.train for s in dataset.splits), None], strict=True):
        rows = list(csv.DictReader((path.parent / "log.csv").open()))
        assert rows[0]["accuracy"] == ""
        assert int(rows[0]["clips"]) == len(train if train else dataset.clips)
        assert (path.parent / "curves.png").exists()
    assert stale(out) == []
    before = {path: path.stat().st_mtime_ns for path in found}
    flowpipe.pretrain(
        data / "videos", data / "videos-flow", out, runtime=RUNTIME, final=True, **QUICK
    )
    assert {path: path.stat().st_mtime_ns for path in found} == before
    # A learning rate of nearly nothing: the network is the one that it began with.
    trained = flowpipe.train(
        data / "videos", data / "videos-flow", tmp_path / "net", "small", runtime=RUNTIME,
        weights=str(out), splits=["split2"], epochs=1, lr=1e-12, **SEEN,
    )  # fmt: skip
    network, encoder = load_model(trained[0])[0], load_pretrained(found[1])[0]
    assert network.classes == (6,)
    clips = torch.randn(1, 2, 4, 32, 32)
    with torch.no_grad():
        expected = encoder.eval().stream.features(clips)
        torch.testing.assert_close(network.eval().features(clips), expected)
    first = load_pretrained(found[0])[0].eval().stream.features(clips)
    assert not torch.allclose(first, expected)


def test_labels_have_no_part(data, tmp_path):
    """The labels are shuffled: the same network, and no label in its record."""
    videos, flow = data / "videos", data / "videos-flow"
    rows = list(csv.DictReader((videos / "dataset.csv").open()))
    labels = [row["label"] for row in rows]
    for row, label in zip(rows, labels[1:] + labels[:1], strict=True):
        row["path"], row["label"] = str(videos / row["path"]), label
    assert labels != [row["label"] for row in rows]
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shared = {"splits": ["split1"], "runtime": RUNTIME, **QUICK}
    networks = []
    for dataset, out in ((videos, "one"), (tmp_path / "other.csv", "two")):
        path = flowpipe.pretrain(dataset, flow, tmp_path / out, **shared)[0]
        network, about = load_pretrained(path)
        networks.append(network.state_dict())
        assert not any(f'"{label}"' in json.dumps(about) for label in labels)
    one, two = networks
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_clips_without_labels(data, tmp_path, run):
    """A plain folder of videos, or the folder of flow itself: all of its clips."""
    loose, flow = data / "loose", data / "loose-flow"
    shared = {"protocol": "none", "runtime": RUNTIME, **QUICK}
    found = flowpipe.pretrain(loose, flow, tmp_path / "one", **shared)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "one/final/model.safetensors"
    ]
    assert next(csv.DictReader((found[0].parent / "log.csv").open()))["clips"] == "6"
    again = flowpipe.pretrain(flow, flow, tmp_path / "two", **shared)
    one, two = (load_pretrained(path[0])[0].state_dict() for path in (found, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    code, told = run(
        "train", loose, flow, *OPTIONS, *MAE_OPTIONS, "--protocol", "none", "--out",
        tmp_path / "three",
    )  # fmt: skip
    assert code == 0
    assert "6 clips, whose labels are not read" in told
    assert "loss " in told
    assert "accuracy" not in told
    third = load_pretrained(tmp_path / "three" / "final" / "model.safetensors")[0].state_dict()
    assert all(torch.equal(one[name], third[name]) for name in one)
    with pytest.raises(ParameterError, match="protocol is 'none', which takes all clips of a fold"):
        flowpipe.pretrain(loose, flow, tmp_path / "four", **shared, splits=["split1"])


def test_clips_that_cannot_be_used_are_left_out_on_request(data, tmp_path):
    flow = tmp_path / "flow"
    shutil.copytree(data / "loose-flow", flow)
    for path in flow.glob("0*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shared = {"protocol": "none", "runtime": RUNTIME, **QUICK}
    with pytest.raises(flowpipe.FlowpipeError, match="0"):
        flowpipe.pretrain(data / "loose", flow, tmp_path / "pre", **shared)
    assert not (tmp_path / "pre").exists()
    found = flowpipe.pretrain(
        data / "loose", flow, tmp_path / "pre", leave_out_unusable=True, **shared
    )
    assert next(csv.DictReader((found[0].parent / "log.csv").open()))["clips"] == "5"


def test_the_command_and_the_options_of_training(data, tmp_path, run, monkeypatch):
    videos, flow = data / "videos", data / "videos-flow"
    seen = []
    monkeypatch.setattr(module, "pretrain_networks", lambda *a, **k: seen.append(a))
    assert run("train", videos, flow, "--model", "vivit-1", "--pretrain", "mae")[0] == 0
    flowpipe.pretrain(videos, flow, "stream")
    (_, one, mae, _), (_, two, same, _) = seen
    assert one == two
    assert mae == same
    assert (mae.mask_ratio, mae.decoder_width, mae.decoder_depth) == (0.9, 384, 4)
    training = one.training
    assert (training.optimizer, training.lr, training.weight_decay) == ("adamw", 1.5e-4, 0.05)
    assert (training.epochs, training.warmup, training.schedule) == (800, 40, "cosine")
    assert one.network.model == "vivit-1"
    assert (one.clip.length, one.clip.frame_stride, one.weights) == (32, 2, "none")


def test_what_does_not_apply_is_refused(data, tmp_path, run):
    videos, flow, out = data / "videos", data / "videos-flow", tmp_path / "pre"
    quick = ("--split", "split1", "--out", out, *OPTIONS)
    mae = (*quick, *MAE_OPTIONS)
    for arguments, message in (
        ((*quick, "--preset", "small", "--mask-ratio", "0.5"), "apply to --pretrain mae"),
        ((*mae, "--model", "vivit-2"), "model is 'vivit-2'; pretrain 'mae' hides tokens"),
        ((*mae, "--mixup", "0.5"), "mixup is 0.5; it applies to networks that learn from labels"),
        ((*mae, "--balanced-batches"), "balanced_batches is True; it applies to"),
        ((*mae, "--mask-ratio", "1.5"), "mask_ratio is 1.5; it must be more than 0"),
        ((*mae, "--mask-ratio", "0.99"), "hides 16 of the 16 places"),
        ((*mae, "--also-videos", videos, "--also-flow", flow), "--also-videos applies to training"),
        ((*mae, "--weights", "nothing.safetensors"), "'nothing.safetensors' does not exist"),
    ):
        code, told = run("train", videos, flow, *arguments)
        assert code != 0
        assert message in told
        assert not out.exists(), message
    code, told = run("train", data / "loose", data / "loose-flow", *mae)
    assert code != 0
    assert "lies in no class folder" in told


def test_a_folder_of_another_pretraining_is_refused(data, tmp_path, run):
    videos, flow, out = data / "videos", data / "videos-flow", tmp_path / "pre"
    shared = {"splits": ["split1"], "runtime": RUNTIME}
    flowpipe.pretrain(videos, flow, out, **shared, **QUICK)
    with pytest.raises(StageMismatchError, match=r"mae.mask_ratio: 0.75 recorded, 0.5 requested"):
        flowpipe.pretrain(videos, flow, out, **shared, **{**QUICK, "mask_ratio": 0.5})
    with pytest.raises(FormatError, match="it is a 'flowpipe masked autoencoder 1'"):
        flowpipe.evaluate(out, videos, flow, tmp_path / "scores", **shared)
