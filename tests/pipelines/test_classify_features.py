"""Linear SVMs on the mean features of clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import SVC

from flowpipe.classify.protocols import protocol
from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.errors import ParameterError
from flowpipe.pipelines.classify_features import classify_features
from flowpipe.runner.provenance import StageMismatchError, open_stage
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.features.layouts import LAYOUTS, files_of, write_features
from tests.helpers.tables import made_up_set, with_split

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture
def dataset(tmp_path):
    return with_split(made_up_set(tmp_path / "set", {"jump": 9, "run": 9}))


def write(folder: Path, dataset, layout: str = "npy", seed: int = 0) -> dict[str, np.ndarray]:
    """Features that tell the classes apart, of 3 to 5 windows; returns them."""
    rng = np.random.default_rng(seed)
    open_stage(folder, {"stage": "features", "layout": layout, "seed": seed})
    made = {}
    for number, clip in enumerate(dataset.clips):
        features = rng.normal(size=(3 + number % 3, 8)).astype(np.float32)
        features[:, dataset.classes.index(clip.label)] += 2
        made[clip.name] = features
        files = files_of(layout, folder, clip.name, "rgb")
        first = LAYOUTS[layout].features_first
        arrays = {files.features: features.T if first else features}
        write_features(files, arrays, {"clip": clip.name}, folder)
    return made


def test_scores_are_those_of_linear_svms_on_normalised_means(dataset, tmp_path):
    made = write(tmp_path / "features", dataset)
    metrics = classify_features(dataset, [tmp_path / "features"], tmp_path / "scores")
    assert metrics.accuracy.value > 0.8
    vectors = {name: each.mean(axis=0) for name, each in made.items()}
    vectors = {name: each / np.linalg.norm(each) for name, each in vectors.items()}
    split, classes = dataset.splits[0], dataset.classes
    labels = {clip.name: clip.label for clip in dataset.clips}
    (scored,) = load_scores(tmp_path / "scores/scores.npz").splits
    assert scored.names == split.test
    train = np.stack([vectors[name] for name in split.train])
    test = np.stack([vectors[name] for name in split.test])
    for index, label in enumerate(classes):
        svm = SVC(C=100, kernel="linear").fit(train, [labels[n] == label for n in split.train])
        np.testing.assert_allclose(scored.scores[:, index], svm.decision_function(test), atol=2e-2)
    written = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert written["stage"]["features"][0]["stage"] == "features"


def test_the_layout_does_not_matter(tmp_path):
    """Names without folders are matched, and arrays turned."""
    names = iter(range(100))
    dataset = with_split(made_up_set(tmp_path / "set", {"jump": 6, "run": 6}))
    made = write(tmp_path / "npy", dataset)
    open_stage(tmp_path / "tcn", {"stage": "features", "layout": "ms-tcn"})
    for name, features in made.items():
        files = files_of("ms-tcn", tmp_path / "tcn", f"v{next(names)}", "rgb")
        write_features(files, {files.features: features.T}, {"clip": name}, tmp_path / "tcn")
    found = [
        classify_features(dataset, [tmp_path / name], tmp_path / f"{name}-scores")
        for name in ("npy", "tcn")
    ]
    np.testing.assert_array_equal(found[0].confusion, found[1].confusion)


def test_two_folders_are_averaged(dataset, tmp_path):
    for seed in (0, 1):
        write(tmp_path / f"features{seed}", dataset, seed=seed)
    folders = [tmp_path / f"features{seed}" for seed in (0, 1)]
    one = classify_features(dataset, folders[:1], tmp_path / "one")
    both = classify_features(dataset, folders, tmp_path / "both")
    assert both.accuracy.value >= one.accuracy.value


def test_labels_of_test_clips_change_no_score(dataset, tmp_path):
    from dataclasses import replace

    write(tmp_path / "features", dataset)
    classify_features(dataset, [tmp_path / "features"], tmp_path / "1")
    test = dataset.splits[0].test
    wrong = [
        replace(clip, label="run" if clip.name in test else clip.label) for clip in dataset.clips
    ]
    changed = replace(dataset, clips=tuple(wrong))
    classify_features(changed, [tmp_path / "features"], tmp_path / "2")
    before, after = (load_scores(tmp_path / f"{n}/scores.npz").splits[0] for n in (1, 2))
    np.testing.assert_array_equal(before.scores, after.scores)


def test_clips_without_features_are_named_or_left_out(dataset, tmp_path):
    folder = tmp_path / "features"
    write(folder, dataset)
    (folder / "jump/3.npy.json").unlink()
    (folder / "run/4.npy").write_bytes(b"broken")
    with pytest.raises(UnusableClipsError, match=r"2 of 18 clips(.|\n)*jump/3(.|\n)*run/4"):
        classify_features(dataset, [folder], tmp_path / "scores")
    metrics = classify_features(dataset, [folder], tmp_path / "scores", leave_out_unusable=True)
    assert metrics.confusion.sum() == len(dataset.splits[0].test) - 1


def test_what_is_no_features_is_refused(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="empty' holds no features"):
        classify_features(dataset, [tmp_path / "empty"], tmp_path / "scores")
    for seed in (0, 1):
        write(tmp_path / f"features{seed}", dataset, seed=seed)
    classify_features(dataset, [tmp_path / "features0"], tmp_path / "scores")
    with pytest.raises(StageMismatchError, match="other settings"):
        classify_features(dataset, [tmp_path / "features1"], tmp_path / "scores")


def test_the_command(tmp_path, capsys):
    dataset = made_up_set(tmp_path / "set", {"jump": 9, "run": 9})
    write(tmp_path / "features", dataset)
    options = ["--features", str(tmp_path / "features"), "--out", str(tmp_path / "scores")]
    with pytest.raises(SystemExit) as end:
        main(["classify", str(tmp_path / "set"), *options, "--protocol", "3-fold"])
    told = capsys.readouterr().err
    assert end.value.code == 0, told
    assert "mean features" in told
    splits = load_scores(tmp_path / "scores/scores.npz").splits
    assert len(splits) == len(protocol(dataset, "3-fold").splits)
    with pytest.raises(SystemExit) as end:
        main(["classify", str(tmp_path / "vectors"), "--protocol", "loo"])
    assert end.value.code == 2
    assert "protocol is 'loo'; it applies to --features" in capsys.readouterr().err
