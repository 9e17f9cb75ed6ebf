from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.classify.detection import temporal_overlap
from flowpipe.classify.nms import temporal_nms
from flowpipe.errors import ParameterError

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
