from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.encoding.sampling import balanced_counts, sample_rows
from flowpipe.errors import ParameterError


def test_short_clips_give_all_and_the_others_share_the_rest():
    assert balanced_counts([1000, 10, 1000, 0], 210).tolist() == [100, 10, 100, 0]


@given(st.lists(st.integers(0, 500), max_size=20), st.integers(1, 3000))
def test_counts_are_balanced(lengths, total):
    counts = balanced_counts(lengths, total)
    assert counts.sum() == min(total, sum(lengths))
    assert all(0 <= count <= length for count, length in zip(counts, lengths, strict=True))
    held_back = [c for c, length in zip(counts, lengths, strict=True) if c < length]
    given_all = [c for c, length in zip(counts, lengths, strict=True) if c == length]
    if held_back:
        assert max(held_back) - min(held_back) <= 1
        assert max(given_all, default=0) <= min(held_back) + 1


def test_rows_are_drawn_without_repetition_and_in_order():
    rows = sample_rows({"a": 50, "b": 3, "c": 0}, 20, seed=1)
    assert list(rows) == ["a", "b", "c"]
    assert [len(each) for each in rows.values()] == [17, 3, 0]
    assert np.all(np.diff(rows["a"]) > 0)
    assert rows["a"].max() < 50


def test_rows_depend_on_the_seed_and_not_on_the_order_of_clips():
    clips = {f"c{i}": 100 + i for i in range(5)}
    first = sample_rows(clips, 60, seed=3)
    second = sample_rows(dict(reversed(clips.items())), 60, seed=3)
    assert all(np.array_equal(first[name], second[name]) for name in clips)
    other = sample_rows(clips, 60, seed=4)
    assert any(not np.array_equal(first[name], other[name]) for name in clips)


@pytest.mark.parametrize(("lengths", "total"), [([1, 2], 0), ([-1], 5)])
def test_bad_numbers(lengths, total):
    with pytest.raises(ParameterError, match="must be"):
        balanced_counts(lengths, total)
