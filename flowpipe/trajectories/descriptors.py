"""HOG, HOF and MBH along tracks, from sliding sums of orientation histograms.

Histograms: Dalal and Triggs (2005), Laptev et al. (2008), Dalal et al. (2006); cells, bins and
normalisation as in the released DT and iDT programs (RootSIFT: L1, then the square root, over the
cells of one frame; then the mean over the frames of a temporal cell).

The programs hold an integral image per bin. Here a level is swept once from top to bottom: per
column a histogram of the last rows, as many as a cell is high, is kept up to date (what enters and
what leaves), and a track whose cell ends in the row adds up its columns. That touches a few rows of
memory in place of four integral images, and has none of their rounding.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe.trajectories.parameters import GRADIENT_BINS, TrajectoryParameters
from flowpipe.trajectories.pyramid import FASTMATH, Grey, Level, Plane
from flowpipe.trajectories.tracking import TrackList

_BINS = GRADIENT_BINS
_COLUMN = 4 * _BINS
"""A column's histogram: HOG, HOF without its zero bin, MBHx, MBHy."""

_DEGREES = np.float32(180 / np.pi)
_ATAN = np.array(
    [0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128],
    np.float32,
)
"""Odd polynomial of ``cv2.fastAtan2``, whose error (0.01 degree) the programs share."""


class Describer:
    """Adds one frame's histograms to the tracks of one scale; holds its buffers.

    Parameters
    ----------
    level
        The scale.
    parameters
        Of the trajectories.
    """

    def __init__(self, level: Level, parameters: TrajectoryParameters) -> None:
        self._size, self._cells = parameters.patch_size, parameters.nxy_cell
        self._epsilon = np.float32(parameters.epsilon)
        self._min_flow = np.float32(parameters.min_flow)
        self._frames_per_cell = parameters.track_length // parameters.nt_cell
        side, width = self._size // self._cells, level.width
        self._columns = np.empty((width, _COLUMN), np.float32)
        self._still = np.empty(width, np.float32)
        self._bins = np.empty((side, 4, width), np.int32)
        self._shares = np.empty((side, 8, width), np.float32)
        self._gone = np.empty((side, width), np.float32)
        self._gradient = np.empty((2, width), np.float32)
        self._first = np.empty(level.height + 2, np.int64)
        self._grow(256)

    def _grow(self, tracks: int) -> None:
        self._order = np.empty(tracks, np.int64)
        self._corners = np.empty((tracks, 2), np.int64)
        self._sums = np.empty((tracks, self._cells**2, _COLUMN), np.float32)
        self._stills = np.empty((tracks, self._cells**2), np.float32)

    def add(self, grey: Grey, flow: Plane, tracks: TrackList) -> None:
        """Describe the step that the tracks have just made, around where it began.

        Parameters
        ----------
        grey
            (h, w) uint8, the frame before the step.
        flow
            (2, h, w) float32, the step's flow, for iDT without the camera's motion.
        tracks
            The live tracks, advanced by the step and not yet counted as older.
        """
        slots = tracks.slots
        if len(slots) > len(self._order):
            self._grow(2 * len(slots))
        place_regions(
            slots,
            tracks.points,
            tracks.ages,
            self._size,
            grey.shape[0],
            grey.shape[1],
            self._order,
            self._corners,
            self._first,
        )
        sweep_level(
            grey,
            flow,
            self._min_flow,
            self._cells,
            self._order,
            self._corners,
            self._first,
            self._columns,
            self._still,
            self._bins,
            self._shares,
            self._gone,
            self._gradient,
            self._sums,
            self._stills,
        )
        add_normalised(
            slots,
            tracks.ages,
            self._frames_per_cell,
            self._sums,
            self._stills,
            self._epsilon,
            tracks.descriptors,
        )


def descriptor_columns(parameters: TrajectoryParameters) -> dict[str, NDArray[np.int64]]:
    """Where each descriptor's numbers are in a temporal cell of a live track.

    A live track holds each spatial cell's column histograms, then the zero bins of all cells.
    """
    cells = np.arange(parameters.nxy_cell**2)
    names = ("hog", "hof", "mbhx", "mbhy")
    columns = {
        name: _COLUMN * cells[:, None] + _BINS * k + np.arange(_BINS)
        for k, name in enumerate(names)
    }
    zero = _COLUMN * len(cells) + cells
    columns["hof"] = np.hstack([columns["hof"], zero[:, None]])
    return {name: index.ravel() for name, index in columns.items()}


_kernel = njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")


@_kernel
def place_regions(slots, points, ages, size, height, width, order, corners, first):  # type: ignore[no-untyped-def]
    """Upper left corners of the tracks' regions, and the tracks sorted by their upper row.

    Tracks ``order[first[y] : first[y + 1]]`` begin in row y. A region is shifted into the image.
    """
    first[:] = 0
    for i in range(slots.size):
        px, py = points[slots[i], ages[slots[i]]]
        corners[i, 0] = min(max(int(np.rint(px)) - size // 2, 0), width - size)
        corners[i, 1] = min(max(int(np.rint(py)) - size // 2, 0), height - size)
        first[corners[i, 1] + 2] += 1
    for y in range(2, first.size):
        first[y] += first[y - 1]
    for i in range(slots.size):
        y = corners[i, 1]
        order[first[y + 1]] = i
        first[y + 1] += 1


@_kernel
def differences(left, right, above, below, dx, dy):  # type: ignore[no-untyped-def]
    """Differences across a row without its first and last pixel."""
    for x in range(dx.size):
        dx[x] = np.float32(right[x]) - np.float32(left[x])
    for x in range(dy.size):
        dy[x] = np.float32(below[x]) - np.float32(above[x])


@_kernel
def gradient_row(image, y, out):  # type: ignore[no-untyped-def]
    """[-1 0 1] along x and y with mirrored borders (101), which is 0 across a border."""
    height, width = image.shape
    row = image[y]
    above, below = image[abs(y - 1)], image[min(y + 1, 2 * height - 3 - y)]
    differences(row[: width - 2], row[2:], above, below, out[0, 1 : width - 1], out[1])
    out[0, 0] = out[0, width - 1] = 0


@_kernel
def polar(dx, dy, angle, magnitude):  # type: ignore[no-untyped-def]
    """Angle as a position among the bins (0..8) and magnitude."""
    to_bin = np.float32(_BINS / 360) * _DEGREES
    p1, p3, p5, p7 = _ATAN[0] * to_bin, _ATAN[1] * to_bin, _ATAN[2] * to_bin, _ATAN[3] * to_bin
    quarter, half, full = np.float32(_BINS / 4), np.float32(_BINS / 2), np.float32(_BINS)
    for x in range(dx.size):
        u, v = dx[x], dy[x]
        au, av = abs(u), abs(v)
        ratio = min(au, av) / (max(au, av) + np.float32(2.2e-16))
        square = ratio * ratio
        a = (((p7 * square + p5) * square + p3) * square + p1) * ratio
        a = quarter - a if av > au else a
        a = half - a if u < 0 else a
        angle[x] = full - a if v < 0 else a
        magnitude[x] = np.sqrt(u * u + v * v)


@_kernel
def split_bins(angle, magnitude, bins):  # type: ignore[no-untyped-def]
    """Lower bin of each pixel; the upper bin's share replaces the angle, the lower's the rest."""
    for x in range(angle.size):
        bins[x] = np.int32(angle[x])
    for x in range(angle.size):
        angle[x] = magnitude[x] * (angle[x] - np.floor(angle[x]))
    for x in range(angle.size):
        magnitude[x] -= angle[x]
    for x in range(angle.size):
        bins[x] &= _BINS - 1


@_kernel
def set_still(magnitude, angle, min_flow, still):  # type: ignore[no-untyped-def]
    """Mark pixels that hardly move; they count in the zero bin, and in no other."""
    for x in range(still.size):
        still[x] = np.float32(1) if magnitude[x] <= min_flow else np.float32(0)
    for x in range(still.size):
        magnitude[x] = np.float32(0) if magnitude[x] <= min_flow else magnitude[x]


@_kernel
def histogram_row(grey, flow, y, min_flow, gradient, bins, shares, still):  # type: ignore[no-untyped-def]
    """Bins and shares of a row's pixels for the four histograms."""
    for k in range(4):
        if k == 0:
            gradient_row(grey, y, gradient)
            polar(gradient[0], gradient[1], shares[1], shares[0])
        elif k == 1:
            polar(flow[0, y], flow[1, y], shares[3], shares[2])
            set_still(shares[2], shares[3], min_flow, still)
        else:
            gradient_row(flow[k - 2], y, gradient)
            polar(gradient[0], gradient[1], shares[2 * k + 1], shares[2 * k])
        split_bins(shares[2 * k + 1], shares[2 * k], bins[k])


@_kernel
def count_row(columns, bins, shares, sign):  # type: ignore[no-untyped-def]
    """Add a row's shares to the histograms of their columns, or take them off."""
    flat = columns.reshape(columns.size)
    for x in range(columns.shape[0]):
        for k in range(4):
            base = np.uint32(_COLUMN * x + _BINS * k)
            lower = np.uint32(bins[k, x])
            upper = (lower + np.uint32(1)) & np.uint32(_BINS - 1)
            flat[base + lower] += sign * shares[2 * k, x]
            flat[base + upper] += sign * shares[2 * k + 1, x]


@_kernel
def add_line(out, a, sign):  # type: ignore[no-untyped-def]
    """``out += sign * a``."""
    for x in range(out.size):
        out[x] += sign * a[x]


@_kernel
def add_eight(out, columns):  # type: ignore[no-untyped-def]
    """Add the first eight columns of a flat array of them."""
    n = _COLUMN
    for x in range(out.size):
        first = columns[x] + columns[x + n] + columns[x + 2 * n] + columns[x + 3 * n]
        second = columns[x + 4 * n] + columns[x + 5 * n] + columns[x + 6 * n] + columns[x + 7 * n]
        out[x] += first + second


@_kernel
def sum_columns(columns, first, count, out):  # type: ignore[no-untyped-def]
    """Sum of `count` columns' histograms in a flat array of them."""
    done = 0
    out[:] = 0
    while done + 8 <= count:
        add_eight(out, columns[_COLUMN * (first + done) :])
        done += 8
    while done < count:
        x = _COLUMN * (first + done)
        add_line(out, columns[x : x + _COLUMN], np.float32(1))
        done += 1


@_kernel
def sweep_level(  # type: ignore[no-untyped-def]
    grey,
    flow,
    min_flow,
    cells,
    order,
    corners,
    first,
    columns,
    still,
    bins,
    shares,
    gone,
    gradient,
    sums,
    stills,
):
    """Histogram of every cell of every region, ``sums[track, cell]`` and ``stills``.

    `columns` and `still` hold the histograms of the last rows, as many as a cell is high; `bins`,
    `shares` and `gone` what those rows have put there, to take it off when they leave.
    """
    side = bins.shape[0]
    flat = columns.reshape(columns.size)
    columns[:] = 0
    still[:] = 0
    for y in range(grey.shape[0]):
        k = y % side
        if y >= side:
            count_row(columns, bins[k], shares[k], np.float32(-1))
            add_line(still, gone[k], np.float32(-1))
        histogram_row(grey, flow, y, min_flow, gradient, bins[k], shares[k], gone[k])
        count_row(columns, bins[k], shares[k], np.float32(1))
        add_line(still, gone[k], np.float32(1))
        for cy in range(cells):
            top = y + 1 - (cy + 1) * side
            if top < 0:
                break
            for j in range(first[top], first[top + 1]):
                i = order[j]
                for cx in range(cells):
                    left = corners[i, 0] + cx * side
                    sum_columns(flat, left, side, sums[i, cx * cells + cy])
                    stills[i, cx * cells + cy] = still[left : left + side].sum()


@_kernel
def raise_bins(values, epsilon, totals):  # type: ignore[no-untyped-def]
    """Add epsilon to what is not below 0 but for rounding, and add it all to the totals."""
    for x in range(values.size):
        values[x] = max(values[x], np.float32(0)) + epsilon
    for x in range(values.size):
        totals[x] += values[x]


@_kernel
def add_roots(out, values, scale):  # type: ignore[no-untyped-def]
    """``out += sqrt(scale * values)``."""
    for x in range(out.size):
        out[x] += np.sqrt(scale[x] * values[x])


@_kernel
def add_normalised(slots, ages, frames_per_cell, sums, stills, epsilon, out):  # type: ignore[no-untyped-def]
    """Normalise one frame's histograms (L1, square root) and add them to the tracks' means."""
    nt, cells = out.shape[1], sums.shape[1]
    share = np.float32(1 / frames_per_cell)
    scale = np.empty(_COLUMN, np.float32)
    for i in range(slots.size):
        t = ages[slots[i]] // frames_per_cell
        if t >= nt:
            continue
        target = out[slots[i], t]
        scale[:] = 0
        for c in range(cells):
            raise_bins(sums[i, c], epsilon, scale)
        for k in range(4):
            total = scale[_BINS * k : _BINS * (k + 1)].sum()
            if k == 1:
                total += stills[i].sum() + cells * epsilon
            scale[_BINS * k : _BINS * (k + 1)] = share * share / total
        for c in range(cells):
            add_roots(target[_COLUMN * c : _COLUMN * (c + 1)], sums[i, c], scale)
            target[_COLUMN * cells + c] += np.sqrt((stills[i, c] + epsilon) * scale[_BINS])
