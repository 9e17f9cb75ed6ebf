"""Networks of two inputs from the command line: both streams alone, then joined, on new videos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.errors import ParameterError
from flowpipe.models import MODELS, tdn
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.resnet3d import SLOWFAST_R50_8X8, ResNet3D
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import initialise, load_model
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


TDN = ("--preset", "small", "--model", "tdn", "--modality", "rgb+flow", "--segments", 2)
TDN += ("--length", 3, "--input-size", 32, "--batch-size", 3, "--epochs", 1)
TDN += ("--loader-workers", 0, "--device", "cpu", "--split", "split1")


@pytest.fixture
def narrow_tdn(monkeypatch):
    def build(clip):
        return tdn.TDN(
            1, motion_channels=clip.channels - 3, blocks=(1, 1, 1, 1), planes=(8, 16, 16, 16)
        )

    monkeypatch.setitem(MODELS, "tdn", replace(MODELS["tdn"], build=build))


@pytest.mark.usefixtures("narrow_tdn")
def test_tdn_sees_flow_in_place_of_differences(run, videos, flow, tmp_path):
    net, scores = tmp_path / "net", tmp_path / "scores"
    status, told = run("train", videos, flow, *TDN, "--out", net)
    assert status == 0, told
    network = load_model(net / "01-split1/model.safetensors")[0].backbone
    assert network.conv1.in_channels == 3
    assert network.conv1_5[0].in_channels == 6
    test = ("--split", "split1", "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    status, told = run("evaluate", net, videos, flow, *test, "--out", scores)
    assert (status, "rgb+flow " in told, "of 6 tests" in told) == (0, True, True), told


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "channels"), [("rgb", 12), ("rgb+flow", 6)])
def test_tdn_begins_as_a_network_of_images(tmp_path, modality, channels):
    """Where nothing moves, its first stages are those of the ResNet, and both streams are alike."""
    theirs = get_model("resnet50", weights=None).eval()
    save_file(theirs.state_dict(), tmp_path / "resnet50.safetensors")
    length = 5 if modality == "rgb" else 3
    clip = ClipInput(modality, segments=2, length=length, input_size=64)
    network = StreamNetwork(Network("tdn", batch_norm="train"), clip, [5])
    initialise(network, str(tmp_path / "resnet50.safetensors"))
    mean = theirs.conv1.weight.mean(dim=1, keepdim=True)
    first = network.backbone.conv1_5[0].weight
    torch.testing.assert_close(first, mean.expand(-1, channels, -1, -1))
    images = torch.randn(2, 64, 16, 16)
    for stage in ("layer1_bak", "resnext_layer1"):
        found = network.eval().backbone.get_submodule(stage)(images)
        torch.testing.assert_close(found, theirs.layer1(images))


SLOWFAST = ("--preset", "small", "--model", "slowfast-r50-8x8", "--modality", "rgb+flow")
SLOWFAST += ("--length", 8, "--frame-stride", 1, "--input-size", 32, "--epochs", 1)
SLOWFAST += ("--batch-size", 3, "--loader-workers", 0, "--device", "cpu")


@pytest.fixture
def narrow_slowfast(monkeypatch):
    def build(clip):
        return ResNet3D(SLOWFAST_R50_8X8, (3, 2), 1, width=8)

    entry = replace(MODELS["slowfast-r50-8x8"], build=build)
    monkeypatch.setitem(MODELS, "slowfast-r50-8x8", entry)


@pytest.mark.usefixtures("narrow_slowfast")
def test_slowfast_sees_frames_in_its_slow_and_flow_in_its_fast_pathway(run, videos, flow, tmp_path):
    net, scores, out = tmp_path / "net", tmp_path / "scores", tmp_path / "features"
    status, told = run("train", videos, flow, *SLOWFAST, "--out", net)
    assert status == 0, told
    network = load_model(net / "01-split1/model.safetensors")[0].backbone
    assert network.s1.pathway0_stem.conv.in_channels == 3
    assert network.s1.pathway1_stem.conv.in_channels == 2

    test = ("--test-clips", 2, "--crops", 1, "--loader-workers", 0, "--device", "cpu")
    status, told = run("evaluate", net, videos, flow, *test, "--out", scores)
    assert (status, "rgb+flow " in told) == (0, True), told
    found = load_scores(scores / "scores.npz").splits[0]

    name = found.names[0]
    (video,) = (path for path in videos.rglob("*.*") if str(path.with_suffix("")).endswith(name))
    labels = tmp_path / "labels.csv"
    options = ("--format", "csv", "--top", 6, "--jobs", 0, "--out", labels)
    status, told = run("predict", scores / "classifiers/01-split1", video, *options)
    assert status == 0, told
    classes = load_scores(scores / "scores.npz").classes
    for row in (line.split(",") for line in labels.read_text().splitlines()[1:]):
        assert float(row[4]) == pytest.approx(found.scores[0][classes.index(row[3])], abs=1e-3)

    of = ("--classifier", net / "01-split1", "--stride", 1, "--jobs", 0, "--device", "cpu")
    status, told = run("features", flow, *of, "--out", out)
    assert status == 0, told
    # 9 fields: two windows of 8; 4 * 64 features of the slow and 4 * 8 of the fast pathway.
    assert np.load(out / f"{name}.npy").shape == (2, 256 + 32)


@pytest.mark.usefixtures("narrow_slowfast")
def test_what_slowfast_cannot_take_is_refused(run, videos, flow, tmp_path):
    for options, told in (
        (("--length", 6), "length is 6 and fields_per_frame 4; the length must be a multiple"),
        (("--fields-per-frame", 8), "fields_per_frame is 8; for slowfast-r50-8x8 it must be 4"),
        (("--modality", "flow", "--fields-per-frame", 4), "it applies to rgb+flow"),
        (("--model", "slow-r50"), "for slow-r50 it must be that of one input"),
    ):
        status, error = run("train", videos, flow, *SLOWFAST, *options, "--out", tmp_path / "net")
        assert (status, told in error) == (2, True), error
    assert not (tmp_path / "net").exists()


def test_weights_of_rgb_begin_both_pathways_of_slowfast():
    seen = replace(MODELS["slowfast-r50-8x8"].suited(ClipInput("rgb+flow")), input_size=32)
    network = StreamNetwork(Network("slowfast-r50-8x8"), seen, [5])
    rgb = ResNet3D(SLOWFAST_R50_8X8, 3, 400)
    network.load_backbone(rgb.state_dict(), "a test")
    stems = [
        [getattr(each.s1, f"pathway{pathway}_stem").conv.weight for pathway in (0, 1)]
        for each in (network.backbone, rgb)
    ]
    assert torch.equal(stems[0][0], stems[1][0])
    mean = stems[1][1].mean(dim=1, keepdim=True)
    torch.testing.assert_close(stems[0][1], mean.expand(-1, 2, -1, -1, -1))


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
