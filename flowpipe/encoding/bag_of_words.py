"""Bag of words: how often each of K typical descriptors occurs in a clip.

H. Wang, A. Kläser, C. Schmid and C.-L. Liu, "Action Recognition by Dense Trajectories", CVPR 2011:
k-means with K = 4000 clusters for each descriptor, each row assigned to the nearest centre,
histograms of L1 norm 1, compared by the chi-squared distance. The clusters are those of
scikit-learn's ``MiniBatchKMeans``, which starts from random rows: k-means++ would take longer to
choose 4000 centres than everything after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from flowpipe.encoding.base import ClipEncoder, Take, iterate_clips, sample_clips
from flowpipe.encoding.validation import Rows
from flowpipe.errors import ParameterError

_BLOCK = 2048
_BATCH = 8192


class BagOfWords(ClipEncoder):
    """Encode clips as histograms of visual words.

    A transformer of scikit-learn: ``fit`` and ``transform`` take a list of ``(n_i, D)`` arrays, one
    per clip. A single 2-D array is one clip per row, as everywhere in scikit-learn; use
    :meth:`encode` for the vector of one clip.

    Parameters
    ----------
    n_clusters
        Number of visual words, K.
    n_rows
        Number of rows to fit to, balanced over the clips.
    max_iter
        Largest number of passes of k-means over those rows.
    random_state
        Seed, ``RandomState`` or None.

    Attributes
    ----------
    cluster_centers_
        (K, D) float64.
    n_iter_
        Passes of k-means that were needed.
    n_features_in_
        Width of a row, D.

    Examples
    --------
    >>> import flowpipe
    >>> import numpy as np
    >>> clips = [np.random.default_rng(i).normal(size=(50, 8)) for i in range(4)]
    >>> histograms = flowpipe.BagOfWords(n_clusters=5).fit_transform(clips)
    >>> histograms.shape
    (4, 5)
    >>> np.allclose(histograms.sum(axis=1), 1)
    True
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
        """Find the clusters.

        Parameters
        ----------
        X
            List of (n_i, D) arrays, or (n, D).
        y
            Ignored.

        Raises
        ------
        ParameterError
            Fewer rows than clusters, or rows that are not finite.
        """
        seed = check_random_state(self.random_state).randint(2**31)
        clips = list(iterate_clips(self, X, reset=True))
        rows = sample_clips(clips, self.n_rows, np.random.default_rng(seed))
        if not 1 <= self.n_clusters <= len(rows):
            raise ParameterError(
                f"n_samples={len(rows)} rows cannot give n_clusters={self.n_clusters} clusters; "
                "there must be at least as many rows, and at least one cluster"
            )
        kmeans = MiniBatchKMeans(
            self.n_clusters,
            batch_size=min(_BATCH, len(rows)),
            max_iter=self.max_iter,
            init="random",
            n_init=1,
            random_state=seed,
        )
        # With several threads, the order of the sums would vary from run to run.
        with threadpool_limits(1):
            kmeans.fit(rows)
        self.cluster_centers_ = np.asarray(kmeans.cluster_centers_, np.float64)
        self.n_iter_ = int(kmeans.n_iter_)
        return self

    def sufficient_statistics(self, rows: Rows) -> NDArray[np.float64]:
        """Return how many rows are nearest to each centre, (K,)."""
        self._check(rows)
        counts = np.zeros(len(self.cluster_centers_))
        for nearest in self._nearest(rows):
            counts += np.bincount(nearest, minlength=len(counts))
        return counts

    def _nearest(self, rows: Rows) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of the nearest centres of blocks of rows."""
        centers = self.cluster_centers_.astype(rows.dtype)
        half_norms = 0.5 * (centers**2).sum(axis=1)
        for first in range(0, len(rows), _BLOCK):
            # The nearest centre has the largest product with the row, less half its own square.
            closeness = rows[first : first + _BLOCK] @ centers.T - half_norms
            yield closeness.argmax(axis=1)

    def linearize(
        self, statistics: NDArray[np.float64], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return weights of the counts, (K,)."""
        total = statistics.sum()
        return np.asarray(weights / total if total > 0 else np.zeros(len(statistics)), np.float64)

    def shares(self, rows: Rows, linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n,) shares of rows in a score."""
        self._check(rows)
        return np.concatenate([np.zeros(0), *(linear[each] for each in self._nearest(rows))])

    def finalize(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the histogram of L1 norm 1; zeros remain zeros."""
        total = statistics.sum()
        return np.asarray(statistics / total if total > 0 else statistics)

    @property
    def n_outputs(self) -> int:
        """Length of a histogram, K."""
        check_is_fitted(self)
        return len(self.cluster_centers_)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the centres as ``clusters``, (K, D)."""
        return {"clusters": self.cluster_centers_}

    def from_arrays(self, take: Take) -> None:
        """Restore the centres."""
        self.cluster_centers_ = take("clusters", (self.n_clusters, None))
        self.n_features_in_ = self.cluster_centers_.shape[1]
