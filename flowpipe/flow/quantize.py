"""Flow to 8 bit and back, in the convention of dense_flow and denseflow.

A grey level is ``round_half_even(255 * (v + bound) / (2 * bound))``, clipped to 0..255, so that
with a bound of 20 pixels one level is 40/255 = 0.157 px and zero flow is 128. Tools that truncate
instead of rounding write 127 for zero flow; networks trained on either see the other's as a
constant drift. Decoding subtracts 128, as the networks' loaders do, so zero flow comes back as
exactly zero.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError

DEFAULT_BOUND = 20.0
"""Displacement in pixels at which 8-bit flow saturates, as TSN's and mmaction2's flow has it."""
ZERO_LEVEL = 128
_UNKNOWN = 1e9  # Middlebury's .flo files mark unknown flow by values above this


def to_uint8(flow: NDArray[np.floating], bound: float = DEFAULT_BOUND) -> NDArray[np.uint8]:
    """Quantise flow to grey levels.

    Parameters
    ----------
    flow
        Displacements in pixels, any shape.
    bound
        Displacements beyond ``-bound`` and ``bound`` pixels saturate at 0 and 255.

    Returns
    -------
    uint8, of the same shape
        Not-a-number gives 128, zero flow.

    Raises
    ------
    ParameterError
        The bound is not a positive number.
    """
    _check_bound(bound)
    levels = np.asarray(np.add(flow, bound, dtype=np.float64))
    levels *= 255.0
    levels /= 2.0 * bound
    np.rint(levels, out=levels)
    np.clip(levels, 0, 255, out=levels)
    # A minimum finds not-a-number in one pass, and there seldom is any.
    if levels.size and np.isnan(levels.min()):
        levels[np.isnan(levels)] = ZERO_LEVEL
    return levels.astype(np.uint8)


def from_uint8(
    levels: NDArray[np.uint8], bound: float = DEFAULT_BOUND, *, zero: float = ZERO_LEVEL
) -> NDArray[np.float32]:
    """Return displacements in pixels from grey levels: ``(level - zero) * 2 * bound / 255``.

    Parameters
    ----------
    levels
        Grey levels, any shape.
    bound
        The bound that they were quantised with, in pixels.
    zero
        The level of zero flow. 128, the field's, keeps still pixels still and puts every other
        displacement up to one level (0.157 px at bound 20) towards the negative; 127.5 inverts
        :func:`to_uint8` without bias, within half a level, and turns still pixels into
        half a level of motion.

    Raises
    ------
    ParameterError
        The bound is not a positive number.
    """
    _check_bound(bound)
    return (np.asarray(levels, np.float32) - np.float32(zero)) * np.float32(2.0 * bound / 255.0)


def check_known(flow: NDArray[np.floating], what: str) -> None:
    """Raise a FormatError unless every value is finite and known; ``what`` is for the message."""
    # Not-a-number makes either comparison false. Two passes without an array of their own.
    if flow.size and not (float(flow.min()) > -_UNKNOWN and float(flow.max()) < _UNKNOWN):
        with np.errstate(invalid="ignore"):
            known = np.abs(flow) < _UNKNOWN
        count = int(known.size - np.count_nonzero(known))
        raise FormatError(f"{count} of {known.size} values of {what} are not finite, or unknown")


def _check_bound(bound: float) -> None:
    if not (bound > 0 and math.isfinite(bound)):
        raise ParameterError(f"bound is {bound!r}; it must be a positive number of pixels")
