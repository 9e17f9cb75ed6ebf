from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.classify.finding import (
    Finding,
    IntervalFinder,
    find_intervals,
    sliding,
    suppressed,
)
from flowpipe.errors import ParameterError


def steps(scores, rate: float = 2.0):
    """Times of steps, and their scores (T, classes)."""
    scores = np.atleast_2d(np.asarray(scores, float).T).T
    edges = np.arange(len(scores) + 1) / rate
    return np.stack([edges[:-1], edges[1:]], axis=1), scores


def test_runs_at_a_threshold_are_intervals_that_differ_from_their_neighbours():
    times, scores = steps([0.9, 0.7, 0.2, 0.5, 0.6])
    found = find_intervals(times, scores, ("run",), Finding((0.5,)))
    assert [(each.start, each.end, each.label) for each in found] == [
        (0.0, 1.0, "run"),
        (1.5, 2.5, "run"),
    ]
    np.testing.assert_allclose([each.score for each in found], [0.8 - 0.2, 0.55 - 0.2])


def test_of_runs_at_several_thresholds_the_best_is_kept():
    times, scores = steps([0.1, 0.3, 0.9, 0.9, 0.3, 0.1])
    several = Finding((0.2, 0.8), nms=0.4)  # the runs overlap by half
    (found,) = find_intervals(times, scores, ("a",), several)
    assert (found.start, found.end, found.score) == (1.0, 2.0, pytest.approx(0.6))
    both = find_intervals(times, scores, ("a",), Finding((0.2, 0.8), nms=0.5))
    assert [(each.start, each.end) for each in both] == [(0.5, 2.5), (1.0, 2.0)]


def test_a_sure_part_of_an_action_is_no_better_than_the_whole():
    times, scores = steps([0.0, 0.7, 0.9, 0.7, 0.9, 0.7, 0.0])
    found = find_intervals(times, scores, ("a",), Finding((0.5, 0.8), nms=0.4))
    best = max(found, key=lambda each: each.score)
    assert (best.start, best.end) == (0.5, 3.0)


def test_classes_do_not_suppress_each_other():
    times, scores = steps(np.array([[0.9, 0.8], [0.9, 0.8]]))
    found = find_intervals(times, scores, ("a", "b"), Finding())
    assert {each.label for each in found} == {"a", "b"}


def test_an_interval_is_given_out_once_and_when_it_is_over():
    finder = IntervalFinder(("a",), Finding((0.3, 0.6)))
    given_out = [finder.add(0.5 * k, [score]) for k, score in enumerate((0.9, 0.4, 0.1, 0.7))]
    assert [len(each) for each in given_out] == [0, 0, 1, 0]
    assert [each.start for each in finder.finish(2.0)] == [1.5]
    assert finder.finish(2.0) == []


scores_of_a_video = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=30)


@given(scores_of_a_video, st.floats(0, 1), st.sets(st.floats(0.05, 0.95), min_size=1, max_size=4))
def test_what_comes_step_by_step_is_what_all_candidates_give(scores, nms, thresholds):
    """Non-maximum suppression of the candidates of the whole video keeps the same ones."""
    times, table = steps(scores)
    finding = Finding(tuple(thresholds), nms)
    found = find_intervals(times, table, ("a", "b"), finding)
    for number, label in enumerate("ab"):
        candidates = []
        for threshold in thresholds:
            above = np.concatenate([[False], table[:, number] >= threshold, [False]])
            edges = np.flatnonzero(np.diff(above.astype(int)))
            for first, end in zip(edges[::2], edges[1::2], strict=True):
                # What has come when the run at the lowest threshold is over.
                low = table[:, number] >= min(thresholds)
                until = end + np.append(np.flatnonzero(~low[end:]), len(low) - end)[0] + 1
                side = max(round((end - first) / 4), 1)
                near = [*range(max(first - side, 0), first), *range(end, end + side)]
                near = [step for step in near if step < min(until, len(low))]
                column = table[:, number]
                value = column[first:end].mean() - (column[near].mean() if near else 0)
                candidates.append((times[first, 0], times[end - 1, 1], value))
        candidates = sorted({each for each in candidates if each[2] > 1e-12})
        own = sorted((each.start, each.end, each.score) for each in found if each.label == label)
        np.testing.assert_allclose(own, suppressed(candidates, nms))


@given(scores_of_a_video, st.floats(0, 1))
def test_kept_intervals_do_not_overlap_more_than_allowed(scores, nms):
    times, table = steps(scores)
    found = find_intervals(times, table, ("a", "b"), Finding(sliding().threshold, nms))
    for i, one in enumerate(found):
        assert one.start < one.end
        for other in found[i + 1 :]:
            common = min(one.end, other.end) - max(one.start, other.start)
            whole = max(one.end, other.end) - min(one.start, other.start)
            assert one.label != other.label or common / whole <= nms


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": ()}, "threshold is"),
        ({"threshold": (0.5, 1.0)}, "threshold is"),
        ({"threshold": (float("nan"),)}, "threshold is"),
        ({"nms": -0.1}, "nms is -0.1"),
        ({"nms": float("nan")}, "nms is nan"),
    ],
)
def test_wrong_options_are_named(options, reason):
    with pytest.raises(ParameterError, match=reason):
        Finding(**options)
