"""Detect keypoints, describe them by BRIEF and match them with those of the frame before.

The released program matches SURF, which patents kept out of OpenCV's wheels. Here the corners that
trajectories are sampled from (Shi and Tomasi 1994) are located between pixels by a parabola through
their strength, and described by BRIEF (Calonder et al., "BRIEF: binary robust independent
elementary features", ECCV 2010): 256 comparisons of the smoothed frame. From one frame to the next,
rotation and scale change too little to need more. ``cv2.xfeatures2d`` has BRIEF too, but only in
the contrib modules, which an OpenCV built with CUDA (docs/opencv_cuda.md) may lack.
"""

from __future__ import annotations

import cv2
import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe._vectors import kernel
from flowpipe.camera.corners import CornerStrength

Keypoints = tuple[Plane, NDArray[np.uint64]]
"""(n, 2) positions x, y and (n, 4) words of 64 comparisons each."""

_WORDS = 4
_REACH = 15
"""Pixels around a keypoint that its descriptor uses."""
_SMOOTHING = 2.0
_SEARCH = 25
"""Search range along each axis in pixels."""


def comparisons() -> NDArray[np.int64]:
    """Return the pixels to compare, (256, 4) y1, x1, y2, x2, normally distributed as in BRIEF."""
    places = np.random.default_rng(0).normal(0, (2 * _REACH + 1) / 5, (64 * _WORDS, 4))
    return np.clip(np.rint(places), -_REACH, _REACH).astype(np.int64)


class KeypointFinder:
    """Detect and describe the keypoints of frames of one size, with reused buffers.

    Parameters
    ----------
    height, width
        Size of the frames.
    most
        Largest number of keypoints per frame.
    quality
        Smallest strength of a keypoint, as a fraction of the largest.
    """

    def __init__(self, height: int, width: int, most: int, quality: float) -> None:
        self._smooth = np.empty((height, width), np.uint8)
        self._most, self._quality = most, quality
        y1, x1, y2, x2 = comparisons().T
        self._offsets = np.stack([y1 * width + x1, y2 * width + x2])

    def find(
        self, grey: Grey, corners: CornerStrength, mask: NDArray[np.uint8] | None
    ) -> Keypoints:
        """Return the keypoints of a frame.

        Parameters
        ----------
        grey
            (h, w) uint8.
        corners
            Corner strength of the frame.
        mask
            (h, w) uint8, 0 where keypoints are ignored, or None.
        """
        height, width = grey.shape
        x, y = corners.strongest(mask, self._most, self._quality).T
        inside = (x >= _REACH) & (x < width - _REACH) & (y >= _REACH) & (y < height - _REACH)
        places = np.stack([x[inside], y[inside]], axis=1)
        cv2.GaussianBlur(grey, (7, 7), _SMOOTHING, dst=self._smooth)
        bits = np.empty((len(places), _WORDS), np.uint64)
        describe(self._smooth.reshape(-1), width, places, self._offsets, bits)
        move_to_peaks(corners.strength, places)
        return places, bits


@kernel
def describe(smooth, width, places, offsets, bits):  # type: ignore[no-untyped-def]
    """Compare pairs of pixels around each position of a flat frame."""
    one = np.uint64(1)
    for i in range(places.shape[0]):
        middle = np.int64(places[i, 1]) * width + np.int64(places[i, 0])
        for word in range(bits.shape[1]):
            value = np.uint64(0)
            for k in range(64 * word, 64 * word + 64):
                less = smooth[middle + offsets[0, k]] < smooth[middle + offsets[1, k]]
                value = (value << one) | np.uint64(less)
            bits[i, word] = value


@kernel
def move_to_peaks(strength, places):  # type: ignore[no-untyped-def]
    """Move corners to the maxima of parabolas through the strengths around them."""
    for i in range(places.shape[0]):
        x, y = np.int64(places[i, 0]), np.int64(places[i, 1])
        middle = strength[y, x]
        for axis, before, after in (
            (0, strength[y, x - 1], strength[y, x + 1]),
            (1, strength[y - 1, x], strength[y + 1, x]),
        ):
            bend = 2 * middle - before - after
            if bend > 0:
                places[i, axis] += (after - before) / (2 * bend)


@intrinsic
def _count_bits(typing, word):
    """Return the number of bits set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return numba.uint64(numba.uint64), generate


@kernel
def nearest_keypoints(last_places, last_bits, places, bits, nearest):  # type: ignore[no-untyped-def]
    """Find the most similar keypoint of the last frame within the search range, or -1."""
    for i in range(places.shape[0]):
        least, nearest[i] = np.uint64(64 * bits.shape[1] + 1), -1
        for j in range(last_places.shape[0]):
            if (
                abs(places[i, 0] - last_places[j, 0]) >= _SEARCH
                or abs(places[i, 1] - last_places[j, 1]) >= _SEARCH
            ):
                continue
            distance = np.uint64(0)
            for k in range(bits.shape[1]):
                distance += _count_bits(bits[i, k] ^ last_bits[j, k])  # type: ignore[call-arg]
            if distance < least:
                least, nearest[i] = distance, j
