"""Pool the maps of a convolutional network along trajectories (TDD).

L. Wang, Y. Qiao and X. Tang, "Action Recognition with Trajectory-Pooled Deep-Convolutional
Descriptors", CVPR 2015. The sum of the maps over the cells that a trajectory passes, one cell per
frame, of maps that are normalised in one of two ways:

* ``spatiotemporal``: a channel is divided by its maximum over x, y and t of the clip;
* ``channel``: a cell is divided by its maximum over the channels.

As in the released code, the divisor is the maximum plus a small number, and a point that lies half
way between two cells belongs to the one further away from the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from flowpipe._vectors import kernel
from flowpipe.errors import ParameterError

NORMALISATIONS = ("spatiotemporal", "channel")

EPSILON = float(np.finfo(np.float64).eps)
"""What is added to a maximum before a division by it."""


def channel_maxima(maps: NDArray[np.floating], block: int = 64) -> NDArray[np.float32]:
    """Return the maximum of each channel over all cells of all frames.

    Parameters
    ----------
    maps
        (T, H, W, C), not negative; may lie on disk: `block` frames are read at a time.
    block
        Number of frames.

    Returns
    -------
    (C,) float32

    Raises
    ------
    ParameterError
        A value is negative: these are not maps of a rectified layer.
    """
    highest = np.zeros(maps.shape[3], np.float32)
    for first in range(0, len(maps), block):
        part = _as_floats(maps[first : first + block])
        if part.size and part.min() < 0:
            raise ParameterError(
                f"the maps have a value of {part.min():g}; they must not be negative: take those "
                "of a layer behind a ReLU"
            )
        highest = np.maximum(highest, part.max(axis=(0, 1, 2)))
    return highest


def cells_of(
    points: NDArray[np.floating], pixels_per_cell: Sequence[float], size: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the cells of a map in which points lie, the nearest ones for points outside.

    Parameters
    ----------
    points
        (..., 2) x and y in pixels, from 0.
    pixels_per_cell
        Along x and along y.
    size
        Height and width of the map in cells.

    Returns
    -------
    (..., 2) int64
        Column and row. Halves are rounded up, as MATLAB rounds them.

    Examples
    --------
    >>> cells_of(np.array([[8.0, 24.0], [-9.0, 500.0]]), (16, 16), (6, 8)).tolist()
    [[1, 2], [0, 5]]
    """
    nearest = np.floor(points / np.asarray(pixels_per_cell, np.float64) + 0.5).astype(np.int64)
    return np.clip(nearest, 0, np.array([size[1] - 1, size[0] - 1]))


def pool_maps(
    maps: NDArray[np.floating],
    points: NDArray[np.floating],
    ends: NDArray[np.integer],
    pixels_per_cell: Sequence[float],
    highest: NDArray[np.floating] | None = None,
    *,
    parts: int = 1,
) -> dict[str, NDArray[np.float32]]:
    """Return the sums of normalised maps along trajectories.

    Parameters
    ----------
    maps
        (T, H, W, C), not negative; may lie on disk: only the frames between the first and the last
        point are read.
    points
        (n, L, 2) x and y in pixels from 0, of one frame each, the oldest first.
    ends
        (n,) frame of the last point, from 0, at most T - 1.
    pixels_per_cell
        Pixels of a cell of the maps along x and along y.
    highest
        (C,) maximum of each channel over the clip; by default those of `maps`.
    parts
        Number of equal parts of a trajectory, each with a sum of its own.

    Returns
    -------
    dict
        By normalisation, (n, parts * C) float32: all channels of the first part come first.

    Raises
    ------
    ParameterError
        A trajectory leaves the clip, or does not divide into the parts.

    Examples
    --------
    >>> ones = np.ones((20, 6, 8, 3), np.float16)
    >>> still = np.full((1, 15, 2), 40.0)
    >>> pool_maps(ones, still, np.array([17]), (16, 16))["channel"].tolist()
    [[15.0, 15.0, 15.0]]
    """
    count, length = points.shape[:2]
    channels = maps.shape[3]
    if parts < 1 or length % parts:
        raise ParameterError(f"parts is {parts}; it must divide the {length} points of a track")
    if highest is None:
        highest = channel_maxima(maps)
    plain = np.zeros((count, parts, channels), np.float32)
    by_cell = np.zeros_like(plain)
    if count:
        first, last = int(ends.min()) - length + 1, int(ends.max())
        if first < 0 or last >= len(maps):
            raise ParameterError(
                f"trajectories lie in frames {first} to {last}; the maps are of frames 0 to "
                f"{len(maps) - 1}"
            )
        used = _as_floats(maps[first : last + 1])
        divisors = used.max(axis=3).astype(np.float64) + EPSILON
        cells = cells_of(points, pixels_per_cell, (used.shape[1], used.shape[2]))
        _pool(used, (1 / divisors).astype(np.float32), cells, ends - first, plain, by_cell)
    plain /= (highest.astype(np.float64) + EPSILON).astype(np.float32)
    return {
        "spatiotemporal": plain.reshape(count, parts * channels),
        "channel": by_cell.reshape(count, parts * channels),
    }


def _as_floats(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return maps as contiguous float32.

    numpy converts float16 number by number, which takes several times as long as a look-up.
    """
    if maps.dtype == np.float16:
        return _halves()[np.ascontiguousarray(maps).view(np.uint16)]
    return np.ascontiguousarray(maps, np.float32)


@cache
def _halves() -> NDArray[np.float32]:
    """Return all float16 numbers, by their bits."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


@kernel
def _pool(maps, weights, cells, ends, plain, by_cell):  # type: ignore[no-untyped-def]
    """Add the maps at the cells of each track, as they are and weighted."""
    length = cells.shape[1]
    in_part = length // plain.shape[1]
    for track in range(cells.shape[0]):
        for step in range(length):
            t = ends[track] - length + 1 + step
            x, y = cells[track, step, 0], cells[track, step, 1]
            weight = weights[t, y, x]
            values = maps[t, y, x]
            sums, weighted = plain[track, step // in_part], by_cell[track, step // in_part]
            for channel in range(values.size):
                sums[channel] += values[channel]
                weighted[channel] += values[channel] * weight
