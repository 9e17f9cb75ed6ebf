from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from flowpipe.classify.fusion import (
    StreamScores,
    UnlikeScoresError,
    fuse,
    parse,
    read_stream,
    standardised,
)
from flowpipe.classify.metrics import evaluate
from flowpipe.classify.scores import Scores, SplitScores, save_scores
from flowpipe.errors import FormatError, ParameterError

CLASSES = ("hug", "kick", "point")


def scores(seed=0, *, names="abcd", classes=CLASSES, splits=("1", "2"), labels=None) -> Scores:
    rng = np.random.default_rng(seed)
    labels = np.arange(len(names)) % 3 if labels is None else np.array(labels)
    parts = [
        SplitScores(
            split,
            tuple(f"{split}/{name}" for name in names),
            labels.astype(np.int64),
            rng.normal(size=(len(names), len(classes))).astype(np.float32),
        )
        for split in splits
    ]
    return Scores(tuple(classes), tuple(parts))


def test_raw_scores_one_to_one_and_a_half():
    rgb, flow = scores(1), scores(2)
    fused = fuse([StreamScores("rgb", rgb, 1), StreamScores("flow", flow, 1.5)])
    for one, other, both in zip(rgb.splits, flow.splits, fused.splits, strict=True):
        np.testing.assert_allclose(both.scores, one.scores + 1.5 * other.scores, rtol=1e-5)
        assert (both.split, both.names) == (one.split, one.names)
        np.testing.assert_array_equal(both.labels, one.labels)


def test_probabilities():
    rgb, flow, idt = scores(1), scores(2), scores(3)
    parts = [StreamScores("rgb", rgb), StreamScores("flow", flow, 2), StreamScores("idt", idt, 0.5)]
    fused = fuse(parts, softmax=True)
    expected = sum(w * softmax(s.splits[1].scores, 1) for w, s in ((1, rgb), (2, flow), (0.5, idt)))
    np.testing.assert_allclose(fused.splits[1].scores, expected, rtol=1e-5)


def test_one_stream_alone_is_itself():
    rgb = scores(1)
    found = fuse([StreamScores("rgb", rgb, 2.0)])
    np.testing.assert_array_equal(found.splits[0].scores, 2 * rgb.splits[0].scores)


@given(st.permutations(range(4)), st.permutations(range(3)), st.permutations(range(2)))
def test_the_order_of_clips_classes_and_splits_is_free(clips, columns, splits):
    rgb, flow = scores(1), scores(2)
    mixed = []
    for index in splits:
        part = flow.splits[index]
        new = {old: i for i, old in enumerate(columns)}
        mixed.append(
            SplitScores(
                part.split,
                tuple(part.names[i] for i in clips),
                np.array([new[part.labels[i]] for i in clips], np.int64),
                part.scores[clips][:, columns],
            )
        )
    shuffled = Scores(tuple(CLASSES[i] for i in columns), tuple(mixed))
    found = fuse([StreamScores("rgb", rgb), StreamScores("flow", shuffled, 1.5)])
    expected = fuse([StreamScores("rgb", rgb), StreamScores("flow", flow, 1.5)])
    for one, other in zip(found.splits, expected.splits, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        assert one.names == other.names
    assert found.classes == CLASSES


def test_mean_class_accuracy_is_the_mean_over_classes():
    """Three of the four clips of one class are right, and none of the single clip of another."""
    labels = np.array([0, 0, 0, 0, 1])
    table = np.array([[9, 0], [9, 0], [9, 0], [0, 9], [9, 0]], np.float32)
    part = SplitScores("1", tuple("abcde"), labels, table)
    metrics = evaluate(fuse([StreamScores("a", Scores(("x", "y"), (part,)))]))
    assert metrics.accuracy.value == pytest.approx(3 / 5)
    assert metrics.mean_class_accuracy.value == pytest.approx((3 / 4 + 0) / 2)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (scores(2, names="abc"), "clips of split '1' of rgb and flow differ: flow lacks '1/d'"),
        (scores(2, names="abcde"), "rgb lacks '1/e'"),
        (scores(2, names="abcx"), "rgb lacks '1/x'; flow lacks '1/d'"),
        (scores(2, splits=("1",)), "splits of rgb and flow differ: flow lacks '2'"),
        (scores(2, classes=("hug", "kick", "push")), "classes .*: rgb lacks 'push'; flow lacks"),
        (scores(2, classes=(*CLASSES, "push")), "rgb lacks 'push'"),
        (scores(2, labels=[1, 0, 2, 0]), "disagree on the true class of 2 clips of split '1', .*a"),
    ],
)
def test_streams_that_do_not_fit_are_refused(other, told):
    with pytest.raises(UnlikeScoresError, match=told):
        fuse([StreamScores("rgb", scores(1)), StreamScores("flow", other)])


def test_long_lists_are_cut():
    few, many = scores(1, names="a"), scores(2, names=[f"{i:03d}" for i in range(50)])
    with pytest.raises(UnlikeScoresError, match=r"'1/019' and 30 more; flow lacks '1/a'"):
        fuse([StreamScores("rgb", few), StreamScores("flow", many)])


def test_nothing_to_fuse():
    with pytest.raises(ParameterError, match="at least one"):
        fuse([])
    with pytest.raises(ParameterError, match="at least one"):
        fuse([StreamScores("rgb", scores(), 0)])


@pytest.mark.parametrize(
    ("text", "path", "weight"),
    [
        ("rgb.npz", "rgb.npz", 1.0),
        ("rgb.npz:1.5", "rgb.npz", 1.5),
        ("a:b/rgb.npz:-2", "a:b/rgb.npz", -2.0),
    ],
)
def test_files_and_weights(text, path, weight):
    found = parse(text)
    assert (str(found[0]), found[1]) == (path, weight)


def test_a_file_whose_name_ends_like_a_weight(tmp_path):
    path = tmp_path / "rgb:2"
    save_scores(path, scores(), tmp_path)
    assert parse(str(path)) == (path, 1.0)
    assert read_stream(f"{path}:3").weight == 3


@pytest.mark.parametrize("text", ["rgb.npz:much", "rgb.npz:", ":1", "rgb.npz:nan", "rgb.npz:inf"])
def test_wrong_weights(text):
    with pytest.raises(ParameterError, match="is no file, and no file with a weight"):
        parse(text)


def test_files_that_hold_no_scores(tmp_path):
    with pytest.raises(ParameterError, match="does not exist"):
        read_stream(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("1 2 3")
    with pytest.raises(FormatError, match=r"text\.npz"):
        read_stream(f"{tmp_path / 'text.npz'}:2")


def test_standardised_scores_have_mean_0_and_deviation_1():
    scores = np.random.default_rng(0).normal(3, 40, (20, 7)).astype(np.float32)
    found = standardised(scores)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(standardised(0.01 * scores + 2), found, rtol=1e-3, atol=1e-4)
    assert (found.argmax(axis=1) == scores.argmax(axis=1)).all()


@pytest.mark.parametrize("value", [0, 0.1, 1e30, -7.3])
def test_equal_scores_standardised_are_zeros(value):
    assert not standardised(np.full((3, 5), value, np.float32)).any()
