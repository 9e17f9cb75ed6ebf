"""Bags of words: how often each of K typical descriptors occurs in a clip.

The recipe of H. Wang, A. Kläser, C. Schmid and C.-L. Liu, "Action Recognition by Dense
Trajectories", CVPR 2011: k-means with K = 4000 words for each descriptor, each row counted to its
nearest word, histograms of L1 norm 1, compared by the chi-squared distance. The words are
scikit-learn's ``MiniBatchKMeans``, begun with random rows: choosing 4000 first centres by k-means++
would take longer than all that follows.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from flowpipe.encoding.bags import BagEncoder, Rows, bags, sampled
from flowpipe.errors import ParameterError

_BLOCK = 2048
_BATCH = 8192


class BagOfWords(BagEncoder):
    """Clips, each a table of descriptors, to histograms of visual words.

    Takes what :class:`flowpipe.encoding.fisher.FisherVector` takes.

    Parameters
    ----------
    n_clusters
        K.
    n_rows
        Rows to fit to, balanced over the clips.
    max_iter
        Passes of k-means over those rows, at most.
    random_state
        Seed, ``RandomState`` or None.

    Attributes
    ----------
    cluster_centers_
        (K, D) float64.
    n_iter_
        Passes of k-means taken.
    n_features_in_
        D.
    """

    def __init__(
        self,
        n_clusters: int = 4000,
        *,
        n_rows: int = 100_000,
        max_iter: int = 10,
        random_state: Any = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_rows = n_rows
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the words.

        Parameters
        ----------
        X
            List of (n_i, D) arrays, or (n, D).
        y
            Ignored.

        Raises
        ------
        ParameterError
            Fewer rows than words, rows that are not finite.
        """
        state = check_random_state(self.random_state).randint(2**31)
        rows = sampled(list(bags(self, X, reset=True)), self.n_rows, np.random.default_rng(state))
        if not 1 <= self.n_clusters <= len(rows):
            raise ParameterError(
                f"n_samples={len(rows)} rows cannot give n_clusters={self.n_clusters} clusters; "
                "there must be at least as many rows, and at least one cluster"
            )
        means = MiniBatchKMeans(
            self.n_clusters,
            batch_size=min(_BATCH, len(rows)),
            max_iter=self.max_iter,
            init="random",
            n_init=1,
            random_state=state,
        )
        # Threads would add up in another order from run to run.
        with threadpool_limits(1):
            means.fit(rows)
        self.cluster_centers_ = np.asarray(means.cluster_centers_, np.float64)
        self.n_iter_ = int(means.n_iter_)
        return self

    def totals(self, rows: Rows) -> NDArray[np.float64]:
        """How many rows are nearest to each word, (K,); counts of parts of a clip add up."""
        self._check(rows)
        words = self.cluster_centers_.astype(rows.dtype)
        half_norms = 0.5 * (words**2).sum(axis=1)
        counts = np.zeros(len(words))
        for first in range(0, len(rows), _BLOCK):
            # The nearest word has the largest product with the row, less half its own square.
            closeness = rows[first : first + _BLOCK] @ words.T - half_norms
            counts += np.bincount(closeness.argmax(axis=1), minlength=len(words))
        return counts

    def vector(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The histogram of L1 norm 1 of :meth:`totals`; zeros stay zeros."""
        total = totals.sum()
        return np.asarray(totals / total if total > 0 else totals)

    @property
    def n_outputs(self) -> int:
        """Length of a histogram, K."""
        check_is_fitted(self)
        return len(self.cluster_centers_)
