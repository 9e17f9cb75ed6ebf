"""The loops of HOG, HOF and MBH along tracks, compiled by Numba; see `descriptors`."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from flowpipe.trajectories.farneback_loops import DistinctArrays
from flowpipe.trajectories.parameters import GRADIENT_BINS

BINS = GRADIENT_BINS
COLUMN = 4 * BINS
"""A column's histogram: HOG, HOF without its zero bin, MBHx, MBHy."""

_DEGREES = np.float32(180 / np.pi)
_ATAN = np.array(
    [0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128],
    np.float32,
)
"""Odd polynomial of ``cv2.fastAtan2``, whose error (0.01 degree) the programs share."""

# With reassociation or contraction allowed, code that Numba has just compiled rounds differently
# from the same code out of its cache: the first run on a machine gave other bytes than the next.
_kernel = numba.njit(
    cache=True,
    nogil=True,
    fastmath={"nsz"},
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
    to_bin = np.float32(BINS / 360) * _DEGREES
    p1, p3, p5, p7 = _ATAN[0] * to_bin, _ATAN[1] * to_bin, _ATAN[2] * to_bin, _ATAN[3] * to_bin
    quarter, half, full = np.float32(BINS / 4), np.float32(BINS / 2), np.float32(BINS)
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
        bins[x] = np.int32(np.int32(whole) & np.int32(BINS - 1))
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
            base = np.uint32(COLUMN * x + BINS * k)
            lower = np.uint32(bins[k, x])
            upper = (lower + np.uint32(1)) & np.uint32(BINS - 1)
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
        kind = ir.VectorType(ir.FloatType(), BINS)
        word = ir.IntType(64)
        parts = range(COLUMN // BINS)
        totals = [
            cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * BINS)) for _ in parts
        ]

        def vector(data, at, part):
            at = builder.add(at, word(BINS * part))
            return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())

        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(builder.add(first, loop.index), word(COLUMN))
            for part in parts:
                values = builder.load(vector(source, at, part))
                values.align = 4
                builder.store(builder.fadd(builder.load(totals[part]), values), totals[part])
        for part in parts:
            builder.store(builder.load(totals[part]), vector(target, place, part)).align = 4
        return context.get_dummy_value()

    return signature, generate


@_kernel
def add_track(sums, stills, epsilon, share, scale, out):  # type: ignore[no-untyped-def]
    """Normalise one frame's histograms (L1, square root) and add them to a track's mean.

    What is below 0 is so but for rounding.
    """
    cells = sums.shape[0]
    zero = np.float32(0)
    for x in range(COLUMN):
        scale[x] = zero
    for c in range(cells):
        for x in range(COLUMN):
            scale[x] += max(sums[c, x], zero) + epsilon
    for k in range(4):
        total = zero
        if k == 1:
            for c in range(cells):
                total += stills[c] + epsilon
        for x in range(BINS):
            total += scale[np.uint64(BINS * k + x)]
        total = share / total
        for x in range(BINS):
            scale[np.uint64(BINS * k + x)] = total
    for c in range(cells):
        for x in range(COLUMN):
            at = np.uint64(COLUMN * c + x)
            out[at] += np.sqrt(scale[x] * (max(sums[c, x], zero) + epsilon))
        out[COLUMN * cells + c] += np.sqrt((stills[c] + epsilon) * scale[BINS])


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
    scale,
    slots,
    ages,
    frames_per_cell,
    epsilon,
    out,
):
    """Add the normalised histograms of every cell of every region to the tracks' descriptors.

    `columns` and `still` hold the histograms of the last rows, as many as a cell is high; `bins`,
    `shares` and `gone` what those rows have put there, to take it off when they leave. `sums` and
    `stills` are a ring of the tracks whose region has begun: few, so that it stays in the cache.
    """
    side = bins.shape[0]
    flat, flat_sums = columns.reshape(columns.size), sums.reshape(sums.size)
    nt, share = out.shape[1], np.float32(1 / frames_per_cell)
    reach, open_tracks = (cells - 1) * side + 1, 1
    for y in range(first.size - reach):
        open_tracks = max(open_tracks, first[y + reach] - first[y])
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
                i, place = order[j], j % open_tracks
                for cx in range(cells):
                    left, cell = corners[i, 0] + cx * side, cx * cells + cy
                    _sum_columns(  # type: ignore[call-arg]
                        flat, left, side, flat_sums, (place * cells**2 + cell) * COLUMN
                    )
                    zero = np.float32(0)
                    for x in range(left, left + side):
                        zero += still[np.uint64(x)]
                    stills[place, cell] = zero
                t = ages[slots[i]] // frames_per_cell
                if cy == cells - 1 and t < nt:
                    add_track(
                        sums[place], stills[place], epsilon, share * share, scale, out[slots[i], t]
                    )
