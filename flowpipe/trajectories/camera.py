"""The camera's motion between two frames: matches, homography, warped frame.

Wang and Schmid (2013): keypoint matches and flow at corners, a homography by RANSAC, and the second
frame warped back by it, so that flow to the warped frame holds what moved by itself. The released
program matches SURF, which patents kept out of OpenCV's wheels; ORB (Rublee et al. 2011) or SIFT
(Lowe 2004) stand in here, and move the result by less than another RANSAC seed does.
"""

from __future__ import annotations

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.pyramid import Grey, Plane
from flowpipe.trajectories.sampling import strongest_points

Homography = NDArray[np.float64]
Mask = NDArray[np.uint8]

_SEARCH = 25
"""A keypoint is looked for this far along each axis, in pixels."""
_CORNERS = 1000
_KEYPOINTS = 200
"""ORB's places are coarse; more of them outvote the flow, which is the better witness."""
_MARGIN = 5
_MIN_MATCHES, _MIN_INLIERS = 50, 25


class CameraMotion:
    """Estimates the homography from each frame to the next; remembers a frame's keypoints.

    Parameters
    ----------
    parameters
        Its ``keypoints`` and ``quality`` are used.
    """

    def __init__(self, parameters: TrajectoryParameters) -> None:
        self._quality = parameters.quality
        if parameters.keypoints == "orb":
            self._detector = cv2.ORB_create(nfeatures=_KEYPOINTS)
            self._norm = cv2.NORM_HAMMING
        else:
            self._detector = cv2.SIFT_create()
            self._norm = cv2.NORM_L2
        self._previous: tuple[Plane, NDArray[np.generic]] | None = None

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
        if last is not None:
            old, new = match_keypoints(last, now, self._norm)
            source.append(old)
            target.append(new)
        return fit_homography(np.concatenate(source), np.concatenate(target))

    def _keypoints(self, grey: Grey, mask: Mask | None) -> tuple[Plane, NDArray[np.generic]]:
        keypoints, descriptors = self._detector.detectAndCompute(grey, mask)
        places = cv2.KeyPoint_convert(keypoints) if keypoints else np.empty((0, 2))
        return np.asarray(places, np.float32).reshape(-1, 2), descriptors


def match_keypoints(
    last: tuple[Plane, NDArray[np.generic]], now: tuple[Plane, NDArray[np.generic]], norm: int
) -> tuple[Plane, Plane]:
    """For each keypoint of now the most similar one of last within the search range.

    Returns their places in the last and in this frame, (n, 2) each.
    """
    if not len(last[0]) or not len(now[0]):
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    near = np.abs(now[0][:, None] - last[0]).max(axis=2) < _SEARCH
    matches = cv2.BFMatcher(norm).match(now[1], last[1], near.astype(np.uint8))
    pairs = np.array([(m.trainIdx, m.queryIdx) for m in matches], np.int64).reshape(-1, 2)
    return last[0][pairs[:, 0]], now[0][pairs[:, 1]]


def fit_homography(source: Plane, target: Plane) -> Homography:
    """Homography by RANSAC (1 pixel), the identity where too little supports one.

    OpenCV starts its sampling from the same state in every call, so the result is repeatable.
    """
    if len(source) > _MIN_MATCHES:
        matrix, inliers = cv2.findHomography(source, target, cv2.RANSAC, 1.0)
        if matrix is not None and np.count_nonzero(inliers) > _MIN_INLIERS:
            return np.asarray(matrix, np.float64)
    return np.eye(3)


@njit(cache=True, nogil=True)
def warp_back(previous, grey, homography, out):  # type: ignore[no-untyped-def]
    """The frame as it would look from where the camera was before.

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
    for y in range(height):
        for x in range(width):
            depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
            depth = 1 / depth if depth != 0 else 0.0
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * depth
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * depth
            if _MARGIN < u < width - _MARGIN - 1 and _MARGIN < v < height - _MARGIN - 1:
                u32, v32 = int(np.rint(32 * u)), int(np.rint(32 * v))
                left, top = u32 >> 5, v32 >> 5
                ax, ay = u32 & 31, v32 & 31
                upper = (32 - ax) * grey[top, left] + ax * grey[top, left + 1]
                lower = (32 - ax) * grey[top + 1, left] + ax * grey[top + 1, left + 1]
                out[y, x] = ((32 - ay) * upper + ay * lower + 512) >> 10
            else:
                out[y, x] = previous[y, x]


@njit(cache=True, nogil=True)
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
