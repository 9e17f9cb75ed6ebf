"""Gaussian mixture models with diagonal covariances: the E step, and fitting by EM.

A diagonal mixture is linear in the features ``phi(x) = (x, x^2, 1)``: the log of weight times
density is ``phi(x) @ theta``, and both EM and the Fisher vector need the sums of ``phi`` weighted
by the posteriors. So one function, :func:`e_step`, serves both: two matrix products per block of
rows, added up in float64, in memory that does not grow with the number of rows.

EM (Dempster, Laird and Rubin, 1977) follows scikit-learn's ``GaussianMixture`` (it starts from
k-means and stops when the mean log-likelihood gains less than `tol`), whose E step holds every
posterior of every row at once. With many rows it is incremental (Neal and Hinton, "A view of the EM
algorithm that justifies incremental, sparse, and other variants", 1998): the rows are divided into
subsets, and there is an M step after each subset, with the latest sums of the others. A pass over
the rows then gains as much as two or three of plain EM. Variances have a floor relative to the mean
variance of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_limits

from flowpipe.encoding._softmax import exponentiate
from flowpipe.encoding.validation import Rows
from flowpipe.errors import ParameterError

Array = NDArray[np.float64]

BLOCK = 512
"""Rows per block: their posteriors fit into the processor's cache."""
_START_ROWS = 200
"""Rows per component that k-means runs on."""
_SEED_ROWS = 40
"""Rows per component among which k-means++ chooses."""
_SUBSETS = 32
_SUBSET_ROWS = 4096
"""Incremental EM uses 32 subsets if each has 4096 rows, and 32 per component; else fewer."""


@dataclass(frozen=True, slots=True)
class SufficientStats:
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

    def scaled(self, factor: float) -> SufficientStats:
        """Return the sums over `factor` times as many rows of the same distribution."""
        return SufficientStats(
            round(factor * self.rows),
            factor * self.log_likelihood,
            factor * self.zeroth,
            factor * self.first,
            factor * self.second,
        )


@dataclass(frozen=True, slots=True)
class DiagonalGmm:
    """A Gaussian mixture model with diagonal covariances.

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


def e_step(rows: Rows, gmm: DiagonalGmm, device: str = "cpu") -> SufficientStats:
    """Return the sums over rows that EM and Fisher vectors need.

    Parameters
    ----------
    rows
        (n, D). float32 rows are multiplied in float32, float64 rows in float64; the sums are
        float64.
    gmm
        The mixture, of the same D.
    device
        ``cpu``, or a torch device such as ``cuda``.

    Raises
    ------
    ParameterError
        The width of the rows is not that of the mixture, or the rows are too large to be squared.
    """
    width = gmm.means.shape[1]
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ParameterError(f"rows are {rows.shape}; the mixture is of {width} dimensions")
    if device != "cpu":
        from flowpipe.encoding.gmm_torch import weighted_sums

        sums, likelihood = weighted_sums(rows, gmm.theta, device)
    else:
        sums, likelihood = _weighted_sums(rows, gmm.theta)
    if not np.isfinite(likelihood):
        largest = float(np.abs(rows).max())
        raise ParameterError(
            f"rows reach {largest:g} and have no finite likelihood; they must be finite, and small "
            "enough to be squared"
        )
    return SufficientStats(
        len(rows), likelihood, sums[:, -1], sums[:, :width], sums[:, width : 2 * width]
    )


def _weighted_sums(rows: Rows, theta: Array) -> tuple[Array, float]:
    kind = np.float64 if rows.dtype == np.float64 else np.float32
    width = rows.shape[1]
    coefficients = theta.astype(kind)
    sums = np.zeros(theta.T.shape)
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
        exponentiate(log, largest)
        total = log @ ones
        likelihood += float(largest.sum(dtype=np.float64) + np.log(total.astype(np.float64)).sum())
        # Dividing the features by the row's total is less work than dividing the exponentials.
        phi /= total[:, None]
        sums += log.T @ phi
    return sums, likelihood


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
    """Fit a mixture by expectation maximisation, starting from k-means.

    Parameters
    ----------
    rows
        (n, D), n at least `n_components`.
    n_components
        Number of Gaussians, K.
    max_iter
        Largest number of passes over the rows.
    tol
        Stopping criterion: a pass raises the mean log-likelihood of a row by less than this.
    variance_floor
        Smallest variance, relative to the mean variance of the dimensions of `rows`.
    seed
        The same rows and seed give the same mixture.
    device
        As in :func:`e_step`.

    Returns
    -------
    DiagonalGmm
        The mixture.
    int
        Number of passes over the rows.

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
            "at least one row per component is needed"
        )
    spread = float(rows.var(axis=0, dtype=np.float64).mean())
    if spread == 0:
        # All rows are the same point: any positive variance will do.
        spread = 1.0
    floor = variance_floor * spread
    count = max(1, min(_SUBSETS, len(rows) // max(_SUBSET_ROWS, 32 * n_components)))
    subsets = [rows[first::count] for first in range(count)]
    # With several threads, the order of the sums would vary from run to run.
    with threadpool_limits(1):
        gmm, initial = _initialize(rows, n_components, floor, seed)
        stats = [initial.scaled(len(subset) / initial.rows) for subset in subsets]
        before = -np.inf
        passes = 0
        while passes < max_iter:
            passes += 1
            total = _added(stats)
            for number, subset in enumerate(subsets):
                old, stats[number] = stats[number], e_step(subset, gmm, device)
                _replace(total, old, stats[number])
                gmm = _m_step(total, gmm, floor)
            likelihood = sum(each.log_likelihood for each in stats) / len(rows)
            if likelihood - before < tol:
                break
            before = likelihood
    return gmm, passes


def _initialize(
    rows: Rows, n_components: int, floor: float, seed: int
) -> tuple[DiagonalGmm, SufficientStats]:
    """Return the mixture of the clusters of k-means, and their sums."""
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
    stats = SufficientStats(count, 0.0, zeroth, first, second)
    mean, variance = wide.mean(axis=0), np.maximum(wide.var(axis=0), floor)
    fallback = DiagonalGmm(
        np.full(n_components, 1 / n_components),
        np.tile(mean, (n_components, 1)),
        np.tile(variance, (n_components, 1)),
    )
    return _m_step(stats, fallback, floor), stats


def _added(subsets: Sequence[SufficientStats]) -> SufficientStats:
    """Return the sums over all rows."""
    total = subsets[0].scaled(1)
    for stats in subsets[1:]:
        total.zeroth[:] += stats.zeroth
        total.first[:] += stats.first
        total.second[:] += stats.second
    return total


def _replace(total: SufficientStats, old: SufficientStats, new: SufficientStats) -> None:
    """Replace the sums of a subset within those of all rows."""
    total.zeroth[:] += new.zeroth - old.zeroth
    total.first[:] += new.first - old.first
    total.second[:] += new.second - old.second
    # A component that has lost all of its rows keeps rounding errors, which may be negative.
    np.maximum(total.zeroth, 0, out=total.zeroth)


def _m_step(stats: SufficientStats, before: DiagonalGmm, floor: float) -> DiagonalGmm:
    """Return the mixture of the sums; a component without rows keeps its place, with weight 0."""
    empty = stats.zeroth < 10 * np.finfo(np.float64).eps
    count = np.where(empty, 1.0, stats.zeroth)[:, None]
    means = np.where(empty[:, None], before.means, stats.first / count)
    variances = np.maximum(stats.second / count - means**2, floor)
    return DiagonalGmm(
        np.where(empty, 0.0, stats.zeroth) / stats.zeroth.sum(),
        means,
        np.where(empty[:, None], before.variances, variances),
    )
