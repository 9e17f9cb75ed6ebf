from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.classify.detection import interval_metrics, temporal_overlap
from flowpipe.classify.nms import IntervalSearch, find_intervals, temporal_nms
from flowpipe.datasets.intervals import Interval, frame_labels
from flowpipe.errors import ParameterError

CLASSES = ("jump", "run")
some_intervals = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(0, 5)), max_size=15
)


@given(some_intervals, st.floats(0, 1))
def test_properties_of_non_maximum_suppression(rows, overlap):
    intervals = np.array([(a, a + n) for a, n, _ in rows], float).reshape(-1, 2)
    scores = np.array([score for *_, score in rows], float)
    kept = temporal_nms(intervals, scores, overlap)
    assert len(set(kept.tolist())) == len(kept)
    assert (np.diff(scores[kept]) <= 0).all()
    shared = temporal_overlap(intervals, intervals)
    among = shared[np.ix_(kept, kept)]
    assert (among[~np.eye(len(kept), dtype=bool)] <= overlap).all()
    # what is left out overlaps one that is kept and scores as much
    for index in set(range(len(rows))) - set(kept.tolist()):
        assert any(shared[index, k] > overlap and scores[k] >= scores[index] for k in kept)
    again = temporal_nms(intervals[kept], scores[kept], overlap)
    np.testing.assert_array_equal(again, np.arange(len(kept)))
    np.testing.assert_array_equal(temporal_nms(intervals, scores, overlap, 2), kept[:2])


def test_of_equal_scores_the_first_is_kept():
    intervals = np.array([[0.0, 10.0], [1.0, 11.0]])
    np.testing.assert_array_equal(temporal_nms(intervals, np.ones(2), 0.5), [0])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ParameterError, match=r"must be \(n, 2\)"):
        temporal_nms(np.zeros((2, 3)), np.zeros(2), 0.5)
    with pytest.raises(ParameterError, match="end after their start"):
        temporal_nms(np.zeros((2, 2)), np.zeros(2), 0.5)
    with pytest.raises(ParameterError, match="overlap is 2"):
        temporal_nms(np.zeros((0, 2)), np.zeros(0), 2)


@given(
    st.sampled_from([4.0, 24.0, 25.0, 29.97]),
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(2, 30), st.sampled_from(CLASSES)), max_size=6
    ),
)
def test_scores_of_true_frames_give_the_intervals_back(rate, parts):
    intervals, now = [], 0
    for gap, length, label in parts:
        first = now + gap + length  # as far away as what is compared
        now = first + length
        intervals.append(Interval(first / rate, now / rate, label))
    scores = frame_labels(intervals, CLASSES, now + 50, rate).astype(float)
    found = find_intervals(scores, CLASSES, rate)
    given_back = sorted((each.start, each.end, each.label) for each in found)
    expected = sorted((each.start, each.end, each.label) for each in intervals)
    assert [each[2] for each in given_back] == [each[2] for each in expected]
    np.testing.assert_allclose(
        [each[:2] for each in given_back], [each[:2] for each in expected], atol=1e-9
    )


def test_noisy_scores_give_the_intervals():
    rng = np.random.default_rng(0)
    intervals = [Interval(2, 5, "run"), Interval(8, 9.2, "jump"), Interval(11, 16, "run")]
    truth = frame_labels(intervals, CLASSES, 500, 25)
    smooth = np.ones(5) / 5
    scores = 0.15 + 0.7 * truth + rng.normal(0, 0.1, truth.shape)
    scores = np.stack([np.convolve(each, smooth, "same") for each in scores.T], axis=1).clip(0, 1)
    for windows in ((), (1.0, 3.0, 5.0)):
        found = find_intervals(scores, CLASSES, 25, IntervalSearch(windows=windows))
        metrics = interval_metrics({"a": intervals}, {"a": found}, CLASSES)
        assert min(metrics.mean_average_precision) == 1


def test_sliding_windows_find_what_no_threshold_divides():
    """A rise of the scores, above all thresholds."""
    scores = np.full((200, 1), 0.4)
    scores[80:120] = 0.95
    search = IntervalSearch(thresholds=(0.3,), windows=(4.0,))
    best = find_intervals(scores, ["run"], 10.0, search)[0]
    assert (best.start, best.end) == (8.0, 12.0)
    assert best.score == pytest.approx(0.55)


def test_the_background_is_not_searched_and_the_best_are_kept():
    scores = np.zeros((100, 3))
    scores[10:20, 0], scores[40:50, 0], scores[70:80, 1] = 0.9, 0.5, 0.7
    scores[:, 2] = 1 - scores.sum(axis=1)
    found = find_intervals(scores, CLASSES, 1.0)
    assert [(each.start, each.label) for each in found] == [(10, "jump"), (70, "run"), (40, "jump")]
    found = find_intervals(scores, CLASSES, 1.0, IntervalSearch(max_intervals=1))
    assert [each.start for each in found] == [10, 70]
    found = find_intervals(scores, CLASSES, 1.0, IntervalSearch(min_score=0.6))
    assert [each.start for each in found] == [10, 70]
    assert find_intervals(np.zeros((0, 2)), CLASSES, 1.0) == ()


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.zeros((4, 4)), r"scores are \(4, 4\)"),
        (np.zeros(4), r"scores are \(4,\)"),
        (np.full((4, 2), 1.5), "probabilities, from 0 to 1"),
        (np.full((4, 2), np.nan), "probabilities, from 0 to 1"),
    ],
)
def test_scores_that_are_none_are_refused(scores, reason):
    with pytest.raises(ParameterError, match=reason):
        find_intervals(scores, CLASSES, 25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": (0.0,)},
        {"thresholds": ()},
        {"windows": (-1.0,)},
        {"margin": 0},
        {"overlap": 1.5},
        {"max_intervals": 0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        IntervalSearch(**wrong)
