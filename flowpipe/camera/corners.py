"""Measure corner strength, and find the strongest corners.

J. Shi and C. Tomasi, "Good features to track", CVPR 1994: the smaller eigenvalue of the gradient's
autocorrelation over 3x3 pixels, from 3x3 Sobel derivatives. The numbers are those of
``cv2.cornerMinEigenVal`` (block and aperture 3) but for rounding: sums of products of derivatives
of uint8 are whole numbers below 2**24 here, exact in float32, and so is everything before the
eigenvalue. The corners are those of ``cv2.goodFeaturesToTrack``.

OpenCV's two functions take 1.49 ms per frame of 320x240 with all its scales, this 1.09 ms: one pass
gives both the map that trajectories are sampled from and its corners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe._vectors import kernel

_SCALE = np.float32((1 / (4 * 3 * 255)) ** 2)
"""OpenCV's unit: means over Sobel's weights and the block's pixels, grey levels in 0..1."""
_DISTANCE = 3
"""Smallest distance of two corners in pixels."""


class CornerStrength:
    """Measure the smaller eigenvalues of frames of one size, with reused buffers.

    Parameters
    ----------
    height, width
        Size of the frames, at least 2.

    Attributes
    ----------
    strength
        (height, width) float32, the eigenvalues of the last frame.
    largest
        The largest of them.
    """

    def __init__(self, height: int, width: int) -> None:
        self.strength = np.zeros((height, width), np.float32)
        self.largest = 0.0
        self._lines = np.empty((5, width + 2), np.int32)
        self._ring = np.empty((3, 3, width), np.int32)
        self._peaks = np.empty(width, np.float32)
        self._keys = np.empty(0, np.uint64)
        self._cells = np.empty((0, 0, 4), np.int32)

    def measure(self, grey: Grey) -> None:
        """Measure a (height, width) uint8 frame."""
        least_eigenvalues(grey, self._lines, self._ring, self._peaks, self.strength)
        self.largest = float(self._peaks.max())

    def strongest(self, mask: NDArray[np.uint8] | None, most: int, quality: float) -> Plane:
        """Return the corners of the last frame, strongest first.

        Parameters
        ----------
        mask
            (height, width) uint8, 0 where corners are ignored, or None.
        most
            Largest number of corners.
        quality
            Smallest strength, as a fraction of the largest within the mask.

        Returns
        -------
        (n, 2) float32 x, y, at least 3 pixels apart.
        """
        height, width = self.strength.shape
        if not self._keys.size:
            self._keys = np.empty(height * width, np.uint64)
            rows, columns = -(-height // _DISTANCE), -(-width // _DISTANCE)
            self._cells = np.empty((rows, columns), np.int32)
        largest = self.largest
        if mask is None:
            mask = np.empty((0, width), np.uint8)
        else:
            largest = float(self.strength[mask != 0].max(initial=0))
        count = find_peaks(self.strength, mask, np.float32(quality * largest), self._keys)
        keys = np.sort(self._keys[:count])
        corners = np.empty((min(most, count), 2), np.float32)
        return corners[: suppress_neighbors(keys, width, self._cells, corners)]


def measure_corners(pyramid: list[Grey], out: list[CornerStrength]) -> None:
    """Measure every scale of a frame."""
    for grey, corners in zip(pyramid, out, strict=True):
        corners.measure(grey)


@kernel
def sums_of_column(above, here, below, smooth, change):  # type: ignore[no-untyped-def]
    """Sum over three rows with weights 1 2 1 and -1 0 1."""
    for x in range(here.size):
        a, b = np.int32(above[x]), np.int32(below[x])
        smooth[x] = a + np.int32(2) * np.int32(here[x]) + b
        change[x] = b - a


@kernel
def products(smooth, change, xx, xy, yy):  # type: ignore[no-untyped-def]
    """Multiply the derivatives; `smooth` and `change` have one more pixel on each side."""
    for x in range(xx.size):
        dx = smooth[x + 2] - smooth[x]
        dy = change[x] + np.int32(2) * change[x + 1] + change[x + 2]
        xx[x], xy[x], yy[x] = dx * dx, dx * dy, dy * dy


@kernel
def sums_of_three(line, out):  # type: ignore[no-untyped-def]
    """Sum three neighbours; `line` has one more pixel on each side."""
    for x in range(out.size):
        out[x] = line[x] + line[x + 1] + line[x + 2]


@kernel
def eigenvalues(first, second, third, strength, peaks):  # type: ignore[no-untyped-def]
    """Compute the smaller eigenvalues of a row, and the largest so far in each column."""
    half = np.float32(0.5)
    for x in range(strength.size):
        xx = np.float32(first[0, x] + second[0, x] + third[0, x]) * half
        xy = np.float32(first[1, x] + second[1, x] + third[1, x])
        yy = np.float32(first[2, x] + second[2, x] + third[2, x]) * half
        value = (xx + yy - np.sqrt((xx - yy) * (xx - yy) + xy * xy)) * _SCALE
        strength[x] = value
        peaks[x] = value if value > peaks[x] else peaks[x]


@kernel
def least_eigenvalues(grey, lines, ring, peaks, strength):  # type: ignore[no-untyped-def]
    """Compute the smaller eigenvalue of every pixel, borders mirrored (101)."""
    height, width = grey.shape
    peaks[:] = 0
    for step in range(height + 1):
        if step < height:
            sums_of_column(
                grey[abs(step - 1)], grey[step], grey[min(step + 1, 2 * height - 3 - step)],
                lines[0, 1 : width + 1], lines[1, 1 : width + 1],
            )  # fmt: skip
            mirror_ends(lines, 0, 2)
            products(
                lines[0], lines[1],
                lines[2, 1 : width + 1], lines[3, 1 : width + 1], lines[4, 1 : width + 1],
            )  # fmt: skip
            mirror_ends(lines, 2, 5)
            for k in range(3):
                sums_of_three(lines[2 + k], ring[step % 3, k])
        y = step - 1
        if y >= 0:
            above, below = abs(y - 1), min(y + 1, 2 * height - 3 - y)
            eigenvalues(ring[above % 3], ring[y % 3], ring[below % 3], strength[y], peaks)


@kernel
def mirror_ends(lines, first, last):  # type: ignore[no-untyped-def]
    """Mirror each line at its ends."""
    end = lines.shape[1] - 1
    for k in range(first, last):
        lines[k, 0], lines[k, end] = lines[k, 2], lines[k, end - 2]


@kernel
def find_peaks(strength, mask, threshold, keys):  # type: ignore[no-untyped-def]
    """Write strength and position of all local maxima above the threshold as sortable numbers.

    The border is excluded. A mask without rows stands for none.
    """
    height, width = strength.shape
    bits = strength.view(np.uint32)
    count = 0
    for y in range(1, height - 1):
        above, here, below = strength[y - 1], strength[y], strength[y + 1]
        for x in range(np.uint64(1), np.uint64(width - 1)):
            value = here[x]
            if value <= threshold or (mask.shape[0] and mask[y, x] == 0):
                continue
            left, right = x - np.uint64(1), x + np.uint64(1)
            if (
                value >= here[left]
                and value >= here[right]
                and value >= above[x]
                and value >= below[x]
                and value >= above[left]
                and value >= above[right]
                and value >= below[left]
                and value >= below[right]
            ):
                keys[count] = (np.uint64(bits[y, x]) << np.uint64(32)) | np.uint64(y * width + x)
                count += 1
    return count


@kernel
def suppress_neighbors(keys, width, cells, corners):  # type: ignore[no-untyped-def]
    """Select corners from the last key on, at least `_DISTANCE` apart; return their number.

    A cell of that side holds at most one corner: its position, or -1.
    """
    rows, columns = cells.shape
    cells[:] = -1
    count = 0
    for i in range(keys.size - 1, -1, -1):
        if count == corners.shape[0]:
            break
        place = np.int64(keys[i] & np.uint64(0xFFFFFFFF))
        y, x = place // width, place % width
        row, column = y // _DISTANCE, x // _DISTANCE
        free = True
        for r in range(max(row - 1, 0), min(row + 2, rows)):
            for c in range(max(column - 1, 0), min(column + 2, columns)):
                taken = np.int64(cells[r, c])
                if taken >= 0:
                    dy, dx = taken // width - y, taken % width - x
                    free = free and dx * dx + dy * dy >= _DISTANCE * _DISTANCE
        if free:
            cells[row, column] = place
            corners[count, 0], corners[count, 1] = x, y
            count += 1
    return count
