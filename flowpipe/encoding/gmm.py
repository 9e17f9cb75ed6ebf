"""Gaussian mixtures with diagonal covariances: their sums over rows, and fitting them by EM.

A diagonal mixture is linear in the features ``phi(x) = (x, x^2, 1)``: the log of weight times
density is ``phi(x) @ theta``, and what both EM and the Fisher vector need of a set of rows are the
sums of ``phi`` weighted by the posteriors. So one function, :func:`sums`, serves both: two matrix
products for each block of rows, added up in float64, in memory that does not grow with the rows.
EM (Dempster, Laird and Rubin, 1977) follows scikit-learn's ``GaussianMixture`` (k-means start, stop
when the mean log-likelihood gains less than `tol`), whose E step holds every posterior of every row
at once. Where there are many rows it is incremental (Neal and Hinton, "A view of the EM algorithm
that justifies incremental, sparse, and other variants", 1998): the rows are dealt into parts, and
the mixture is maximised anew after each part, with the sums of the other parts as they were last
found. Each pass over the rows then gains what two or three would. Variances have a floor relative
to the mean variance of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from flowpipe.encoding import kernels
from flowpipe.errors import ParameterError

Rows = NDArray[np.floating]
Array = NDArray[np.float64]

BLOCK = 512
"""Rows at a time: their posteriors stay in the cache."""
_START_ROWS = 200
"""k-means runs on so many rows a component."""
_SEED_ROWS = 40
"""Its first centres are chosen among so many rows a component."""
_PARTS = 32
_PART_ROWS = 4096
"""Incremental EM deals the rows into 32 parts, if each has 4096 and 32 a component."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over rows, weighted by the posteriors of each component.

    Attributes
    ----------
    rows
        Number of rows.
    log_likelihood
        Summed over the rows.
    zeroth, first, second
        (K,), (K, D), (K, D) float64: sums of 1, x, x^2.
    """

    rows: int
    log_likelihood: float
    zeroth: Array
    first: Array
    second: Array

    def scaled(self, part: float) -> Sums:
        """Of so many times as many rows, alike."""
        return Sums(
            round(part * self.rows),
            part * self.log_likelihood,
            part * self.zeroth,
            part * self.first,
            part * self.second,
        )


@dataclass(frozen=True, slots=True)
class DiagonalGmm:
    """A Gaussian mixture with diagonal covariances.

    Attributes
    ----------
    weights, means, variances
        (K,), (K, D), (K, D) float64; weights sum to 1, variances are positive.
    """

    weights: Array
    means: Array
    variances: Array

    def __post_init__(self) -> None:
        components, width = np.shape(self.means)
        if self.weights.shape != (components,) or self.variances.shape != (components, width):
            raise ParameterError(
                f"a mixture has weights {self.weights.shape}, means {self.means.shape} and "
                f"variances {self.variances.shape}; (K,), (K, D) and (K, D) are expected"
            )
        finite = all(np.isfinite(a).all() for a in (self.weights, self.means, self.variances))
        if not finite or self.weights.min() < 0 or self.variances.min() <= 0:
            raise ParameterError(
                "the numbers of a mixture must be finite, its weights 0 or more and its variances "
                f"positive; the least are {self.weights.min():g} and {self.variances.min():g}"
            )

    @property
    def theta(self) -> Array:
        """(2 D + 1, K) coefficients of ``(x, x^2, 1)`` in the log of weight times density."""
        with np.errstate(divide="ignore"):
            weights = np.maximum(np.log(self.weights), np.log(np.finfo(np.float64).tiny))
        scale = np.log(2 * np.pi * self.variances) + self.means**2 / self.variances
        constant = weights - 0.5 * scale.sum(axis=1)
        return np.vstack([(self.means / self.variances).T, (-0.5 / self.variances).T, constant])


def sums(rows: Rows, gmm: DiagonalGmm, device: str = "cpu") -> Sums:
    """Sums over rows for EM and for Fisher vectors.

    Parameters
    ----------
    rows
        (n, D). float32 rows are multiplied in float32, float64 rows in float64; the sums are
        float64.
    gmm
        Of the same D.
    device
        ``cpu``, or a torch device such as ``cuda``.

    Raises
    ------
    ParameterError
        The width of the rows is not that of the mixture, or rows too large to be squared.
    """
    width = gmm.means.shape[1]
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ParameterError(f"rows are {rows.shape}; the mixture is of {width} dimensions")
    if device != "cpu":
        from flowpipe.encoding.torch_sums import torch_totals

        totals, likelihood = torch_totals(rows, gmm.theta, device)
    else:
        totals, likelihood = _totals(rows, gmm.theta)
    if not np.isfinite(likelihood):
        largest = float(np.abs(rows).max())
        raise ParameterError(
            f"rows reach {largest:g} and have no finite likelihood; they must be finite, and small "
            "enough to be squared"
        )
    return Sums(
        len(rows), likelihood, totals[:, -1], totals[:, :width], totals[:, width : 2 * width]
    )


def _totals(rows: Rows, theta: Array) -> tuple[Array, float]:
    kind = np.float64 if rows.dtype == np.float64 else np.float32
    width = rows.shape[1]
    coefficients = theta.astype(kind)
    totals = np.zeros(theta.T.shape)
    size = min(BLOCK, len(rows))
    features = np.empty((size, 2 * width + 1), kind)
    logits = np.empty((size, theta.shape[1]), kind)
    ones = np.ones(theta.shape[1], kind)
    likelihood = 0.0
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        phi, log = features[: len(block)], logits[: len(block)]
        phi[:, :width] = block
        np.multiply(phi[:, :width], phi[:, :width], out=phi[:, width:-1])
        phi[:, -1] = 1
        np.matmul(phi, coefficients, out=log)
        largest = log.max(axis=1)
        kernels.exponentiate(log, largest)
        total = log @ ones
        likelihood += float(largest.sum(dtype=np.float64) + np.log(total.astype(np.float64)).sum())
        # The features are divided by the sum of the row's exponentials, there being fewer of them.
        phi /= total[:, None]
        totals += log.T @ phi
    return totals, likelihood


def fit_gmm(
    rows: Rows,
    n_components: int,
    *,
    max_iter: int = 15,
    tol: float = 1e-3,
    variance_floor: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[DiagonalGmm, int]:
    """Fit a mixture by expectation maximisation, begun with k-means.

    Parameters
    ----------
    rows
        (n, D), n at least `n_components`.
    n_components
        K.
    max_iter
        At most so many passes over the rows.
    tol
        Stop when a pass raises the mean log-likelihood of a row by less.
    variance_floor
        Least variance, relative to the mean variance of the dimensions of `rows`.
    seed
        The same rows and seed give the same mixture.
    device
        As in :func:`sums`.

    Returns
    -------
    DiagonalGmm
        The mixture.
    int
        Passes taken.

    Raises
    ------
    ParameterError
        Fewer rows than components.
    """
    if n_components < 1:
        raise ParameterError(f"n_components is {n_components}; it must be at least 1")
    if len(rows) < n_components:
        raise ParameterError(
            f"n_samples={len(rows)} rows are too few for a mixture of {n_components} components; "
            "at least one row a component is needed"
        )
    spread = float(rows.var(axis=0, dtype=np.float64).mean())
    if spread == 0:
        # One point: any positive variance says the same.
        spread = 1.0
    floor = variance_floor * spread
    parts = max(1, min(_PARTS, len(rows) // max(_PART_ROWS, 32 * n_components)))
    dealt = [rows[first::parts] for first in range(parts)]
    # Threads would add up in another order from run to run.
    with threadpool_limits(1):
        gmm, begun = _start(rows, n_components, floor, seed)
        found = [begun.scaled(len(part) / begun.rows) for part in dealt]
        before = -np.inf
        passes = 0
        while passes < max_iter:
            passes += 1
            total = _added(found)
            for number, part in enumerate(dealt):
                old, found[number] = found[number], sums(part, gmm, device)
                _replace(total, old, found[number])
                gmm = _maximise(total, gmm, floor)
            likelihood = sum(each.log_likelihood for each in found) / len(rows)
            if likelihood - before < tol:
                break
            before = likelihood
    return gmm, passes


def _start(rows: Rows, n_components: int, floor: float, seed: int) -> tuple[DiagonalGmm, Sums]:
    """The mixture of the clusters of k-means, and their sums."""
    rng = np.random.default_rng(seed)
    count = min(len(rows), _START_ROWS * n_components)
    chosen = rows[np.sort(rng.choice(len(rows), count, replace=False))]
    state = int(rng.integers(2**31))
    few = rng.choice(count, min(count, _SEED_ROWS * n_components), replace=False)
    centres, _ = kmeans_plusplus(chosen[few], n_components, random_state=state)
    means = KMeans(n_components, init=centres, n_init=1, max_iter=10, random_state=state)
    labels = means.fit_predict(chosen)
    wide = chosen.astype(np.float64)
    zeroth = np.bincount(labels, minlength=n_components).astype(np.float64)
    first, second = np.zeros((2, n_components, rows.shape[1]))
    np.add.at(first, labels, wide)
    np.add.at(second, labels, wide**2)
    even = Sums(count, 0.0, zeroth, first, second)
    mean, variance = wide.mean(axis=0), np.maximum(wide.var(axis=0), floor)
    fallback = DiagonalGmm(
        np.full(n_components, 1 / n_components),
        np.tile(mean, (n_components, 1)),
        np.tile(variance, (n_components, 1)),
    )
    return _maximise(even, fallback, floor), even


def _added(parts: Sequence[Sums]) -> Sums:
    """Sums over all rows."""
    total = parts[0].scaled(1)
    for part in parts[1:]:
        total.zeroth[:] += part.zeroth
        total.first[:] += part.first
        total.second[:] += part.second
    return total


def _replace(total: Sums, old: Sums, new: Sums) -> None:
    """Put the sums of a part in the place of earlier ones."""
    total.zeroth[:] += new.zeroth - old.zeroth
    total.first[:] += new.first - old.first
    total.second[:] += new.second - old.second
    # What is left of a component that has lost all of its rows is rounding.
    np.maximum(total.zeroth, 0, out=total.zeroth)


def _maximise(found: Sums, before: DiagonalGmm, floor: float) -> DiagonalGmm:
    """The M step; a component that no row belongs to stays as it was, without weight."""
    empty = found.zeroth < 10 * np.finfo(np.float64).eps
    count = np.where(empty, 1.0, found.zeroth)[:, None]
    means = np.where(empty[:, None], before.means, found.first / count)
    variances = np.maximum(found.second / count - means**2, floor)
    return DiagonalGmm(
        np.where(empty, 0.0, found.zeroth) / found.zeroth.sum(),
        means,
        np.where(empty[:, None], before.variances, variances),
    )


def from_sklearn(mixture: Any) -> DiagonalGmm:
    """The mixture of a fitted ``sklearn.mixture.GaussianMixture``.

    Raises
    ------
    ParameterError
        Its covariances are not diagonal.
    """
    if mixture.covariance_type != "diag":
        raise ParameterError(f"covariance_type is {mixture.covariance_type!r}; it must be 'diag'")
    return DiagonalGmm(
        *(
            np.asarray(values, np.float64)
            for values in (mixture.weights_, mixture.means_, mixture.covariances_)
        )
    )
