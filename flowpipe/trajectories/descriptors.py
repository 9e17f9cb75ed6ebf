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

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from flowpipe.trajectories.farneback_loops import DistinctArrays
from flowpipe.trajectories.parameters import GRADIENT_BINS, TrajectoryParameters
from flowpipe.trajectories.pyramid import Grey, Level, Plane
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


_kernel = numba.njit(
    cache=True,
    nogil=True,
    fastmath={"contract", "reassoc", "nsz", "arcp"},
    error_model="numpy",
    pipeline_class=DistinctArrays,
)


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
def split_row(dx, dy, bins, lower, upper):  # type: ignore[no-untyped-def]
    """Lower bin of each vector, and the shares of its length in that bin and in the next."""
    to_bin = np.float32(_BINS / 360) * _DEGREES
    p1, p3, p5, p7 = _ATAN[0] * to_bin, _ATAN[1] * to_bin, _ATAN[2] * to_bin, _ATAN[3] * to_bin
    quarter, half, full = np.float32(_BINS / 4), np.float32(_BINS / 2), np.float32(_BINS)
    for x in range(bins.size):
        u, v = dx[x], dy[x]
        au, av = abs(u), abs(v)
        ratio = min(au, av) / (max(au, av) + np.float32(2.2e-16))
        square = ratio * ratio
        a = (((p7 * square + p5) * square + p3) * square + p1) * ratio
        a = quarter - a if av > au else a
        a = half - a if u < 0 else a
        a = full - a if v < 0 else a
        whole = np.floor(a)
        length = np.sqrt(u * u + v * v)
        bins[x] = np.int32(np.int32(whole) & np.int32(_BINS - 1))
        upper[x] = length * (a - whole)
        lower[x] = length - upper[x]


@_kernel
def set_still(lower, upper, dx, dy, min_flow, still):  # type: ignore[no-untyped-def]
    """Mark pixels that hardly move; they count in the zero bin, and in no other."""
    for x in range(still.size):
        length = np.sqrt(dx[x] * dx[x] + dy[x] * dy[x])
        moves = length > min_flow
        still[x] = np.float32(0) if moves else np.float32(1)
        lower[x] = lower[x] if moves else np.float32(0)
        upper[x] = upper[x] if moves else np.float32(0)


@_kernel
def histogram_row(grey, flow, y, min_flow, gradient, bins, shares, still):  # type: ignore[no-untyped-def]
    """Bins and shares of a row's pixels for the four histograms."""
    dx, dy = gradient[0], gradient[1]
    gradient_row(grey, y, gradient)
    split_row(dx, dy, bins[0], shares[0], shares[1])
    split_row(flow[0, y], flow[1, y], bins[1], shares[2], shares[3])
    set_still(shares[2], shares[3], flow[0, y], flow[1, y], min_flow, still)
    gradient_row(flow[0], y, gradient)
    split_row(dx, dy, bins[2], shares[4], shares[5])
    gradient_row(flow[1], y, gradient)
    split_row(dx, dy, bins[3], shares[6], shares[7])


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


@intrinsic
def _sum_columns(typing, columns, first, count, out, place):
    """Write the sum of `count` columns' histograms from `first` on to `place` of `out`, both flat.

    From loops over arrays the compiler would keep the sum in memory, not in registers.
    """
    index = numba.int64
    signature = numba.void(columns, index, index, out, index)

    def generate(context, builder, signature, arguments):
        _, first, count, _, place = arguments
        source, target = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in (0, 3)
        )
        kind = ir.VectorType(ir.FloatType(), _BINS)
        word = ir.IntType(64)
        parts = range(_COLUMN // _BINS)
        totals = [cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * _BINS)) for _ in parts]

        def vector(data, at, part):
            at = builder.add(at, word(_BINS * part))
            return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())

        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(builder.add(first, loop.index), word(_COLUMN))
            for part in parts:
                values = builder.load(vector(source, at, part))
                values.align = 4
                builder.store(builder.fadd(builder.load(totals[part]), values), totals[part])
        for part in parts:
            builder.store(builder.load(totals[part]), vector(target, place, part)).align = 4
        return context.get_dummy_value()

    return signature, generate


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
    flat, flat_sums = columns.reshape(columns.size), sums.reshape(sums.size)
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
                    left, cell = corners[i, 0] + cx * side, cx * cells + cy
                    _sum_columns(flat, left, side, flat_sums, (i * cells**2 + cell) * _COLUMN)
                    zero = np.float32(0)
                    for x in range(left, left + side):
                        zero += still[np.uint64(x)]
                    stills[i, cell] = zero


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
        add_track(sums[i], stills[i], epsilon, share * share, scale, out[slots[i], t])


@_kernel
def add_track(sums, stills, epsilon, share, scale, out):  # type: ignore[no-untyped-def]
    """Do so for one track; what is below 0 is so but for rounding."""
    cells = sums.shape[0]
    zero = np.float32(0)
    for x in range(_COLUMN):
        scale[x] = zero
    for c in range(cells):
        for x in range(_COLUMN):
            scale[x] += max(sums[c, x], zero) + epsilon
    for k in range(4):
        total = zero
        if k == 1:
            for c in range(cells):
                total += stills[c] + epsilon
        for x in range(_BINS):
            total += scale[np.uint64(_BINS * k + x)]
        total = share / total
        for x in range(_BINS):
            scale[np.uint64(_BINS * k + x)] = total
    for c in range(cells):
        for x in range(_COLUMN):
            at = np.uint64(_COLUMN * c + x)
            out[at] += np.sqrt(scale[x] * (max(sums[c, x], zero) + epsilon))
        out[_COLUMN * cells + c] += np.sqrt((stills[c] + epsilon) * scale[_BINS])
