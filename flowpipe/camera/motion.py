"""Estimate the camera's motion between two frames, and remove it.

Wang and Schmid (2013): keypoint matches and flow at corners, a homography by RANSAC, and the second
frame warped back by it, so that the flow to the warped frame is free of the camera's motion. Flow
locates a match more precisely than keypoints do, so the final fit uses only matches of flow.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe.camera import CORNER_QUALITY
from flowpipe.camera.corners import CornerStrength
from flowpipe.camera.homography import Homography, fit_homography
from flowpipe.camera.keypoints import KeypointFinder, Keypoints, nearest_keypoints

Mask = NDArray[np.uint8]
_CORNERS = 1000
_KEYPOINTS = 200
_MARGIN = 5


class CameraMotion:
    """Estimate the homography from each frame of a video to the next.

    Parameters
    ----------
    height, width
        Size of the frames.
    quality
        Smallest eigenvalue of corners, as a fraction of the largest.
    """

    def __init__(self, height: int, width: int, quality: float = CORNER_QUALITY) -> None:
        self._quality = quality
        self._finder = KeypointFinder(height, width, _KEYPOINTS, quality)
        self._previous: Keypoints

    def start(self, grey: Grey, corners: CornerStrength, mask: Mask | None) -> None:
        """Set the first frame and its corners."""
        self._previous = self._finder.find(grey, corners, mask)

    def estimate(
        self,
        previous: CornerStrength,
        grey: Grey,
        corners: CornerStrength,
        flow: Plane,
        mask: Mask | None,
    ) -> Homography:
        """Return the homography that maps points of the previous frame to this one.

        Parameters
        ----------
        previous
            Corner strength of the previous frame.
        grey
            (h, w) uint8, this frame.
        corners
            Corner strength of this frame.
        flow
            (2, h, w) float32 from the previous frame to this one.
        mask
            (h, w) uint8, 0 where matches are ignored (people), or None.

        Returns
        -------
        (3, 3) float64; the identity with too few matches (50) or inliers (25).
        """
        last, now = self._previous, self._finder.find(grey, corners, mask)
        self._previous = now
        points = previous.strongest(mask, _CORNERS, self._quality)
        x, y = points.T.astype(np.intp)
        nearest = np.empty(len(now[0]), np.int64)
        nearest_keypoints(*last, *now, nearest)
        source = [points, last[0][nearest[nearest >= 0]]]
        target = [points + flow[:, y, x].T, now[0][nearest >= 0]]
        return fit_homography(np.concatenate(source), np.concatenate(target), precise=len(points))


@njit(cache=True, nogil=True, error_model="numpy")
def warp_back(previous, grey, homography, out):  # type: ignore[no-untyped-def]
    """Warp a frame to the camera's previous position.

    Bilinear interpolation at ``homography @ (x, y)`` in steps of 1/32 pixel. Outside the frame, or
    within a margin of its border, the previous frame is used, which means no motion.

    Parameters
    ----------
    previous, grey
        (h, w) uint8.
    homography
        (3, 3) float64 from the previous frame to `grey`.
    out
        (h, w) uint8, filled.
    """
    height, width = grey.shape
    m = homography
    # positions in 1/32 pixel, or -1; computed before the pixels are read, so that it is vectorised
    across, down = np.empty(width, np.int32), np.empty(width, np.int32)
    right, bottom = width - _MARGIN - 1, height - _MARGIN - 1
    for y in range(height):
        for x in range(width):
            depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
            depth = 1 / depth if depth != 0 else 0.0
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * depth
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * depth
            inside = (u > _MARGIN) & (u < right) & (v > _MARGIN) & (v < bottom)
            across[x] = np.int32(np.rint(32 * u if inside else -1.0))
            down[x] = np.int32(np.rint(32 * v if inside else -1.0))
        for x in range(width):
            if across[x] >= 0:
                left, top = np.uint64(across[x] >> 5), np.uint64(down[x] >> 5)
                ax, ay = np.int32(across[x] & 31), np.int32(down[x] & 31)
                one = np.uint64(1)
                upper = (32 - ax) * grey[top, left] + ax * grey[top, left + one]
                lower = (32 - ax) * grey[top + one, left] + ax * grey[top + one, left + one]
                out[y, x] = ((32 - ay) * upper + ay * lower + 512) >> 10
            else:
                out[y, x] = previous[y, x]


@njit(cache=True, nogil=True, error_model="numpy")
def remove_motion(flow, inverse, out):  # type: ignore[no-untyped-def]
    """Remove the camera's motion from the flow itself: ``H^-1 (p + flow) - p``.

    For flow that is given and not computed here; (2, h, w) float32, written to `out`. `inverse` is
    H^-1, since Numba would need SciPy's LAPACK to invert it.
    """
    height, width = flow.shape[1:]
    for y in range(height):
        for x in range(width):
            u, v = x + flow[0, y, x], y + flow[1, y, x]
            depth = inverse[2, 0] * u + inverse[2, 1] * v + inverse[2, 2]
            depth = 1 / depth if depth != 0 else 0.0
            out[0, y, x] = (inverse[0, 0] * u + inverse[0, 1] * v + inverse[0, 2]) * depth - x
            out[1, y, x] = (inverse[1, 0] * u + inverse[1, 1] * v + inverse[1, 2]) * depth - y
