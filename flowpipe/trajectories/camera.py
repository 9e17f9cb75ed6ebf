"""The camera's motion between two frames: matches, homography, warped frame.

Wang and Schmid (2013): keypoint matches and flow at corners, a homography by RANSAC, and the second
frame warped back by it, so that flow to the warped frame holds what moved by itself. The released
program matches SURF, which patents kept out of OpenCV's wheels; ORB (Rublee et al. 2011) stands in
here, and moves the result by no more than another RANSAC seed does. SIFT comes as close and takes
ten times as long.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe.trajectories.homography import Homography, fit_homography
from flowpipe.trajectories.pyramid import Grey, Plane
from flowpipe.trajectories.sampling import strongest_points

Mask = NDArray[np.uint8]
Keypoints = tuple[Plane, NDArray[np.uint8]]
"""(n, 2) places and (n, 32) bytes of description."""

_SEARCH = 25
"""A keypoint is looked for this far along each axis, in pixels."""
_CORNERS = 1000
_KEYPOINTS = 200
"""ORB's places are coarse; more of them outvote the flow, which is the better witness."""
_MARGIN = 5
_NO_BITS = np.empty((0, 32), np.uint8)
_BITS = np.array([value.bit_count() for value in range(256)], np.uint8)


class CameraMotion:
    """Estimates the homography from each frame to the next; remembers a frame's keypoints.

    Parameters
    ----------
    quality
        Least eigenvalue of the corners that flow is taken from, as a part of the largest.
    """

    def __init__(self, quality: float) -> None:
        self._quality = quality
        self._detector = cv2.ORB.create(nfeatures=_KEYPOINTS)
        self._previous: Keypoints = (np.empty((0, 2), np.float32), _NO_BITS)

    def start(self, grey: Grey, mask: Mask | None) -> None:
        """Take the first frame."""
        self._previous = self._keypoints(grey, mask)

    def estimate(self, previous: Grey, grey: Grey, flow: Plane, mask: Mask | None) -> Homography:
        """Homography that takes points of the previous frame to where they are in this one.

        Parameters
        ----------
        previous, grey
            (h, w) uint8.
        flow
            (2, h, w) float32 from the previous frame to this one.
        mask
            (h, w) uint8, 0 where matches are not to be trusted (people), or None.

        Returns
        -------
        (3, 3) float64; the identity where there are too few matches (50) or inliers (25).
        """
        last, now = self._previous, self._keypoints(grey, mask)
        self._previous = now
        corners = strongest_points(previous, mask, _CORNERS, self._quality)
        at = np.rint(corners).astype(int)
        source, target = [corners], [corners + flow[:, at[:, 1], at[:, 0]].T]
        nearest = nearest_keypoints(*last, *now, _BITS)
        source.append(last[0][nearest[nearest >= 0]])
        target.append(now[0][nearest >= 0])
        return fit_homography(np.concatenate(source), np.concatenate(target))

    def _keypoints(self, grey: Grey, mask: Mask | None) -> Keypoints:
        keypoints, bits = self._detector.detectAndCompute(grey, mask)
        if not keypoints:
            return np.empty((0, 2), np.float32), _NO_BITS
        return np.array([k.pt for k in keypoints], np.float32), np.asarray(bits, np.uint8)


@njit(cache=True, nogil=True, error_model="numpy")
def nearest_keypoints(last_places, last_bits, places, bits, count_bits):  # type: ignore[no-untyped-def]
    """For each keypoint the most similar one of the last frame within the search range, or -1."""
    nearest = np.full(len(places), -1, np.int64)
    for i in range(len(places)):
        least = 8 * bits.shape[1] + 1
        for j in range(len(last_places)):
            if (
                abs(places[i, 0] - last_places[j, 0]) >= _SEARCH
                or abs(places[i, 1] - last_places[j, 1]) >= _SEARCH
            ):
                continue
            distance = 0
            for k in range(bits.shape[1]):
                distance += count_bits[bits[i, k] ^ last_bits[j, k]]
            if distance < least:
                least, nearest[i] = distance, j
    return nearest


@njit(cache=True, nogil=True, error_model="numpy")
def warp_back(previous, grey, homography, out):  # type: ignore[no-untyped-def]
    """Show the frame as it would look from where the camera was before.

    Bilinear at ``homography @ (x, y)`` in steps of 1/32 pixel. Where that is not inside the frame
    by a margin, the previous frame stands in, which is no motion.

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
    # places in 1/32 pixel, or -1: apart from the reading, so that they are made as vectors
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
def remove_motion(flow, homography, out):  # type: ignore[no-untyped-def]
    """Flow without the camera's motion, from the flow itself: ``H^-1 (p + flow) - p``.

    For flow that is given and not computed here; (2, h, w) float32, `out` is filled.
    """
    height, width = flow.shape[1:]
    m = np.linalg.inv(homography)
    for y in range(height):
        for x in range(width):
            u, v = x + flow[0, y, x], y + flow[1, y, x]
            depth = m[2, 0] * u + m[2, 1] * v + m[2, 2]
            depth = 1 / depth if depth != 0 else 0.0
            out[0, y, x] = (m[0, 0] * u + m[0, 1] * v + m[0, 2]) * depth - x
            out[1, y, x] = (m[1, 0] * u + m[1, 1] * v + m[1, 2]) * depth - y
