"""The stopping criterion of TV-L1, on all devices."""

from __future__ import annotations

import numba
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.flow.kernels.stop import FIRST, until_next, until_next_of_batch

CHANGES = st.floats(0, 1e6, allow_nan=False)


def opencv(change: float, stop: float) -> int:
    """Count iterations as cv::cuda::OpticalFlowDual_TVL1 does, from one evaluation to the next."""
    owed, count = change, 0
    while True:
        count += 1
        # After an odd iteration of the loop it evaluates if the last change has been paid off.
        if count % 2 == 0 and owed < stop:
            return count
        owed -= stop


@given(change=st.integers(0, 4000), stop=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_it_is_the_one_of_opencv(change, stop):
    # Powers of two: the sums of the loop are exact.
    assert until_next(change, stop) == opencv(change, stop)


@given(change=CHANGES, stop=st.floats(1e-3, 1e3))
def test_evaluations_come_after_pairs_of_iterations(change, stop):
    assert until_next(change, stop) % 2 == 0
    assert until_next(change, stop) >= FIRST
    assert until_next(change, stop) == until_next_of_batch(
        torch.tensor([change], dtype=torch.float64), stop
    )


def test_compiled_code_has_the_same():
    compiled = numba.njit(lambda change, stop: until_next(change, stop))
    for change in (0.0, 0.9, 7.5, 1e30):
        assert compiled(change, 0.5) == until_next(change, 0.5)
