"""Fisher vectors and bags of words of windows of trajectories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import flowpipe
from flowpipe.classify.svm import fit_one_vs_rest
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors, fit_encoders
from flowpipe.errors import ParameterError
from flowpipe.prediction.trajectories import TrajectoryClassifier, classifier_of
from flowpipe.runner.provenance import read_stage
from flowpipe.trajectories.clip_tables import read_blocks
from flowpipe.trajectories.table import read_table
from tests.helpers import media
from tests.helpers.clips import contents

pytestmark = pytest.mark.usefixtures("no_flushing")

FISHER = Encoding(descriptors=("hof", "mbhx"), gaussians=2, rows=200, pyramid=("1", "h2t2"))
WORDS = Encoding(descriptors=("hof",), encoding="bow", clusters=4, rows=200)
N_FRAMES = 24


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> Path:
    """Trajectories of two clips, of which one is shorter than a track."""
    root = tmp_path_factory.mktemp("tracks")
    for name, n in (("a", N_FRAMES), ("short", 8)):
        media.write(root / f"videos/k/{name}.mp4", media.moving(n, 64, 80))
    options = {"kind": "dt", "scale_num": 2, "workers": 0}
    flowpipe.extract_trajectories(root / "videos", root / "tracks", **options)
    return root / "tracks"


def save_classifier(tracks: Path, root: Path, encoding: Encoding = FISHER) -> Path:
    table = read_table(tracks / "k/a.h5")
    rows = {name: getattr(table, name) for name in encoding.descriptors}
    fitted = fit_encoders(rows, encoding)
    vectors = []
    for seed in range(4):
        clip = ClipVectors(fitted, encoding.pyramid)
        part = np.random.default_rng(seed).integers(0, len(table), 30)
        clip.add({name: each[part] for name, each in rows.items()}, table.info[part, 7:10])
        vectors.append(clip.vectors())
    machines = fit_one_vs_rest(np.eye(4), np.array([0, 1, 0, 1]), 2)
    path = root / "classifier.safetensors"
    distances = np.ones(len(encoding.descriptors))
    made = classifier_of(
        path, ("x", "y"), read_stage(tracks), encoding, fitted, machines, distances,
        vectors.__getitem__,
    )  # fmt: skip
    made.save(path, root)
    return root


def run(tracks, out, classifier, **options):
    return flowpipe.extract_features(tracks, out, classifier, workers=0, **options)


@pytest.mark.parametrize("encoding", [FISHER, WORDS])
def test_a_window_of_the_whole_clip_has_the_vectors_of_the_clip(tracks, tmp_path, encoding):
    net = save_classifier(tracks, tmp_path, encoding)
    assert run(tracks, tmp_path / "out", net, length=N_FRAMES).done == 2
    classifier = TrajectoryClassifier.load(net / "classifier.safetensors")
    whole = ClipVectors(classifier.encoders, encoding.pyramid)
    for rows, positions in read_blocks(tracks / "k/a.h5", encoding.descriptors):
        whole.add(rows, positions)
    expected = np.concatenate([whole.vectors()[name] for name in encoding.descriptors])
    found = np.load(tmp_path / "out/k/a.npy")
    assert found.shape == (1, len(expected))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert np.abs(found).max() > 0


def test_a_trajectory_belongs_to_the_windows_that_hold_its_last_frame(tracks, tmp_path):
    encoding = Encoding(descriptors=("hof",), gaussians=2, rows=200)
    net = save_classifier(tracks, tmp_path, encoding)
    run(tracks, tmp_path / "out", net, length=6, stride=4)
    table = read_table(tracks / "k/a.h5")
    encoder = TrajectoryClassifier.load(net / "classifier.safetensors").encoders["hof"]
    found = np.load(tmp_path / "out/k/a.npy")
    starts = range(0, N_FRAMES - 6 + 1, 4)
    assert len(found) == len(starts)
    for vector, start in zip(found, starts, strict=True):
        inside = [start <= end < start + 6 for end in table.info[:, 0]]
        rows = table.hof[inside]
        expected = ClipVectors({"hof": encoder})
        if len(rows):
            expected.add({"hof": rows})
        np.testing.assert_allclose(vector, expected.vectors()["hof"], atol=1e-6)
    assert not found[0].any()  # no track of 15 frames ends in the first six
    assert found[-1].any()


def test_clips_without_trajectories_have_zeros(tracks, tmp_path):
    net = save_classifier(tracks, tmp_path)
    run(tracks, tmp_path / "out", net, length=4, layout="ms-tcn")
    found = np.load(tmp_path / "out/short.npy")
    assert found.shape[1] == 8
    assert not found.any()
    record = json.loads((tmp_path / "out/short.npy.json").read_text())
    assert (record["frames"], record["modality"]) == (8, "trajectories")


def test_a_second_run_skips(tracks, tmp_path):
    net = save_classifier(tracks, tmp_path)
    run(tracks, tmp_path / "out", net, length=8)
    whole = contents(tmp_path / "out")
    assert run(tracks, tmp_path / "out", net, length=8).skipped == 2
    (tmp_path / "out/k/a.npy").unlink()
    assert run(tracks, tmp_path / "out", net, length=8).done == 1
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "length is not given; trajectories need it"),
        ({"length": 8, "crops": 10}, "crops is 10; it applies to networks"),
        ({"length": 8, "layout": "video-features"}, "stores times; trajectories have none"),
        ({"length": 8, "device": "cuda"}, "device is 'cuda'; it applies to networks"),
        ({"length": 8, "model": "i3d"}, "it applies to a published network"),
    ],
)
def test_what_does_not_apply_is_refused(tracks, tmp_path, options, reason):
    net = save_classifier(tracks, tmp_path)
    with pytest.raises(ParameterError, match=reason):
        run(tracks, tmp_path / "out", net, **options)


def test_other_trajectories_than_those_of_training_are_refused(tracks, tmp_path):
    net = save_classifier(tracks, tmp_path)
    videos = tracks.parent / "videos"
    flowpipe.extract_trajectories(videos, tmp_path / "other", kind="dt", workers=0)
    with pytest.raises(ParameterError, match=r"parameters\.scale_num: 2 recorded, 8 requested"):
        run(tmp_path / "other", tmp_path / "out", net, length=8)
    with pytest.raises(ParameterError, match="holds no trajectories"):
        run(videos, tmp_path / "out", net, length=8)
