"""Improved Fisher vectors of the rows of a clip.

F. Perronnin, J. Sánchez and T. Mensink, "Improving the Fisher Kernel for Large-Scale Image
Classification", ECCV 2010. With posteriors ``g`` of a diagonal mixture ``(w, mu, sigma^2)`` fitted
to rows reduced by PCA, the gradients over the T rows of a clip are

    mean      sum_t g_tk (x_t - mu_k) / sigma_k            / (T sqrt(w_k))
    variance  sum_t g_tk ((x_t - mu_k)^2 / sigma_k^2 - 1)  / (T sqrt(2 w_k))

2 D K numbers, of which the signed square root is taken and the L2 norm made 1. The gradient for the
weights, which says little, is left out, as the papers do. Rows of iDT carry a square root of their
own, which has nothing to do with this one.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from flowpipe.encoding.bags import BagEncoder, Rows, bags, sampled
from flowpipe.encoding.gmm import DiagonalGmm, Sums, fit_gmm, sums
from flowpipe.encoding.pca import fit_pca
from flowpipe.errors import ParameterError

_LEAST_WEIGHT = 1e-6
"""Components of less weight, which hold no row in a million, say nothing."""


def fisher_gradients(found: Sums, gmm: DiagonalGmm) -> NDArray[np.float64]:
    """Gradients for means, then variances, before any normalisation.

    Parameters
    ----------
    found
        Sums over the rows; without rows the gradients are zero.
    gmm
        The mixture they are of.

    Returns
    -------
    (2 K D,) float64
        ``[mean of component 0, ..., mean of K - 1, variance of component 0, ...]``.
    """
    if found.rows == 0:
        return np.zeros(2 * gmm.means.size)
    zeroth, first, second = found.zeroth[:, None], found.first, found.second
    deviation = np.sqrt(gmm.variances)
    mean = (first - zeroth * gmm.means) / deviation
    variance = (second - 2 * gmm.means * first + zeroth * gmm.means**2) / gmm.variances - zeroth
    used = np.maximum(gmm.weights, _LEAST_WEIGHT)[:, None]
    scale = np.where(gmm.weights[:, None] < _LEAST_WEIGHT, 0, 1 / (found.rows * np.sqrt(used)))
    return np.concatenate([(mean * scale).ravel(), (variance * scale / np.sqrt(2)).ravel()])


def improved(gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed square root, then L2 norm 1; zeros stay zeros."""
    rooted = np.sign(gradients) * np.sqrt(np.abs(gradients))
    norm = np.linalg.norm(rooted)
    return np.asarray(rooted / norm if norm > 0 else rooted)


class FisherVector(BagEncoder):
    """Clips, each a table of descriptors, to improved Fisher vectors.

    A transformer in scikit-learn's manner: ``fit`` and ``transform`` take a list of ``(n_i, D)``
    arrays, one a clip. A single 2-D array is a clip for each of its rows; use :meth:`encode` for
    the vector of one clip, and give ``fit`` one 2-D array of rows that were sampled elsewhere.

    Parameters
    ----------
    n_components
        K, components of the mixture.
    pca
        Part of the dimensions that is kept, 0 to 1, or None for no PCA.
    whiten
        Scale the principal components to unit variance.
    n_rows
        Rows to fit to, balanced over the clips.
    max_iter, tol, variance_floor
        Of EM; see :func:`flowpipe.encoding.gmm.fit_gmm`.
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
        EM steps taken.
    n_features_in_
        D.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clips = [rng.normal(size=(50, 8)) for _ in range(4)]
    >>> FisherVector(n_components=2).fit_transform(clips).shape
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
        """Fit the PCA and the mixture to rows of the clips.

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
        state = check_random_state(self.random_state).randint(2**31)
        clips = list(bags(self, X, reset=True))
        rows = sampled(clips, self.n_rows, np.random.default_rng(state))
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
            seed=state,
            device=self.device,
        )
        return self

    def totals(self, rows: Rows) -> NDArray[np.float64]:
        """What a Fisher vector is made of; totals of parts of a clip add up to the clip's.

        Returns
        -------
        (K, 2 d + 1) float64
            Sums of x, x^2 and 1, weighted by the posteriors.
        """
        self._check(rows)
        if self.projection_ is not None:
            rows = self.projection_(rows)
        found = sums(rows, self.gmm_, self.device)
        return np.hstack([found.first, found.second, found.zeroth[:, None]])

    def vector(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The improved Fisher vector of :meth:`totals`."""
        width = self.gmm_.means.shape[1]
        zeroth = totals[:, -1]
        # The posteriors of a row sum to 1.
        rows = round(float(zeroth.sum()))
        found = Sums(rows, 0.0, zeroth, totals[:, :width], totals[:, width:-1])
        return improved(fisher_gradients(found, self.gmm_))

    @property
    def n_outputs(self) -> int:
        """Length of a vector, 2 K d."""
        check_is_fitted(self)
        return 2 * self.gmm_.means.size
