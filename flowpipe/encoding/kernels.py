"""From logits of a mixture to posteriors, in one pass and in place.

Far above a few dimensions most posteriors of a row are nought: only components within exp(-30) of
the row's best one are exponentiated, and the rest are set to zero. That spares most of the
exponentials, and it keeps denormal numbers, which would slow the products that follow, out of them.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

CUT = 30.0
"""Posteriors below exp(-CUT) = 1e-13 of a row's largest count as nought."""


@numba.njit(cache=True, nogil=True)
def to_posteriors(logits: NDArray[np.floating]) -> float:
    """Turn logits into posteriors.

    Parameters
    ----------
    logits
        (n, K) log of weight times density; replaced by posteriors, whose rows sum to 1.

    Returns
    -------
    float
        Sum over rows of the log-likelihood.
    """
    rows, components = logits.shape
    near = np.empty(components, np.int64)
    posterior = np.empty(components, np.float64)
    likelihood = 0.0
    for row in range(rows):
        values = logits[row]
        largest = values[0]
        for k in range(1, components):
            largest = max(largest, values[k])
        least = largest - CUT
        count = 0
        for k in range(components):
            near[count] = k
            count += values[k] > least
        total = 0.0
        for i in range(count):
            posterior[i] = np.exp(np.float64(values[near[i]] - largest))
            total += posterior[i]
        likelihood += largest + np.log(total)
        values[:] = 0
        for i in range(count):
            values[near[i]] = posterior[i] / total
    return likelihood
