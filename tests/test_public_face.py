"""The names that `import flowpipe` offers."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import flowpipe
from flowpipe.classify.scores import Scores, SplitScores, save_scores
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.models.i3d import I3D
from tests.helpers import media
from tests.helpers.clips import environment, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.mark.parametrize("name", flowpipe.__all__)
def test_every_name_is_there_and_documented(name):
    assert (getattr(flowpipe, name).__doc__ or "").strip()
    assert name in dir(flowpipe)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        flowpipe.no_such_name  # noqa: B018


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return what the docstrings assume: ``videos``, their ``flow``, ``clip.avi``, and scores."""
    folder = tmp_path_factory.mktemp("docstrings")
    flowpipe.write_synthetic(folder / "videos", n_groups=2, clips_per_group=1, n_frames=20)
    fast = FlowStage(parameters=Tvl1.fast(), size=None)
    flowpipe.extract_flow(folder / "videos", folder / "flow", fast, workers=2)
    shutil.copy(next((folder / "videos").rglob("*.avi")), folder / "clip.avi")
    labels = np.array([0, 1, 0])
    for name in ("rgb", "flow"):
        scores = np.eye(2, dtype=np.float32)[labels]
        part = SplitScores("split1", ("a", "b", "c"), labels, scores)
        save_scores(folder / f"{name}-scores.npz", Scores(("x", "y"), (part,)), folder)
    return folder


SLOW = {
    "BagOfWords",
    "FisherVector",
    "compare",
    "dense_trajectories",
    "detect",
    "evaluate",
    "evaluate_detector",
    "extract_features",
    "extract_flow",
    "extract_trajectories",
    "idt_baseline",
    "load_classifier",
    "predict",
    "predict_live",
    "pretrain",
    "probe",
    "train",
    "train_detector",
    "two_stream",
    "tdd_baseline",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in flowpipe.__all__
    ],
)
def test_the_example_of_every_name_runs(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if name in ("load_classifier", "predict", "predict_live"):
        flowpipe.idt_baseline("videos", "idt", gaussians=4)
    if name in ("detect", "evaluate_detector"):
        doctest.run_docstring_examples(flowpipe.train_detector, {}, name=name)
    if name == "load_classifier":
        save_file(I3D().state_dict(), "i3d_rgb.safetensors")
    found = doctest.DocTestFinder(recurse=False).find(getattr(flowpipe, name), name, globs={})
    examples = [example for test in found for example in test.examples]
    assert examples
    assert not any(example.options.get(doctest.SKIP) for example in examples)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in found:
        assert runner.run(test).failed == 0


def test_the_documentation_lists_every_name():
    page = Path(flowpipe.__file__).parents[1] / "docs" / "api.rst"
    listed = [line.strip() for line in page.read_text().splitlines()]
    assert [name for name in flowpipe.__all__ if listed.count(name) != 1] == []


def test_importing_it_loads_nothing_heavy():
    heavy = ("torch", "cv2", "numba", "av", "sklearn", "numpy")
    program = f"import sys, flowpipe; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flow_of_two_images_and_of_batches():
    zeros = np.zeros((64, 96), np.uint8)
    assert flowpipe.optical_flow(zeros, zeros).shape == (2, 64, 96)
    first, second = media.moving(2, 64, 96)
    single = flowpipe.optical_flow(first, second)
    assert single.shape == (2, 64, 96)
    batch = flowpipe.optical_flow(np.stack([first, second]), np.stack([second, second]))
    np.testing.assert_array_equal(batch[0], single)
    assert batch.shape == (2, 2, 64, 96)
    assert np.abs(batch[1]).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"method": "raft2"}, "must be one of tvl1"),
        ({"lamda": 1}, "known are tau"),
        ({"second": np.zeros((64, 95), np.uint8)}, r"\(64, 95\)"),
        ({"second": np.zeros((64, 96), np.float32)}, "must be uint8"),
        ({"first": np.zeros(3, np.uint8)}, r"it must be \(H, W\)"),
    ],
)
def test_wrong_arguments_of_optical_flow_are_named(arguments, reason):
    zeros = np.zeros((64, 96), np.uint8)
    with pytest.raises(ParameterError, match=reason):
        flowpipe.optical_flow(**{"first": zeros, "second": zeros, **arguments})


def test_a_video_is_read_as_rgb(tmp_path):
    blue = np.zeros((48, 64, 3), np.uint8)
    blue[..., 0] = 255  # of BGR
    path = media.write(tmp_path / "blue.avi", [blue] * 3)
    frames = flowpipe.read_video(path)
    assert frames.shape == (3, 48, 64, 3)
    assert frames[..., 2].min() > 200
    assert frames[..., 0].max() < 60
    assert flowpipe.read_video(path, size=(32, 24), max_frames=2).shape == (2, 24, 32, 3)


def test_stored_flow_is_read(tmp_path):
    flow = smooth_flow(3)
    store_clip(tmp_path, "npy", flow)
    np.testing.assert_array_equal(flowpipe.read_flow(tmp_path / "a.npy"), flow)
    store_clip(tmp_path, "npy", flow, clip="b")
    with pytest.raises(ParameterError, match="holds 2 clips"):
        flowpipe.read_flow(tmp_path)
    with pytest.raises(FormatError, match="does not exist"):
        flowpipe.read_flow(tmp_path / "none")


def test_python_and_the_command_line_take_the_same_solver():
    assert FlowStage().solver == "cpu"
