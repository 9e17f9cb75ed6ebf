from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from flowpipe.classify.metrics import Mistake, evaluate, mistakes, student, wilson
from flowpipe.classify.scores import Scores, SplitScores
from flowpipe.errors import ParameterError


def scores_of(*splits: tuple[list[int], list[int]], classes: int = 3) -> Scores:
    """Splits of true and predicted classes."""
    parts = []
    for number, (truth, predicted) in enumerate(splits):
        names = tuple(f"{number}/{i}" for i in range(len(truth)))
        table = np.eye(classes, dtype=np.float32)[predicted]
        parts.append(SplitScores(str(number), names, np.array(truth), table))
    return Scores(tuple("abcdef"[:classes]), tuple(parts))


def test_by_hand():
    found = evaluate(scores_of(([0, 0, 0, 1], [0, 0, 1, 1]), ([0, 1], [2, 1])))
    assert [split.accuracy for split in found.splits] == [0.75, 0.5]
    assert found.splits[0].mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.mean_accuracy.value == pytest.approx(0.625)
    assert found.confusion.tolist() == [[2, 1, 1], [0, 2, 0], [0, 0, 0]]
    assert found.class_accuracy[:2] == pytest.approx([0.5, 1])
    assert math.isnan(found.class_accuracy[2])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label")
def test_mean_class_accuracy_is_scikit_learns_balanced_accuracy(pairs):
    truth, predicted = map(list, zip(*pairs, strict=True))
    found = evaluate(scores_of((truth, predicted)))
    expected = balanced_accuracy_score(truth, predicted)
    assert found.splits[0].mean_class_accuracy == pytest.approx(expected)
    assert found.confusion.sum() == len(truth)


def test_average_precision_follows_the_ranking():
    # Ranked by the score of class a: right, wrong, right.
    table = np.array([[0.9, 0], [0.8, 0], [0.7, 0], [0.1, 5]], np.float32)
    part = SplitScores("1", tuple("wxyz"), np.array([0, 1, 0, 1]), table)
    found = evaluate(Scores(("a", "b"), (part,)))
    assert found.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.filterwarnings("error")
def test_a_split_without_a_class_and_a_class_never_tested():
    found = evaluate(scores_of(([0, 0], [0, 1]), ([1], [1])))
    assert found.splits[0].mean_class_accuracy == 0.5
    assert found.splits[1].mean_class_accuracy == 1
    assert np.isnan(found.average_precision).tolist() == [False, False, True]


def test_json_has_no_nan():
    content = evaluate(scores_of(([0, 1], [0, 0]))).to_json()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text)["classes"][2] == {
        "class": "c", "accuracy": None, "average_precision": None,
    }  # fmt: skip
    assert content["mean_accuracy"] == {"value": 0.5, "low": None, "high": None}


def test_wilsons_interval():
    # Newcombe 1998, table I: 81 of 263, 0.2553 to 0.3662.
    found = wilson(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1
    for successes, trials in ((0, 0), (3, 2)):
        with pytest.raises(ParameterError, match="is no proportion"):
            wilson(successes, trials)


def test_students_interval():
    # t of 2 degrees of freedom at 97.5 %: 4.3027.
    found = student([0.8, 0.82, 0.84])
    assert found.value == pytest.approx(0.82)
    assert found.high - found.value == pytest.approx(4.3027 * 0.02 / 3**0.5, abs=1e-5)
    assert student([0.9, 1.0]).high == 1
    assert math.isnan(student([0.5]).low)


def test_the_surest_mistake_comes_first():
    table = np.array([[0, 1], [0, 3], [2, 0]], np.float32)
    parts = tuple(
        SplitScores(split, ("x", "y", "z"), np.array([0, 0, 0]), table * scale)
        for split, scale in (("s", np.float32(1)), ("t", np.float32(2)))
    )
    assert mistakes(Scores(("a", "b"), parts)) == [
        Mistake("y", "t", "a", "b", 6.0),
        Mistake("y", "s", "a", "b", 3.0),
        Mistake("x", "t", "a", "b", 2.0),
        Mistake("x", "s", "a", "b", 1.0),
    ]
