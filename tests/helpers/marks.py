"""Marks for cases of which the quick tests run a few."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], *quick: str) -> list[Any]:
    """Return cases, or tuples that begin with a name, all marked as slow except these names."""
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    assert set(quick) <= {case[0] for case in cases}
    return [
        pytest.param(*case, marks=() if case[0] in quick else pytest.mark.slow) for case in cases
    ]
