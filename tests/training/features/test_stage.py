"""Which windows a clip has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.errors import ParameterError
from flowpipe.training.features.stage import FeatureStage, Windows

counts = st.integers(1, 60)


@given(n=counts, length=counts, stride=counts)
def test_windows_are_whole_and_as_many_as_fit(n, length, stride):
    starts = list(Windows(length, stride).starts(n, n))
    if n < length:
        assert starts == [0]
        return
    assert len(starts) == (n - length) // stride + 1
    assert starts == [index * stride for index in range(len(starts))]
    assert starts[-1] + length <= n < starts[-1] + stride + length


@given(n=counts, length=counts)
def test_a_feature_per_frame_is_in_the_middle_of_its_window(n, length):
    starts = Windows(length, 1, per_frame=True).starts(n, n)
    assert len(starts) == n
    for frame, start in enumerate(starts):
        before, behind = frame - start, start + length - 1 - frame
        assert 0 <= before - behind <= 1


def test_flow_has_a_column_for_its_last_frame_too():
    assert len(Windows(5, 1, per_frame=True).starts(n=9, frames=10)) == 10


def test_defaults_follow_from_the_length_and_the_layout():
    assert FeatureStage(length=16).windows == Windows(16, 16)
    assert FeatureStage(length=16, stride=4).windows == Windows(16, 4)
    assert FeatureStage(length=16, layout="ms-tcn").windows == Windows(16, 1, per_frame=True)
    assert FeatureStage().of_length(7).length == 7
    assert FeatureStage(length=3).of_length(7).length == 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"stride": 0}, "stride is 0"),
        ({"crops": 5}, "crops is 5; it must be 1, 3 or 10"),
        ({"layout": "h5"}, "layout is 'h5'; it must be one of npy, actionformer"),
        ({"layout": "ms-tcn", "stride": 4}, "stride is 4; layout ms-tcn has a feature per frame"),
    ],
)
def test_options_out_of_range_are_named(options, reason):
    with pytest.raises(ParameterError, match=reason):
        FeatureStage(**options)
