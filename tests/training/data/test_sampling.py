"""Which fields a network sees: the published rules, written down once more and compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.errors import ParameterError
from flowpipe.training.data.sampling import (
    centre_starts,
    random_starts,
    snippets,
    starts,
    tick_starts,
    whole_starts,
)

SIZES = st.integers(1, 12).flatmap(
    lambda length: st.tuples(st.integers(length, 400), st.integers(1, 30), st.just(length))
)


def tsn_ticks(n: int, length: int, snippets: int = 25) -> list[int]:
    """TSN's test: ticks from 1, one step apart, cut off before the last field."""
    step = (n - length) // (snippets - 1)
    if step <= 0:
        return [1] * snippets
    return list(range(1, min(2 + step * (snippets - 1), n + 1), step))


@given(st.integers(5, 1000))
def test_tests_take_the_ticks_of_tsn(n):
    assert [start + 1 for start in tick_starts(n, 25, 5)] == tsn_ticks(n, 5)


def test_ticks_of_a_clip_of_ucf101():
    # v_ApplyEyeMakeup_g01_c01 has 164 frames: 163 fields, step 6
    assert tick_starts(163, 25, 5).tolist() == list(range(0, 145, 6))


def test_ticks_of_a_short_clip_are_all_the_first():
    assert tick_starts(28, 25, 5).tolist() == [0] * 25
    assert tick_starts(29, 25, 5).tolist() == list(range(25))


def test_one_test_segment_is_the_middle():
    assert tick_starts(11, 1, 5).tolist() == [3]


@given(SIZES)
def test_validation_takes_the_middle_of_each_segment(sizes):
    n, segments, length = sizes
    places = n - length + 1
    got = centre_starts(n, segments, length)
    if n > segments + length - 1:  # tsn-pytorch's condition
        tick = places / segments
        assert got.tolist() == [int(tick / 2 + tick * k) for k in range(segments)]
    for k, start in enumerate(got):
        assert k * places / segments - 1 < start < (k + 1) * places / segments


@given(SIZES, st.integers(1, 10))
def test_each_time_that_segments_are_sampled_is_at_another_place_in_each(sizes, clips):
    n, segments, length = sizes
    got = centre_starts(n, segments, length, clips).reshape(clips, segments)
    assert (np.diff(got, axis=0) >= 0).all()
    tick = (n - length + 1) / segments
    for k in range(segments):
        assert (got[:, k] > k * tick - 1).all()
        assert (got[:, k] < (k + 1) * tick).all()
    if tick >= 2 * clips:
        assert (np.diff(got, axis=0) > 0).all()
    if clips == 1:
        assert np.array_equal(got[0], centre_starts(n, segments, length))


@given(st.integers(1, 900), st.integers(1, 300))
def test_a_whole_clip_is_covered_by_the_fewest_snippets(n, length):
    length = min(n, length)
    got = whole_starts(n, length)
    assert len(got) == -(-n // length)
    assert (got[0], got[-1] + length) == (0, n)
    assert (np.diff(got) <= length).all()


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 8),
    st.sampled_from(["loop", "repeat"]),
)
def test_a_snippet_goes_on_after_the_end_of_a_short_clip(n, length, stride, short):
    (got,) = snippets(np.array([0]), length, stride, n, short)
    for step, index in enumerate(got):
        wanted = step * stride
        assert index == (wanted if wanted < n else wanted % n if short == "loop" else n - 1)


@given(SIZES, st.sampled_from(["random", "centre", "test"]), st.integers(0, 9))
def test_snippets_lie_inside_the_clip(sizes, sampling, seed):
    n, segments, length = sizes
    got = starts(sampling, n, segments, length, np.random.default_rng(seed))
    assert got.shape == (segments,)
    assert got.dtype == np.int64
    assert got.min() >= 0
    assert got.max() + length <= n
    assert (np.diff(got) >= 0).all()


@given(SIZES, st.integers(0, 9))
def test_training_takes_one_snippet_a_segment(sizes, seed):
    n, segments, length = sizes
    duration = (n - length + 1) // segments
    got = random_starts(n, segments, length, np.random.default_rng(seed))
    if duration:
        assert (got // duration).tolist() == list(range(segments))


def test_training_draws_every_start_of_a_segment_and_no_other():
    rng = np.random.default_rng(0)
    drawn = np.stack([random_starts(20, 3, 5, rng) for _ in range(400)])
    # 16 starts: segments of 5, and one start that TSN never takes
    for segment in range(3):
        assert set(drawn[:, segment]) == set(range(5 * segment, 5 * segment + 5))


def test_the_last_snippet_of_a_clip_is_drawn():
    rng = np.random.default_rng(0)
    assert max(random_starts(16, 1, 10, rng)[0] for _ in range(200)) == 6
    assert centre_starts(10, 1, 10).tolist() == [0]


def test_a_clip_with_fewer_starts_than_segments_gives_sorted_draws():
    rng = np.random.default_rng(0)
    drawn = [tuple(random_starts(6, 3, 5, rng)) for _ in range(100)]
    assert set(drawn) == {(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)}


@pytest.mark.parametrize("sampling", ["random", "centre", "test"])
def test_a_clip_that_is_too_short_is_an_error(sampling):
    with pytest.raises(ParameterError, match="a clip of 4 cannot give a snippet of 5"):
        starts(sampling, 4, 3, 5, np.random.default_rng(0))


@pytest.mark.parametrize(("segments", "length"), [(0, 5), (3, 0)])
def test_counts_are_positive(segments, length):
    with pytest.raises(ParameterError, match="at least 1"):
        tick_starts(100, segments, length)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ParameterError, match="sampling is 'dense'"):
        starts("dense", 100, 3, 5, np.random.default_rng(0))
