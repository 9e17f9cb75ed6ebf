"""Sample the starting points of tracks on a grid.

Wang et al. (2011) sample every `min_distance` pixels, except points whose smaller eigenvalue of the
gradient's autocorrelation (Shi and Tomasi 1994) is small compared with the frame's largest, and
cells that contain a live track.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from flowpipe._typing import Plane
from flowpipe.camera.corners import CornerStrength
from flowpipe.trajectories.pyramid import Level


class Sampler:
    """Sample points at one spatial scale, with reused buffers.

    Parameters
    ----------
    level
        The scale.
    distance
        Side of a grid cell in pixels of the scale.
    quality
        Smallest eigenvalue of a point, as a fraction of the largest.
    """

    def __init__(self, level: Level, distance: int, quality: float) -> None:
        self._distance, self._quality = distance, quality
        rows, columns = level.height // distance, level.width // distance
        self._taken = np.empty((rows, columns), np.bool_)
        self._points = np.empty((max(rows * columns, 1), 2), np.float32)

    def sample(self, corners: CornerStrength, live: Plane) -> Plane:
        """Choose new points in a frame.

        Parameters
        ----------
        corners
            Corner strength of the frame at this scale.
        live
            (n, 2) current points x, y of the live tracks, in pixels of the scale.

        Returns
        -------
        (m, 2) float32 x, y in row-major order; valid until the next call.
        """
        threshold = self._quality * corners.largest
        count = free_points(
            corners.strength, threshold, live, self._distance, self._taken, self._points
        )
        return self._points[:count]


@njit(cache=True, nogil=True)
def free_points(strength, threshold, live, distance, taken, points):  # type: ignore[no-untyped-def]
    """Write the centres of free cells above the threshold; return their number."""
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
