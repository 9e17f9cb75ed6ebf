"""Improved Fisher vectors.

F. Perronnin, J. Sánchez and T. Mensink, "Improving the Fisher Kernel for Large-Scale Image
Classification", ECCV 2010. With posteriors ``g`` of a diagonal mixture ``(w, mu, sigma^2)`` fitted
to rows reduced by PCA, the gradients over the T rows of a clip are

    mean      sum_t g_tk (x_t - mu_k) / sigma_k            / (T sqrt(w_k))
    variance  sum_t g_tk ((x_t - mu_k)^2 / sigma_k^2 - 1)  / (T sqrt(2 w_k))

2 D K numbers, followed by the signed square root and L2 normalisation. The gradient for the weights
is left out, as in the papers. (The descriptors of iDT are square roots already; that is another
one, and both are taken.)
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import special
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from flowpipe.encoding.base import ClipEncoder, Take, iterate_clips, sample_clips
from flowpipe.encoding.gmm import DiagonalGmm, SufficientStats, e_step, fit_gmm
from flowpipe.encoding.pca import Projection, fit_pca
from flowpipe.encoding.validation import Rows
from flowpipe.errors import ParameterError

_LEAST_WEIGHT = 1e-6
"""Components of less weight have less than one row in a million; their gradients are zero."""


def fisher_gradients(stats: SufficientStats, gmm: DiagonalGmm) -> NDArray[np.float64]:
    """Return the gradients for means, then variances, before any normalisation.

    Parameters
    ----------
    stats
        Sums over the rows; without rows the gradients are zero.
    gmm
        The mixture model.

    Returns
    -------
    (2 K D,) float64
        ``[mean of component 0, ..., mean of K - 1, variance of component 0, ...]``.
    """
    if stats.rows == 0:
        return np.zeros(2 * gmm.means.size)
    zeroth, first, second = stats.zeroth[:, None], stats.first, stats.second
    deviation = np.sqrt(gmm.variances)
    mean = (first - zeroth * gmm.means) / deviation
    variance = (second - 2 * gmm.means * first + zeroth * gmm.means**2) / gmm.variances - zeroth
    scale = _scale(stats, gmm)
    return np.concatenate([(mean * scale).ravel(), (variance * scale / np.sqrt(2)).ravel()])


def _scale(stats: SufficientStats, gmm: DiagonalGmm) -> NDArray[np.float64]:
    """Return (K, 1) what the sums of a component are multiplied by."""
    if stats.rows == 0:
        return np.zeros((len(gmm.weights), 1))
    used = np.maximum(gmm.weights, _LEAST_WEIGHT)[:, None]
    return np.where(gmm.weights[:, None] < _LEAST_WEIGHT, 0, 1 / (stats.rows * np.sqrt(used)))


def improved(gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the signed square root with L2 norm 1; zeros remain zeros."""
    rooted = np.sign(gradients) * np.sqrt(np.abs(gradients))
    norm = np.linalg.norm(rooted)
    return np.asarray(rooted / norm if norm > 0 else rooted)


class FisherVector(ClipEncoder):
    """Encode clips as improved Fisher vectors.

    A transformer of scikit-learn: ``fit`` and ``transform`` take a list of ``(n_i, D)`` arrays, one
    per clip. A single 2-D array is one clip per row, as everywhere in scikit-learn; use
    :meth:`encode` for the vector of one clip.

    Parameters
    ----------
    n_components
        Number of Gaussians in the mixture, K.
    pca
        Fraction of the dimensions that PCA keeps, 0 to 1, or None for no PCA.
    whiten
        Scale the principal components to unit variance.
    n_rows
        Number of rows to fit to, balanced over the clips.
    max_iter, tol, variance_floor
        Parameters of EM; see :func:`flowpipe.encoding.gmm.fit_gmm`.
    device
        ``cpu``, or a torch device such as ``cuda``.
    random_state
        Seed, ``RandomState`` or None.

    Attributes
    ----------
    projection_
        The PCA, a :class:`flowpipe.encoding.pca.Projection`, or None.
    gmm_
        The mixture, a :class:`flowpipe.encoding.gmm.DiagonalGmm`.
    n_iter_
        Passes of EM that were needed.
    n_features_in_
        Width of a row, D.

    Examples
    --------
    >>> import flowpipe
    >>> import numpy as np
    >>> clips = [np.random.default_rng(i).normal(size=(50, 8)) for i in range(4)]
    >>> flowpipe.FisherVector(n_components=2).fit_transform(clips).shape
    (4, 16)
    """

    def __init__(
        self,
        n_components: int = 256,
        *,
        pca: float | None = 0.5,
        whiten: bool = False,
        n_rows: int = 256_000,
        max_iter: int = 15,
        tol: float = 1e-3,
        variance_floor: float = 1e-3,
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.pca = pca
        self.whiten = whiten
        self.n_rows = n_rows
        self.max_iter = max_iter
        self.tol = tol
        self.variance_floor = variance_floor
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the PCA and the mixture model.

        Parameters
        ----------
        X
            List of (n_i, D) arrays, or (n, D).
        y
            Ignored.

        Raises
        ------
        ParameterError
            Too few rows for the mixture, rows that are not finite, parameters out of range.
        """
        if self.pca is not None and not 0 < self.pca <= 1:
            raise ParameterError(f"pca is {self.pca!r}; it must be more than 0 and at most 1")
        seed = check_random_state(self.random_state).randint(2**31)
        clips = list(iterate_clips(self, X, reset=True))
        rows = sample_clips(clips, self.n_rows, np.random.default_rng(seed))
        self.projection_ = None
        if self.pca is not None:
            kept = max(1, int(self.pca * self.n_features_in_))
            self.projection_ = fit_pca(rows, kept, whiten=self.whiten)
            rows = self.projection_(rows)
        self.gmm_, self.n_iter_ = fit_gmm(
            rows,
            self.n_components,
            max_iter=self.max_iter,
            tol=self.tol,
            variance_floor=self.variance_floor,
            seed=seed,
            device=self.device,
        )
        return self

    def sufficient_statistics(self, rows: Rows) -> NDArray[np.float64]:
        """Return the sums of x, x^2 and 1, weighted by the posteriors, (K, 2 d + 1) float64."""
        self._check(rows)
        if self.projection_ is not None:
            rows = self.projection_(rows)
        stats = e_step(rows, self.gmm_, self.device)
        return np.hstack([stats.first, stats.second, stats.zeroth[:, None]])

    def finalize(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the improved Fisher vector of the sums."""
        return improved(fisher_gradients(self._stats(statistics), self.gmm_))

    def _stats(self, statistics: NDArray[np.float64]) -> SufficientStats:
        width = self.gmm_.means.shape[1]
        first, second, zeroth = np.split(statistics, [width, 2 * width], axis=1)
        # The posteriors of a row sum to 1.
        rows = round(float(zeroth.sum()))
        return SufficientStats(rows, 0.0, zeroth[:, 0], first, second)

    def linearize(
        self, statistics: NDArray[np.float64], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return weights of the sums, (K, 2 d + 1); the root and the norm are those of the clip."""
        gmm = self.gmm_
        stats = self._stats(statistics)
        gradients = fisher_gradients(stats, gmm)
        used = gradients != 0
        factor = np.zeros(len(gradients))
        factor[used] = weights[used] * improved(gradients)[used] / gradients[used]
        mean, variance = factor.reshape(2, *gmm.means.shape) * _scale(stats, gmm)
        variance /= np.sqrt(2) * gmm.variances
        mean /= np.sqrt(gmm.variances)
        second, first = variance, mean - 2 * gmm.means * variance
        zeroth = ((gmm.means**2 - gmm.variances) * variance - gmm.means * mean).sum(axis=1)
        return np.hstack([first, second, zeroth[:, None]])

    def shares(self, rows: Rows, linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n,) shares of rows in a score."""
        self._check(rows)
        if self.projection_ is not None:
            rows = self.projection_(rows)
        features = np.hstack([rows, rows * rows, np.ones((len(rows), 1))]).astype(np.float64)
        posteriors = special.softmax(features @ self.gmm_.theta, axis=1)
        return np.asarray((posteriors * (features @ linear.T)).sum(axis=1))

    @property
    def n_outputs(self) -> int:
        """Length of a vector, 2 K d."""
        check_is_fitted(self)
        return 2 * self.gmm_.means.size

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the PCA and the mixture as ``pca.mean``, ``gmm.means`` and so on."""
        arrays = {
            "gmm.weights": self.gmm_.weights,
            "gmm.means": self.gmm_.means,
            "gmm.variances": self.gmm_.variances,
        }
        if self.projection_ is None:
            return arrays
        return {
            "pca.mean": self.projection_.mean,
            "pca.matrix": self.projection_.matrix,
            **arrays,
        }

    def from_arrays(self, take: Take) -> None:
        """Restore the PCA and the mixture."""
        width = None
        self.projection_ = None
        if self.pca is not None:
            matrix = take("pca.matrix", (None, None))
            self.projection_ = Projection(take("pca.mean", matrix.shape[:1]), matrix)
            width = matrix.shape[1]
        means = take("gmm.means", (self.n_components, width))
        weights = take("gmm.weights", means.shape[:1])
        self.gmm_ = DiagonalGmm(weights, means, take("gmm.variances", means.shape))
        self.n_features_in_ = means.shape[1] if self.projection_ is None else len(matrix)
