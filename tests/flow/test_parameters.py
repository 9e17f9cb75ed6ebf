from __future__ import annotations

import dataclasses
import math
from typing import get_type_hints

import pytest

from flowpipe.errors import ParameterError, check_range
from flowpipe.flow.parameters import Brox, Dis, Farneback, Tvl1

OUT_OF_RANGE = [
    (Tvl1, "tau", 0, "more than 0 and at most 0.25"),
    (Tvl1, "tau", 0.26, "more than 0 and at most 0.25"),
    (Tvl1, "lambda_", 0, "more than 0"),
    (Tvl1, "lambda_", math.nan, "more than 0"),
    (Tvl1, "theta", -0.3, "more than 0"),
    (Tvl1, "n_scales", 0, "at least 1 and at most 100"),
    (Tvl1, "scale_step", 1.0, "at least 0.1 and at most 0.95"),
    (Tvl1, "warps", 0, "at least 1 and at most 1000"),
    (Tvl1, "epsilon", -0.01, "at least 0"),
    (Tvl1, "iterations", 0, "at least 1 and at most 100000"),
    (Tvl1, "median", 2, "1, 3 or 5"),
    (Tvl1, "gamma", -1, "at least 0"),
    (Tvl1, "steps", "fast", "'published' or 'over-relaxed'"),
    (Farneback, "levels", 0, "at least 1 and at most 100"),
    (Farneback, "pyr_scale", 0.96, "at least 0.1 and at most 0.95"),
    (Farneback, "window", 0, "at least 1 and at most 1000"),
    (Farneback, "iterations", 0, "at least 1 and at most 10000"),
    (Farneback, "poly_n", 6, "5 or 7"),
    (Farneback, "poly_sigma", 0, "more than 0"),
    (Dis, "preset", "slow", "ultrafast, fast or medium"),
    (Dis, "finest_scale", -1, "at least 0 and at most 1000"),
    (Dis, "patch_size", 0, "at least 1 and at most 1000"),
    (Dis, "patch_stride", 0, "at least 1 and at most 1000"),
    (Dis, "variational_refinement_iterations", -1, "at least 0 and at most 1000"),
    (Brox, "alpha", 0, "more than 0"),
    (Brox, "gamma", -1, "at least 0"),
    (Brox, "scale_step", 0.05, "at least 0.1 and at most 0.95"),
    (Brox, "inner_iterations", 0, "at least 1 and at most 10000"),
    (Brox, "outer_iterations", 0, "at least 1 and at most 10000"),
    (Brox, "solver_iterations", 10_001, "at least 1 and at most 10000"),
]


@pytest.mark.parametrize(("method", "name", "value", "bounds"), OUT_OF_RANGE)
def test_an_error_names_parameter_value_and_range(method, name, value, bounds):
    with pytest.raises(ParameterError) as caught:
        method(**{name: value})
    assert str(caught.value) == f"{name.rstrip('_')} is {value!r}; it must be {bounds}"


@pytest.mark.parametrize("method", [Tvl1, Farneback, Dis, Brox])
def test_every_number_with_a_bound_is_checked(method):
    types = get_type_hints(method)
    for field in dataclasses.fields(method):
        if types[field.name] not in (bool, bool | None):
            with pytest.raises(ParameterError, match=f"{field.name.rstrip('_')} is "):
                method(**{field.name: -2})


def test_values_at_the_ends_of_their_ranges():
    Tvl1(tau=0.25, n_scales=1, scale_step=0.95, epsilon=0, median=5)
    Tvl1(n_scales="auto", scale_step=0.1)
    Farneback(pyr_scale=0.95, poly_n=7)
    Dis(finest_scale=0, variational_refinement_alpha=0, use_mean_normalization=False)


def test_defaults_of_tvl1_are_those_of_the_cuda_solver():
    assert dataclasses.asdict(Tvl1()) == {
        "tau": 0.25,
        "lambda_": 0.15,
        "theta": 0.3,
        "n_scales": 5,
        "scale_step": 0.8,
        "warps": 5,
        "epsilon": 0.01,
        "iterations": 300,
        "median": 1,
        "gamma": 0.0,
        "cubic": -0.5,
        "steps": "published",
    }


def test_over_relaxed_steps_have_no_illumination_term():
    with pytest.raises(ParameterError, match=r"gamma is 0\.5; with steps 'over-relaxed'"):
        Tvl1(gamma=0.5, steps="over-relaxed")


def test_a_range_without_ends_takes_numbers_only():
    check_range("x", -1e300)
    with pytest.raises(ParameterError, match="x is nan; it must be a number"):
        check_range("x", math.nan)
