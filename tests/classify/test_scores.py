from __future__ import annotations

import numpy as np
import pytest

from flowpipe.classify.scores import Scores, SplitScores, load_scores, save_scores
from flowpipe.errors import FormatError, ParameterError

NAMES = ("hug/\u00e9\u4e2d", "kick/<b>&", "kick/\udcff")


def made_up() -> Scores:
    rng = np.random.default_rng(0)
    parts = tuple(
        SplitScores(
            f"split{i}",
            NAMES[: 3 - i],
            np.arange(3 - i) % 2,
            rng.normal(size=(3 - i, 2)).astype(np.float32),
        )
        for i in range(2)
    )
    return Scores(("hug", "kick"), parts)


def test_round_trip(tmp_path):
    scores = made_up()
    save_scores(tmp_path / "scores.npz", scores, tmp_path)
    loaded = load_scores(tmp_path / "scores.npz")
    assert loaded.classes == scores.classes
    for ours, theirs in zip(scores.splits, loaded.splits, strict=True):
        assert (theirs.split, theirs.names) == (ours.split, ours.names)
        assert np.array_equal(theirs.labels, ours.labels)
        assert np.array_equal(theirs.scores, ours.scores)


def test_numpy_reads_it_without_pickles(tmp_path):
    save_scores(tmp_path / "scores.npz", made_up(), tmp_path)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as file:
        assert file["names"].tolist() == [*NAMES, *NAMES[:2]]
        assert file["scores"].shape == (5, 2)
        assert file["classes"].tolist() == ["hug", "kick"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", np.zeros((5, 3)), "is expected"),
        ("scores", np.full((5, 2), np.inf), "not finite"),
        ("labels", np.full(5, 2), "labels from 2 to 2"),
        ("labels", np.zeros(5), "is float64"),
        ("names", np.arange(5), "is int64"),
        ("split", np.zeros(5, int), "'split1' has no scores"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, value, message):
    path = tmp_path / "scores.npz"
    save_scores(path, made_up(), tmp_path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(FormatError, match=message):
        load_scores(path)


def test_predictions_take_the_first_of_equals():
    part = SplitScores("1", ("a", "b"), np.zeros(2, int), np.array([[1, 1], [0, 2]], np.float32))
    assert part.predictions.tolist() == [0, 1]


def test_the_scores_of_true_classes_and_the_classes_that_are_tested():
    table = np.arange(9, dtype=np.float32).reshape(3, 3)
    part = SplitScores("1", ("a", "b", "c"), np.array([2, 0, 2]), table)
    assert part.true_scores.tolist() == [2, 3, 8]
    assert part.tested.tolist() == [0, 2]


def test_lengths_must_agree():
    with pytest.raises(ParameterError, match="their lengths must agree"):
        SplitScores("1", ("a",), np.zeros(2, int), np.zeros((1, 2), np.float32))
    with pytest.raises(ParameterError, match="for 2 classes; there are 1"):
        Scores(("hug",), made_up().splits)
