"""Systems on the same tests: which are right, and whether a difference may be chance."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.classify.metrics import evaluate
from flowpipe.classify.paired import (
    accuracy_of,
    adjusted,
    compare_pair,
    mcnemar,
    predictions_of,
    protocol_tests,
    table_of,
)
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores, SplitScores
from flowpipe.datasets.base import Split
from flowpipe.errors import ParameterError

counts = st.integers(0, 60)


def exact(first: int, second: int) -> float:
    """The test in whole numbers: twice the smaller tail of tosses of a coin."""
    n = first + second
    tail = sum(comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**n)


@given(counts, counts)
def test_mcnemar_is_a_coin_that_is_tossed(first, second):
    assert mcnemar(first, second) == pytest.approx(exact(first, second), rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_in_known_cases():
    # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013, table 2: b = 1, c = 7.
    assert mcnemar(1, 7) == pytest.approx(0.0703, abs=1e-4)
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 6) == 2 / 64
    with pytest.raises(ParameterError, match="-1"):
        mcnemar(-1, 2)


def test_holm_s_method():
    # Three tests: the smallest times 3, the next times 2, the largest as it is, never falling.
    assert adjusted([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert adjusted([0.5, 0.9]) == [1.0, 1.0]
    assert adjusted([]) == []


def test_a_pair_counts_what_one_alone_got_right():
    first = np.array([1, 1, 1, 0, 0, 1], bool)
    second = np.array([1, 0, 0, 1, 0, 0], bool)
    pair = compare_pair(first, second)
    assert (pair.first_only, pair.second_only, pair.differ) == (3, 1, 4)
    assert pair.p == exact(3, 1)


@pytest.fixture
def protocol():
    labels = {"a/1": "a", "a/2": "a", "b/1": "b", "b/2": "b", "b/3": "b"}
    splits = (
        Split("one", ("a/1", "b/1"), ("a/2", "b/2", "b/3")),
        Split("two", ("a/2", "b/2", "b/3"), ("a/1", "b/1")),
    )
    return Protocol("made up", ("a", "b"), splits, labels)


def scores(protocol, rows, leave_out=()):
    parts = []
    for split in protocol.splits:
        names = [name for name in split.test if name not in leave_out][::-1]  # in another order
        if names:
            table = np.array([rows[name] for name in names], np.float32)
            parts.append(protocol.scored(split.name, names, table))
    return Scores(protocol.classes, tuple(parts))


ROWS = {"a/1": (2, 1), "a/2": (1, 2), "b/1": (0, 3), "b/2": (4, 5), "b/3": (1, 0)}


def test_scores_are_found_by_split_and_name(protocol):
    tests = protocol_tests(protocol)
    assert tests.names == ("a/2", "b/2", "b/3", "a/1", "b/1")
    table, known = table_of(scores(protocol, ROWS), tests)
    np.testing.assert_array_equal(table, [ROWS[name] for name in tests.names])
    assert known.all()
    right = predictions_of(table, known) == tests.labels
    assert right.tolist() == [False, True, False, True, True]


def test_accuracies_are_those_of_the_metrics(protocol):
    tests, found = protocol_tests(protocol), scores(protocol, ROWS)
    ours = accuracy_of(predictions_of(*table_of(found, tests)) == tests.labels, tests)
    theirs = evaluate(found)
    assert ours.accuracy == theirs.accuracy
    assert ours.mean_accuracy == theirs.mean_accuracy
    assert ours.mean_class_accuracy == pytest.approx(np.mean(theirs.class_accuracy))


def test_a_test_without_scores_is_no_class(protocol):
    tests = protocol_tests(protocol)
    table, known = table_of(scores(protocol, ROWS, leave_out=("b/2", "a/1", "b/1")), tests)
    assert known.tolist() == [True, False, True, False, False]
    assert predictions_of(table, known).tolist() == [1, -1, 0, -1, -1]


def test_scores_of_other_classes_are_refused(protocol):
    part = SplitScores("one", ("a/2",), np.array([0]), np.zeros((1, 2), np.float32))
    with pytest.raises(ParameterError, match="'x'"):
        table_of(Scores(("x", "y"), (part,)), protocol_tests(protocol))
