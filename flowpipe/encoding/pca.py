"""PCA of descriptors, to half of their dimensions in the papers on iDT.

scikit-learn computes it from the covariance matrix; only the affine map is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from flowpipe.encoding.validation import Rows
from flowpipe.errors import ParameterError

_LEAST = 1e-6
"""Whitening: smallest standard deviation relative to the first, so as not to amplify noise."""


@dataclass(frozen=True, slots=True)
class Projection:
    """An affine map ``(x - mean) @ matrix``.

    Attributes
    ----------
    mean, matrix
        (D,) and (D, d) float64.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.mean.shape != (self.matrix.shape[0],):
            raise ParameterError(
                f"a projection has mean {self.mean.shape} and matrix {self.matrix.shape}; "
                "(D,) and (D, d) are expected"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise ParameterError("the numbers of a projection must be finite")

    def __call__(self, rows: Rows) -> Rows:
        """Return the projected rows, (n, D) to (n, d), of the same type."""
        matrix = self.matrix.astype(rows.dtype)
        return np.asarray((rows - self.mean.astype(rows.dtype)) @ matrix)


def fit_pca(rows: Rows, n_components: int, *, whiten: bool = False) -> Projection:
    """Fit a PCA.

    Parameters
    ----------
    rows
        (n, D).
    n_components
        Dimensions to keep, 1 to D. Where the rows span fewer, the last components are zero.
    whiten
        Scale the components to unit variance.

    Raises
    ------
    ParameterError
        `n_components` is out of range, or there are no rows.
    """
    if not 1 <= n_components <= rows.shape[1]:
        raise ParameterError(f"n_components is {n_components}; it must be 1 to {rows.shape[1]}")
    if len(rows) < 1:
        raise ParameterError("PCA needs at least 1 row, and there is none (n_samples=0)")
    found = min(n_components, len(rows))
    with threadpool_limits(1):
        pca = PCA(found, svd_solver="covariance_eigh" if len(rows) > 1 else "full")
        with np.errstate(invalid="ignore", divide="ignore"):
            pca.fit(rows)
    matrix = np.zeros((rows.shape[1], n_components))
    matrix[:, :found] = pca.components_.T
    if whiten:
        deviations = np.sqrt(np.nan_to_num(pca.explained_variance_))
        matrix[:, :found] /= np.maximum(deviations, max(_LEAST * deviations[0], 1e-30))
    return Projection(np.asarray(pca.mean_, np.float64), matrix)
