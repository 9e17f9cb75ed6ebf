"""The spatial scales of dense trajectories, and the image pyramids of points and of flow.

Both pyramids have the same sizes. Points and HOG use uint8 levels, each resized from the one before
without smoothing. The levels of the flow are each smoothed and resized from the frame itself, in
float32; both steps are linear, so here they are one banded matrix per axis, applied only to the
rows and columns that a level keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe.errors import ParameterError
from flowpipe.trajectories.parameters import SCALE_STRIDE


@dataclass(frozen=True, slots=True)
class Level:
    """A spatial scale: its size in pixels, and the ratio of the full size to it."""

    height: int
    width: int
    scale: float


def pyramid_levels(height: int, width: int, patch_size: int, scale_num: int) -> list[Level]:
    """Return the scales of a frame, finest first, each smaller by sqrt(2), while the patch fits.

    Raises
    ------
    ParameterError
        The frame is smaller than the patch.
    """
    if min(height, width) < patch_size:
        raise ParameterError(
            f"frames of {width}x{height} pixels are smaller than the patch of a trajectory; "
            f"patch_size is {patch_size}, it must be at most {min(height, width)}"
        )
    stride = np.float32(SCALE_STRIDE)
    side, count = np.float32(min(height, width)), 0
    while side >= patch_size:
        side, count = np.float32(side / stride), count + 1
    levels, scale = [], np.float32(1)
    for _ in range(min(max(count, 1), scale_num)):
        rows, columns = round(float(height / scale)), round(float(width / scale))
        levels.append(Level(rows, columns, float(scale)))
        scale = np.float32(scale * stride)
    return levels


def grey_pyramid(grey: Grey, out: list[Grey]) -> None:
    """Fill `out` with a frame and its reductions, each resized from the one before."""
    out[0][...] = grey
    for finer, coarser in pairwise(out):
        cv2.resize(finer, coarser.shape[::-1], dst=coarser, interpolation=cv2.INTER_LINEAR)


def smoothing_taps(scale: float) -> NDArray[np.float64]:
    """Return the Gaussian taps for a reduction by `scale`; the finest level is smoothed too."""
    sigma = (scale - 1) / 2
    size = max(round(5 * sigma) | 1, 3)
    if sigma == 0:
        return np.array([0.25, 0.5, 0.25])
    offsets = np.arange(size) - size // 2
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    return np.asarray(taps / taps.sum(), np.float64)


@dataclass(frozen=True, slots=True)
class Band:
    """A banded matrix: row ``i`` has ``weights[i]`` from column ``first[i]``."""

    first: NDArray[np.int64]
    weights: Plane


def reducing_band(size: int, reduced: int, scale: float) -> Band:
    """Return the matrix that smooths `size` samples, mirrored (101), and resizes them linearly."""
    taps = smoothing_taps(scale)
    matrix = np.zeros((reduced, size))
    # float32 here, as in cv2.resize: its rounding is larger than that of everything after it
    position = ((np.arange(reduced) + 0.5) * (size / reduced) - 0.5).astype(np.float32)
    position = np.clip(position, 0, size - 1)
    left = np.minimum(np.floor(position).astype(int), size - 2)
    fraction = position - left
    for side, weight in ((0, 1 - fraction), (1, fraction)):
        for offset, tap in enumerate(taps, start=-(len(taps) // 2)):
            source = np.abs(left + side + offset)
            source = np.where(source >= size, 2 * (size - 1) - source, source)
            np.add.at(matrix, (np.arange(reduced), source), weight * tap)
    width = min(len(taps) + 1, size)
    first = np.minimum((matrix != 0).argmax(axis=1), size - width)
    columns = first[:, None] + np.arange(width)
    weights = np.take_along_axis(matrix, columns, axis=1).astype(np.float32)
    return Band(first.astype(np.int64), weights)


# no fastmath: sums in the written order, so that rows do not depend on the processor
@njit(cache=True, nogil=True, error_model="numpy")
def apply_band(image, first, weights, out):  # type: ignore[no-untyped-def]
    """Apply a band along y: ``out = band @ image``.

    From the last weight to the first: where a sum's last bit decides whether a track leaves a
    sampling cell, this order agrees with the released programs on their clips.
    """
    last = weights.shape[1] - 1
    for y in range(out.shape[0]):
        start_row(image[first[y] + last], weights[y, last], out[y])
        for k in range(last - 1, 0, -2):
            upper, lower = image[first[y] + k], image[first[y] + k - 1]
            add_rows(upper, lower, weights[y, k], weights[y, k - 1], out[y])
        if last % 2:
            add_row(image[first[y]], weights[y, 0], out[y])


@njit(cache=True, nogil=True)
def start_row(row, weight, out):  # type: ignore[no-untyped-def]
    """Compute ``out = weight * row``."""
    for x in range(out.size):
        out[x] = weight * np.float32(row[x])


@njit(cache=True, nogil=True)
def add_rows(first, second, first_weight, second_weight, out):  # type: ignore[no-untyped-def]
    """Compute ``out = (out + first_weight * first) + second_weight * second``."""
    for x in range(out.size):
        total = out[x] + first_weight * np.float32(first[x])
        out[x] = total + second_weight * np.float32(second[x])


@njit(cache=True, nogil=True)
def add_row(row, weight, out):  # type: ignore[no-untyped-def]
    """Compute ``out += weight * row``."""
    for x in range(out.size):
        out[x] += weight * np.float32(row[x])


class Reducer:
    """Smooth and reduce frames to one scale, with reused buffers.

    Parameters
    ----------
    height, width
        Size of the frames.
    level
        The scale.
    """

    def __init__(self, height: int, width: int, level: Level) -> None:
        self._rows = reducing_band(height, level.height, level.scale)
        self._columns = reducing_band(width, level.width, level.scale)
        self._wide = np.empty((level.height, width), np.float32)
        self._turned = np.empty((width, level.height), np.float32)
        self._turned_out = np.empty((level.width, level.height), np.float32)
        self._out = np.empty((level.height, level.width), np.float32)

    def reduce(self, grey: Grey) -> Plane:
        """Return a reduced frame, (h, w) float32, valid until the next call.

        Both bands work on whole rows, the second on those of the transposed image.
        """
        apply_band(grey, self._rows.first, self._rows.weights, self._wide)
        cv2.transpose(self._wide, dst=self._turned)
        apply_band(self._turned, self._columns.first, self._columns.weights, self._turned_out)
        cv2.transpose(self._turned_out, dst=self._out)
        return self._out
