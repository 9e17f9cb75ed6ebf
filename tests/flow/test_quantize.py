from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowpipe.errors import ParameterError
from flowpipe.flow.quantize import ZERO_LEVEL, from_uint8, to_uint8

BOUNDS = st.floats(0.5, 512)
FLOWS = arrays.arrays(np.float32, (16,), elements=st.floats(-600, 600, width=32))


def test_golden_levels_of_the_field():
    # CAST(v, -20, 20) of dense_flow in double arithmetic, by hand: 255 * (v + 20) / 40.
    flow = [-20, -19.9, -10, -1, -0.1, -0.0784, 0, 0.07, 0.08, 0.1, 1, 10, 19.9, 20]
    levels = [0, 1, 64, 121, 127, 127, 128, 128, 128, 128, 134, 191, 254, 255]
    assert to_uint8(np.array(flow)).tolist() == levels


def test_halves_go_to_the_even_level():
    # At a bound of 127.5 a level is v + 127.5: every whole displacement is a half.
    assert to_uint8(np.array([-1.0, 0.0, 1.0, 2.0]), 127.5).tolist() == [126, 128, 128, 130]


def test_zero_is_128_and_stays_exactly_zero():
    for bound in (1, 15, 20, 32.5):
        assert to_uint8(np.zeros(1), bound) == 128 == ZERO_LEVEL
        assert from_uint8(np.array([128], np.uint8), bound) == 0


def test_saturation_and_what_is_not_a_number():
    flow = np.array([-1e30, -np.inf, -20.1, 20.1, np.inf, 1e30, np.nan], np.float32)
    assert to_uint8(flow).tolist() == [0, 0, 0, 255, 255, 255, 128]


def test_the_input_is_left_alone():
    flow = np.array([np.nan, 1.0, 500.0])
    to_uint8(flow)
    np.testing.assert_array_equal(flow, [np.nan, 1.0, 500.0])


@pytest.mark.parametrize("bound", [0, -1, np.nan, np.inf])
def test_a_bound_must_be_positive(bound):
    for function in (to_uint8, from_uint8):
        with pytest.raises(ParameterError, match=r"bound is .*positive number of pixels"):
            function(np.zeros(1, np.uint8), bound)


@given(FLOWS, BOUNDS)
def test_round_trip_is_within_half_a_level_without_bias(flow, bound):
    level = 2 * bound / 255
    back = from_uint8(to_uint8(flow, bound), bound, zero=127.5)
    assert back.dtype == np.float32
    assert np.all(np.abs(back - np.clip(flow, -bound, bound)) <= level * 0.5001)


@given(FLOWS, BOUNDS)
def test_round_trip_is_within_a_level_to_the_negative(flow, bound):
    level = 2 * bound / 255
    error = from_uint8(to_uint8(flow, bound), bound) - np.clip(flow, -bound, bound)
    assert np.all((error >= -1.0001 * level) & (error <= 1e-4 * level))


@given(st.integers(0, 255), BOUNDS)
def test_levels_survive_where_they_are_decoded_without_bias(level, bound):
    levels = np.array([level], np.uint8)
    assert to_uint8(from_uint8(levels, bound, zero=127.5), bound) == level


@given(FLOWS, BOUNDS)
def test_order_is_kept(flow, bound):
    levels = to_uint8(np.sort(flow), bound)
    assert np.all(np.diff(levels.astype(int)) >= 0)


def test_flow_that_denseflow_wrote(test_data):
    """Its still pairs are centred where rounding puts them: truncation would give 127 alone."""
    folder = test_data / "denseflow-sample"
    levels = {
        path.stem: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        for path in sorted(folder.glob("[xy]_*.jpg"))
    }
    assert len(levels) == 10
    for image in levels.values():
        assert np.abs(from_uint8(image)).max() < 15
    noise = np.random.default_rng(0).normal(0, 0.02, (240, 320))
    ours = to_uint8(noise)
    for name in ("x_00002", "y_00002", "x_00004", "y_00004"):
        still = levels[name]
        assert still.mean() == pytest.approx(ours.mean(), abs=0.1)
        for level in (127, 128):
            assert np.mean(still == level) == pytest.approx(np.mean(ours == level), abs=0.15)
