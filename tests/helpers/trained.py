"""Compare trained networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpipe.models.weights import read_state
from flowpipe.training.train import MODEL_NAME


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in read_state(path).items()}


def assert_same_model(first: Path, second: Path) -> None:
    """The networks in two folders have the same weights, bit for bit."""
    one, other = weights_of(first / MODEL_NAME), weights_of(second / MODEL_NAME)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
