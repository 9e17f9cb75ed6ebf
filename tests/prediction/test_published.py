"""Networks with published weights label videos without training."""

from __future__ import annotations

import ast
import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.io.source import resized
from flowpipe.models import table
from flowpipe.models.create import create_model
from flowpipe.models.entry import Views
from flowpipe.models.published import kinetics400
from flowpipe.models.resnet3d import SLOW_R50, ResNet3D
from flowpipe.training.data.frame_clips import FrameClips
from flowpipe.training.testing import Testing
from tests.helpers.clips import shared, shared_data, write_video

NAME = "small-kinetics400"
ENTRY = table.Model(
    lambda clip: ResNet3D(SLOW_R50, clip.channels_per_frame, 1, width=4),
    "frames",
    "a narrow 3-D ResNet",
    "nowhere",
    input=(("segments", 1), ("length", 4), ("input_size", 32), ("frame_stride", 2),
           ("short_clips", "repeat")),
    views=Views(3, 3, short_side=1.25, crop=1.25, average="probabilities"),
    any_length=True,
    weights="a file of tests",
    normalisation=((100.0, 110.0, 120.0), (50.0, 60.0, 70.0)),
)  # fmt: skip


def run(*arguments: object) -> int | str | None:
    """Return the exit status of a command line."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(table.MODELS, "small", ENTRY)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ResNet3D(SLOW_R50, 3, 400, width=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.weight.data.fill_(1)
    network.head.projection.weight.data.normal_(std=0.05)
    return network


@pytest.fixture
def weights(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


def views_of(video) -> torch.Tensor:
    """Return (3 clips x 3 crops, 3, T, 40, 40) of a video of 48 x 32 pixels, as ENTRY tests."""
    images = np.stack([resized(each, (60, 40)) for each in flowpipe.read_video(video)])
    normalised = (images - np.array([100, 110, 120])) / np.array([50, 60, 70])
    span = 7
    step = (len(images) - span) // 2
    clips = [normalised[start : start + span : 2] for start in (0, step, 2 * step)]
    crops = [clip[:, :, left : left + 40] for clip in clips for left in (0, 10, 20)]
    return torch.from_numpy(np.stack(crops)).float().permute(0, 4, 1, 2, 3)


def test_the_scores_are_those_of_the_views_of_the_authors(network, weights, tmp_path):
    video = write_video(tmp_path / "clip.avi", 25)
    prediction = flowpipe.load_classifier(NAME, weights=weights).predict(video)
    with torch.no_grad():
        expected = network(views_of(video)).softmax(dim=1).mean(dim=0).numpy()
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
    assert prediction.classes == kinetics400()
    assert prediction.label == kinetics400()[expected.argmax()]
    assert not prediction.calibrated


def test_the_classes_are_those_of_the_data():
    lines = shared("weights", "kinetics400_labels.txt").read_text().splitlines()
    assert [line.split("\t") for line in lines] == [
        [str(number), name] for number, name in enumerate(kinetics400())
    ]


def test_the_command_labels_several_videos_and_a_folder(weights, tmp_path, capsys):
    (tmp_path / "more").mkdir()
    videos = [write_video(tmp_path / "one.avi", 25), tmp_path / "more"]
    write_video(tmp_path / "more/two.avi", 9, seed=1)
    write_video(tmp_path / "more/three.avi", 1, seed=2)  # a single frame, which is repeated
    arguments = ["predict", NAME, *videos, "--weights", weights, "--jobs", "0"]
    assert run(*arguments, "--format", "csv", "--top", "2") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["clip"] for row in rows[::2]] == ["one", "three", "two"]
    assert {row["label"] for row in rows} <= set(kinetics400())
    options = ["--format", "jsonl", "--test-clips", "1", "--crops", "1"]
    assert run(*arguments, *options, "--draw", tmp_path / "drawn") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] in kinetics400() for line in lines] == [True] * 3
    assert len(list((tmp_path / "drawn").rglob("*.mp4"))) == 3


def test_numbers_of_16_bits_give_nearly_the_same_scores(weights, tmp_path):
    video = write_video(tmp_path / "one.avi", 9)
    found = {
        amp: flowpipe.load_classifier(NAME, Testing(amp=amp), weights=weights).predict(video)
        for amp in (None, "float32", "bfloat16")
    }
    exact, half = (found[amp].probabilities for amp in ("float32", "bfloat16"))
    np.testing.assert_array_equal(found[None].probabilities, exact)
    np.testing.assert_allclose(half, exact, rtol=0, atol=0.05)
    assert not np.array_equal(half, exact)
    with pytest.raises(ParameterError, match="amp is 'half'; it must be one of auto, float32"):
        Testing(amp="half")


def test_a_live_source_is_labelled_too(weights, tmp_path):
    classifier = flowpipe.load_classifier(NAME, weights=weights)
    video = write_video(tmp_path / "live.avi", 40)
    labels = list(flowpipe.predict_live(classifier, str(video), every=0.5))
    assert labels
    assert {label.label for label in labels} <= set(kinetics400())


def test_one_repeated_frame_scores_as_that_frame_does(network, weights, tmp_path):
    single = write_video(tmp_path / "single.avi", 1)
    found = flowpipe.load_classifier(NAME, Testing(1, 1), weights=weights).predict(single)
    image = resized(flowpipe.read_video(single)[0], (60, 40))[:, 10:50]
    clip = torch.from_numpy((image - np.array([100, 110, 120])) / np.array([50, 60, 70])).float()
    with torch.no_grad():
        expected = network(clip.permute(2, 0, 1)[None, :, None].expand(-1, -1, 4, -1, -1))
    np.testing.assert_allclose(found.probabilities, expected.softmax(1)[0].numpy(), atol=1e-5)


def test_a_long_video_is_read_snippet_by_snippet(weights, tmp_path, monkeypatch):
    video = write_video(tmp_path / "long.avi", 600)
    read = []
    levels = FrameClips.levels

    def counted(self, index, snippets, view=None):
        read.append(snippets.shape)
        return levels(self, index, snippets, view)

    monkeypatch.setattr(FrameClips, "levels", counted)
    for views, expected in ((10, [(1, 4)] * 10), ("all", [(1, 250)] * 2)):
        flowpipe.load_classifier(NAME, Testing(views, 1), weights=weights).predict(video)
        assert read == expected
        read.clear()


def test_weights_of_flow_see_the_flow_of_a_video(tmp_path):
    torch.manual_seed(0)
    save_file(ResNet3D(SLOW_R50, 2, 400, width=4).state_dict(), tmp_path / "flow.safetensors")
    classifier = flowpipe.load_classifier(NAME, weights=tmp_path / "flow.safetensors")
    assert classifier.network.clip.modality == "flow"
    video = write_video(tmp_path / "clip.avi", 9)
    assert classifier.predict(video).label in kinetics400()


def test_torchvision_s_weights_have_names(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    theirs = get_model("s3d", weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "hub/checkpoints/s3d-d76dad2f.pth")
    clip = torch.rand(1, 3, 14, 224, 224)
    with torch.no_grad():
        expected = theirs(clip)
        for weights in ("KINETICS400_V1", "default"):
            found = flowpipe.load_classifier("s3d-kinetics400", weights=weights)
            torch.testing.assert_close(found.network(clip), expected, rtol=1e-4, atol=1e-4)
    started = create_model("s3d", "rgb", 5, weights="KINETICS400_V1")
    kernel = "features.0.0.0.weight"
    torch.testing.assert_close(
        started.backbone.net.get_parameter(kernel), theirs.get_parameter(kernel)
    )


def faulty(state: dict, fault: str) -> dict:
    head = "head.projection"
    match fault:
        case "head":
            return {name: value for name, value in state.items() if not name.startswith(head)}
        case "classes":
            return {
                name: value[:101].clone() if name.startswith(head) else value
                for name, value in state.items()
            }
        case "channels":
            kernel = "s1.pathway0_stem.conv.weight"
            return {**state, kernel: state[kernel].repeat(1, 4, 1, 1, 1)}
        case "layer":
            return {name: value for name, value in state.items() if "s4." not in name}
        case "other":
            return {"fc.weight": torch.zeros(400, 3)}
    raise AssertionError(fault)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("head", "has no last layer 'head.projection', so that it scores no classes"),
        ("classes", "scores 101 classes; kinetics400 has 400"),
        ("channels", "sees 12 channels; small-kinetics400 sees 3 of RGB or 2 of flow"),
        ("layer", "holds no weights of small: it lacks s4.pathway0_res0.branch1.weight"),
        ("other", "holds no weights of small"),
    ],
)
def test_weights_of_other_networks_are_refused(fault, message, weights, tmp_path, capsys):
    path = tmp_path / "faulty.safetensors"
    save_file(faulty(load_file(weights), fault), path)
    video = write_video(tmp_path / "clip.avi", 9)
    assert run("predict", NAME, video, "--weights", path) == 2
    assert message in capsys.readouterr().err


def test_what_is_missing_or_unknown_is_named(weights, tmp_path, capsys):
    video = write_video(tmp_path / "clip.avi", 9)
    cases = [
        ([NAME], "weights is None; small-kinetics400 needs a file of tests (--weights)"),
        (["small-kinetics7", "--weights", weights], "'small-kinetics7' is no network with"),
        (["tsn-kinetics400", "--weights", weights], ", c3d, i3d, "),
        (["i3d-r50-kinetics400", "--weights", "KINETICS400_V1"], "kinetics400 it must be a file"),
        ([NAME, "--weights", tmp_path / "none.pth"], "none.pth' does not exist"),
        ([tmp_path, "--weights", weights], "has weights of its own"),
        (["nowhere"], "the name of a published network such as i3d-kinetics400"),
    ]
    for (name, *rest), message in cases:
        assert run("predict", name, video, *rest) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(ParameterError, match="weights is None; i3d-kinetics400 needs a file of"):
        flowpipe.load_classifier("i3d-kinetics400")


def test_a_video_that_is_too_short_for_a_network_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    state = get_model("s3d", weights=None).state_dict()
    torch.save(state, tmp_path / "hub/checkpoints/s3d-d76dad2f.pth")
    video = write_video(tmp_path / "clip.avi", 9)
    classifier = flowpipe.load_classifier("s3d-kinetics400", weights="default")
    with pytest.raises(FlowpipeError, match="9 frames; a snippet takes 64"):
        classifier.predict(video)


def _top3():
    """Return the video and the classes of an independent run, of each of 26 real clips."""
    try:
        lines = shared("golden", "networks", "i3d_ucf101_top3.txt").read_text().splitlines()
    except pytest.skip.Exception:
        return []
    return [(name, ast.literal_eval(rest)) for name, rest in (line.split(" ", 1) for line in lines)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), _top3())
def test_i3d_sees_in_real_clips_what_an_independent_run_saw(name, expected):
    weights = shared("weights", "i3d_rgb_kinetics400.safetensors")
    views = Testing(test_clips=1, crops=1)  # the 64 frames in the middle
    classifier = flowpipe.load_classifier("i3d-kinetics400", views, weights=weights)
    found = classifier.predict(shared_data("ucf101", name)).top(3)
    assert [f"{classifier.classes.index(label)} {label}" for label, _, _ in found] == expected
