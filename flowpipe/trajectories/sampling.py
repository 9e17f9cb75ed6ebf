"""Where new tracks start: a grid, thinned where nothing can be tracked or something already is.

Wang et al. (2011) sample every `min_distance` pixels, leave out points whose smaller eigenvalue of
the gradient's autocorrelation (Shi and Tomasi 1994) is small against the frame's largest, and
sample a cell anew once no live track is in it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe.trajectories.pyramid import Grey, Level, Plane


class Sampler:
    """Samples one spatial scale; holds its buffers.

    Parameters
    ----------
    level
        The scale.
    distance
        Side of a grid cell in pixels of the scale.
    quality
        Least eigenvalue as a part of the largest.
    """

    def __init__(self, level: Level, distance: int, quality: float) -> None:
        self._distance, self._quality = distance, quality
        self._strength = np.empty((level.height, level.width), np.float32)
        rows, columns = level.height // distance, level.width // distance
        self._taken = np.empty((rows, columns), np.bool_)
        self._points = np.empty((max(rows * columns, 1), 2), np.float32)

    def sample(self, grey: Grey, live: Plane) -> Plane:
        """Choose new points in a frame.

        Parameters
        ----------
        grey
            (height, width) uint8, the scale's grey levels.
        live
            (n, 2), where the live tracks are: x, y in pixels of the scale.

        Returns
        -------
        (m, 2) float32 x, y in row-major order; valid until the next call.
        """
        cv2.cornerMinEigenVal(grey, 3, dst=self._strength, ksize=3)
        threshold = self._quality * float(self._strength.max())
        count = free_points(
            self._strength, threshold, live, self._distance, self._taken, self._points
        )
        return self._points[:count]


@njit(cache=True, nogil=True)
def free_points(strength, threshold, live, distance, taken, points):  # type: ignore[no-untyped-def]
    """Write the middles of the free cells that are strong enough; return how many."""
    rows, columns = taken.shape
    taken[:] = False
    for i in range(live.shape[0]):
        x, y = int(live[i, 0]) // distance, int(live[i, 1]) // distance
        if x < columns and y < rows:
            taken[y, x] = True
    count = 0
    for i in range(rows):
        for j in range(columns):
            x, y = j * distance + distance // 2, i * distance + distance // 2
            if not taken[i, j] and strength[y, x] > threshold:
                points[count, 0], points[count, 1] = x, y
                count += 1
    return count


def strongest_points(
    grey: Grey, mask: NDArray[np.uint8] | None, most: int, quality: float
) -> Plane:
    """Corners for estimating the camera's motion, at least 3 pixels apart; (n, 2) x, y."""
    corners: Any = cv2.goodFeaturesToTrack(grey, most, quality, 3, mask=mask, blockSize=3)
    if corners is None:
        return np.empty((0, 2), np.float32)
    return np.asarray(corners, np.float32).reshape(-1, 2)
