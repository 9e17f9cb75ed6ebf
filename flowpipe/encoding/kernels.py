"""The loop behind the sums of a mixture: posteriors of a row, and what it adds to each component.

Far above a few dimensions nearly all posteriors of a row are nought: of 256 components some six
are within exp(-30) of the best one, and only these are exponentiated and added up, in float64.
It also keeps denormal numbers, which are slow, out of the sums.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

CUT = 30.0
"""Posteriors below exp(-CUT) = 1e-13 of a row's largest count as nought."""


@numba.njit(cache=True, nogil=True)
def accumulate(
    logits: NDArray[np.floating], features: NDArray[np.floating], sums: NDArray[np.float64]
) -> float:
    """Add the posterior-weighted features of rows to the sums of each component.

    Parameters
    ----------
    logits
        (n, K) log of weight times density.
    features
        (n, F), of the same type.
    sums
        (K, F) float64, added to.

    Returns
    -------
    float
        Sum over rows of the log-likelihood.
    """
    rows, components = logits.shape
    width = features.shape[1]
    near = np.empty(components, np.int64)
    posterior = np.empty(components, np.float64)
    likelihood = 0.0
    for row in range(rows):
        largest = logits[row].max()
        least = largest - CUT
        count = 0
        for k in range(components):
            near[count] = k
            count += logits[row, k] > least
        total = 0.0
        for i in range(count):
            posterior[i] = np.exp(np.float64(logits[row, near[i]]) - largest)
            total += posterior[i]
        likelihood += largest + np.log(total)
        for i in range(count):
            weight = posterior[i] / total
            target = sums[near[i]]
            for column in range(width):
                target[column] += weight * features[row, column]
    return likelihood
