from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from flowpipe.encoding.pca import Projection, fit_pca
from flowpipe.errors import ParameterError


def rows_of(seed: int = 0, count: int = 400, width: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + 3


def test_it_is_the_pca_of_scikit_learn():
    rows = rows_of()
    theirs = PCA(6, svd_solver="full").fit_transform(rows)
    assert fit_pca(rows, 6)(rows) == pytest.approx(theirs, abs=1e-9)


def test_whitening_gives_unit_variance():
    rows = rows_of()
    projected = fit_pca(rows, 6, whiten=True)(rows)
    assert np.cov(projected.T) == pytest.approx(np.eye(6), abs=1e-9)


def test_the_type_of_the_rows_is_kept():
    rows = rows_of().astype(np.float32)
    assert fit_pca(rows, 3)(rows).dtype == np.float32


@pytest.mark.parametrize("whiten", [False, True])
def test_rows_of_fewer_dimensions_give_finite_numbers(whiten):
    rows = np.outer(np.arange(5.0), np.ones(6))
    assert np.isfinite(fit_pca(rows, 6, whiten=whiten)(rows)).all()
    assert np.isfinite(fit_pca(rows[:1], 3, whiten=whiten)(rows)).all()


@pytest.mark.parametrize("count", [0, 13])
def test_number_of_components_out_of_range(count):
    with pytest.raises(ParameterError, match=f"n_components is {count}; it must be 1 to 12"):
        fit_pca(rows_of(), count)


def test_a_projection_checks_its_shapes_and_numbers():
    with pytest.raises(ParameterError, match=r"\(D,\) and \(D, d\) are expected"):
        Projection(np.zeros(3), np.zeros((4, 2)))
    with pytest.raises(ParameterError, match="finite"):
        Projection(np.full(4, np.nan), np.zeros((4, 2)))
