"""The loops of HOG, HOF and MBH along tracks, compiled by Numba; see `descriptors`."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from flowpipe._vectors import (
    FLOATS,
    INTEGERS,
    LANE,
    WORD,
    ZERO,
    kernel,
    memories,
    root_of,
    spread,
    total_of,
)
from flowpipe.trajectories.parameters import GRADIENT_BINS

BINS = GRADIENT_BINS
PAIR = 2
"""Descriptors per sweep: HOG and HOF, or MBHx and MBHy."""
COLUMN = PAIR * BINS
"""Length of the histograms of an image column: of one pair, HOF without its zero bin."""

_DEGREES = np.float32(180 / np.pi)
_ATAN = np.array(
    [0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128],
    np.float32,
)
"""Odd polynomial of ``cv2.fastAtan2``, with its error of 0.01 degree, as in the programs."""


@kernel
def place_regions(slots, points, ages, size, height, width, order, corners, first):  # type: ignore[no-untyped-def]
    """Find the upper left corners of the tracks' regions, and sort the tracks by their upper row.

    The regions of tracks ``order[first[y] : first[y + 1]]`` begin in row y. A region is shifted
    into the image.
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


@kernel
def differences(left, right, above, below, dx, dy):  # type: ignore[no-untyped-def]
    """Compute central differences along x, without the first and last pixel, and along y."""
    for x in range(dx.size):
        dx[x] = np.float32(right[x]) - np.float32(left[x])
    for x in range(dy.size):
        dy[x] = np.float32(below[x]) - np.float32(above[x])


@kernel
def gradient_row(image, y, out):  # type: ignore[no-untyped-def]
    """Apply [-1 0 1] along x and y with mirrored borders (101), where it is 0."""
    height, width = image.shape
    row = image[y]
    above, below = image[abs(y - 1)], image[min(y + 1, 2 * height - 3 - y)]
    differences(row[: width - 2], row[2:], above, below, out[0, 1 : width - 1], out[1])
    out[0, 0] = out[0, width - 1] = 0


@kernel
def split_row(dx, dy, least, bins, weights, small):  # type: ignore[no-untyped-def]
    """Compute the lower bin of each vector, and the weights of that bin and of the next.

    The weights of a pixel, which add up to the vector's length, are in `weights` with that of the
    even bin first. Vectors not longer than `least` have weights of 0, and 1 in `small`.
    """
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
        lower = np.int32(np.int32(whole) & np.int32(BINS - 1))
        odd = (lower & np.int32(1)) != 0
        length = np.sqrt(u * u + v * v)
        small[x] = np.int32(0) if length > least else np.int32(1)
        length = length if length > least else np.float32(0)
        above = length * (a - whole)
        below = length - above
        bins[x] = lower
        weights[np.uint64(2 * x)] = above if odd else below
        weights[np.uint64(2 * x + 1)] = below if odd else above


@kernel
def split_pixels(grey, flow, pair, y, min_flow, gradient, bins, weights, small):  # type: ignore[no-untyped-def]
    """Compute bins and weights of a row for one pair of descriptors: 0 HOG, HOF; 1 MBHx, MBHy."""
    any_length = np.float32(-1)
    if pair == 0:
        gradient_row(grey, y, gradient)
        split_row(gradient[0], gradient[1], any_length, bins[0], weights[0], small)
        split_row(flow[0, y], flow[1, y], min_flow, bins[1], weights[1], small)
    else:
        for k in range(2):
            gradient_row(flow[k], y, gradient)
            split_row(gradient[0], gradient[1], any_length, bins[k], weights[k], small)


@intrinsic
def _replace_row(typing, columns, masks, width, bins, weights, old_bins, old_weights):
    """Add the weights of a row to the histograms of its columns, and subtract those of an old row.

    All arrays are flat. The two weights of a pixel are repeated in a vector, of which the mask of
    its lower bin keeps two lanes: one addition for a whole histogram, where counting bin by bin
    would wait for memory.
    """
    index = numba.int64
    signature = numba.void(columns, masks, index, bins, weights, old_bins, old_weights)

    def generate(context, builder, signature, arguments):
        histograms, lanes, *rows = memories(
            context, builder, signature, arguments, 0, 1, 3, 4, 5, 6
        )
        width = arguments[2]

        def shares(bins, weights, at):
            lower = builder.sext(bins.load(at, LANE), WORD)
            mask = lanes.load(builder.mul(lower, WORD(BINS)), INTEGERS)
            both = spread(builder, weights.load(builder.mul(at, WORD(2)), WORD), BINS // 2)
            return builder.bitcast(builder.and_(builder.bitcast(both, INTEGERS), mask), FLOATS)

        with cgutils.for_range(builder, width) as loop:
            for k in range(PAIR):
                at = builder.add(loop.index, builder.mul(width, WORD(k)))
                place = builder.add(builder.mul(loop.index, WORD(COLUMN)), WORD(BINS * k))
                total = builder.fadd(histograms.load(place), shares(rows[0], rows[1], at))
                total = builder.fsub(total, shares(rows[2], rows[3], at))
                histograms.store(place, total)
        return context.get_dummy_value()

    return signature, generate


@kernel
def sum_integers(values):  # type: ignore[no-untyped-def]
    """Return the sum of a row of integers."""
    total = np.int32(0)
    for x in range(values.size):
        total += values[x]
    return total


@kernel
def replace_row(out, new, old):  # type: ignore[no-untyped-def]
    """Compute ``out += new - old``."""
    for x in range(out.size):
        out[x] += new[x] - old[x]


@intrinsic
def _sum_columns(typing, columns, first, count, out, place):
    """Write the sum of the histograms of `count` columns from `first` to `place` of `out`, flat.

    With loops over arrays the compiler would keep the sum in memory, not in registers. Even and odd
    columns are summed separately, since an addition waits for the one before it.
    """
    index = numba.int64
    signature = numba.void(columns, index, index, out, index)

    def generate(context, builder, signature, arguments):
        _, first, count, _, place = arguments
        source, target = memories(context, builder, signature, arguments, 0, 3)
        totals = [[cgutils.alloca_once_value(builder, ZERO) for _ in range(PAIR)] for _ in "ab"]

        def add(column, sums):
            at = builder.mul(column, WORD(COLUMN))
            for part, total in enumerate(sums):
                values = source.load(builder.add(at, WORD(BINS * part)))
                builder.store(builder.fadd(builder.load(total), values), total)

        pairs = builder.lshr(count, WORD(1))
        with cgutils.for_range(builder, pairs) as loop:
            column = builder.add(first, builder.shl(loop.index, WORD(1)))
            add(column, totals[0])
            add(builder.add(column, WORD(1)), totals[1])
        with cgutils.if_unlikely(builder, builder.trunc(count, ir.IntType(1))):
            add(builder.add(first, builder.shl(pairs, WORD(1))), totals[0])
        for part in range(PAIR):
            total = builder.fadd(*(builder.load(sums[part]) for sums in totals))
            target.store(builder.add(place, WORD(BINS * part)), total)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _add_roots(typing, sums, place, cells, epsilon, share, others, out, at):
    """Add the square roots of L1-normalized histograms to a track's mean; return the last factor.

    The histograms of `cells` cells begin at `place` of `sums`, their mean at `at` of `out`, both
    flat; `share` is the squared weight of a frame. `others` is the sum of the further bins that are
    normalized with the last histogram. Values below 0 are rounding errors, and count as 0.
    """
    index, single = numba.int64, numba.float32
    signature = single(sums, index, index, single, single, single, out, index)

    def generate(context, builder, signature, arguments):
        _, place, cells, epsilon, share, others, _, at = arguments
        source, target = memories(context, builder, signature, arguments, 0, 6)
        many = spread(builder, epsilon)

        def histogram(begin, cell, part):
            return builder.add(begin, builder.add(builder.mul(cell, WORD(COLUMN)), part))

        def counts(cell, part):
            values = source.load(histogram(place, cell, part))
            positive = builder.fcmp_ordered(">", values, ZERO)
            return builder.fadd(builder.select(positive, values, ZERO), many)

        parts, factors = [WORD(BINS * k) for k in range(PAIR)], []
        for part in parts:
            total = cgutils.alloca_once_value(builder, ZERO)
            with cgutils.for_range(builder, cells) as loop:
                builder.store(builder.fadd(builder.load(total), counts(loop.index, part)), total)
            factors.append(total_of(builder, builder.load(total)))
        factors[-1] = builder.fadd(factors[-1], others)
        factors = [builder.fdiv(share, total) for total in factors]
        for part, factor in zip(parts, factors, strict=True):
            factor = spread(builder, factor)
            with cgutils.for_range(builder, cells) as loop:
                mean = histogram(at, loop.index, part)
                value = root_of(builder, builder.fmul(factor, counts(loop.index, part)))
                target.store(mean, builder.fadd(target.load(mean), value))
        return factors[-1]

    return signature, generate


@kernel
def add_track(sums, place, zero_sums, pair, epsilon, share, out):  # type: ignore[no-untyped-def]
    """Normalize one frame's histograms (L1, square root) and add them to a track's mean."""
    cells, others = zero_sums.size, np.float32(0)
    if pair == 0:
        others = np.float32(sum_integers(zero_sums)) + np.float32(cells) * epsilon
    begin = COLUMN * cells
    factor: float = _add_roots(  # type: ignore[call-arg]
        sums, place, cells, epsilon, share, others, out, begin * pair
    )
    if pair == 0:
        for c in range(cells):
            zero_counts = np.float32(zero_sums[c])
            out[np.uint64(2 * begin + c)] += np.sqrt((zero_counts + epsilon) * factor)


@kernel
def sweep_level(  # type: ignore[no-untyped-def]
    grey,
    flow,
    pair,
    min_flow,
    cells,
    order,
    corners,
    first,
    columns,
    zero_counts,
    masks,
    bins,
    weights,
    small,
    gradient,
    sums,
    zero_sums,
    slots,
    ages,
    frames_per_cell,
    epsilon,
    out,
):
    """Add the normalized histograms of every cell of every region to the tracks' descriptors.

    One pair of descriptors per sweep, so that the columns fit into the L1 cache. `columns` and
    `zero_counts` hold the histograms of the last rows, as many as a cell is high; `bins`, `weights`
    and `small` what those rows added, to subtract it when they leave. `sums` and `zero_sums` are a
    ring of the tracks whose region has begun: few, so that it stays in the cache.
    """
    side = bins.shape[0] - 1
    height, width = grey.shape
    flat, flat_sums = columns.reshape(columns.size), sums.reshape(sums.size)
    flat_masks = masks.reshape(masks.size)
    nt, share = out.shape[1], np.float32(1 / frames_per_cell)
    reach, open_tracks = (cells - 1) * side + 1, 1
    for y in range(first.size - reach):
        open_tracks = max(open_tracks, first[y + reach] - first[y])
    columns[:] = 0
    zero_counts[:] = 0
    # rows above the first one subtract nothing
    bins[:] = 0
    weights[:] = 0
    small[:] = 0
    for y in range(height):
        new, old = y % (side + 1), (y + 1) % (side + 1)
        split_pixels(grey, flow, pair, y, min_flow, gradient, bins[new], weights[new], small[new])
        _replace_row(  # type: ignore[call-arg]
            flat, flat_masks, width,
            bins[new].reshape(PAIR * width), weights[new].reshape(2 * PAIR * width),
            bins[old].reshape(PAIR * width), weights[old].reshape(2 * PAIR * width),
        )  # fmt: skip
        if pair == 0:
            replace_row(zero_counts, small[new], small[old])
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
                    if pair == 0:
                        zero_sums[place, cell] = sum_integers(zero_counts[left : left + side])
                t = ages[slots[i]] // frames_per_cell
                if cy == cells - 1 and t < nt:
                    add_track(
                        flat_sums, place * cells**2 * COLUMN, zero_sums[place], pair, epsilon,
                        share * share, out[slots[i], t],
                    )  # fmt: skip
