"""The loops of Farneback's flow, compiled by Numba: vector code, few passes over memory.

Rows are padded to whole vectors of `LANES` pixels, so that loops need no remainder. The expansion
stores the five numbers of a pixel together: each of the four pixels around a position is one
vector, and interpolation is one operation for all five numbers; eight interpolated pixels are then
transposed into five vectors of eight.

Sums are neither fused nor reordered: numbers are added in the written order, three pairs of taps at
a time, so that the flow does not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from flowpipe._vectors import (
    FLOATS,
    LANE,
    LANES,
    WORD,
    ZERO,
    kernel,
    memories,
    spread,
    transposed,
)

NUMBERS = 8
"""Floats per pixel of an expansion: five, and three unused."""
TERMS = 5
TOGETHER = 2
"""Rows that are blurred together, so that each row of the ring is read less often."""

_ONE, _HALF = np.float32(1), np.float32(0.5)
_REGULARISATION = np.float32(1e-3)


@intrinsic
def _mix_eight(typing, first, begin, second, below, places, weights, terms, pitch, x):
    """Combine pixels x to x + 7 of the first expansion with the interpolated second one.

    Writes ``first - second`` of the gradient and ``first + second`` of the other terms to `terms`;
    all arrays are flat. `first` is read from `begin`; the second at `places` and one pixel to the
    right, and both again `below` floats further. `pitch` is the distance of the four rows of
    `weights` and of `terms`.
    """
    index = numba.int64
    signature = numba.void(first, index, second, index, places, weights, terms, index, index)

    def generate(context, builder, signature, arguments):
        _, begin, _, below, _, _, _, pitch, x = arguments
        one, two, place, weight, target = memories(
            context, builder, signature, arguments, 0, 2, 4, 5, 6
        )
        sign = ir.Constant(FLOATS, [-1.0] * 2 + [1.0] * 6)
        pixels = []
        for i in range(LANES):
            at = builder.add(x, WORD(i))
            corner = builder.sext(place.load(at, LANE), WORD)
            total = None
            for k, offset in enumerate(
                (WORD(0), WORD(NUMBERS), below, builder.add(below, WORD(NUMBERS)))
            ):
                share = weight.load(builder.add(at, builder.mul(pitch, WORD(k))), ir.FloatType())
                pixel = two.load(builder.add(corner, offset))
                product = builder.fmul(spread(builder, share), pixel)
                total = product if total is None else builder.fadd(total, product)
            own = one.load(builder.add(begin, builder.mul(at, WORD(NUMBERS))))
            pixels.append(builder.fadd(own, builder.fmul(total, sign)))
        for k, values in enumerate(transposed(builder, pixels)[:TERMS]):
            target.store(builder.add(x, builder.mul(pitch, WORD(k))), values)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _interleave_eight(typing, terms, pitch, x, out, begin):
    """Transpose the five rows of `terms` at pixels x to x + 7 into eight pixels of `out`."""
    index = numba.int64
    signature = numba.void(terms, index, index, out, index)

    def generate(context, builder, signature, arguments):
        _, pitch, x, _, begin = arguments
        source, target = memories(context, builder, signature, arguments, 0, 3)
        rows = [source.load(builder.add(x, builder.mul(pitch, WORD(k)))) for k in range(TERMS)]
        rows += [ZERO] * (NUMBERS - TERMS)
        for i, values in enumerate(transposed(builder, rows)):
            target.store(builder.add(begin, WORD(NUMBERS * i)), values)
        return context.get_dummy_value()

    return signature, generate


@kernel
def find_places(flow_x, flow_y, y, height, width, pitch, places, weights, share):  # type: ignore[no-untyped-def]
    """Find the pixels that the flow of row y leads to, and their bilinear weights.

    Outside the image the weights are 0. `share` is the weight of the first expansion: 1 there, and
    one half inside.
    """
    right, bottom = np.float32(width - 1), np.float32(height - 1)
    zero, row = np.float32(0), np.float32(y)
    line = np.int32(pitch)
    w00, w01, w10, w11 = weights[0], weights[1], weights[2], weights[3]
    for x in range(width):
        across, down = np.float32(np.int32(x)) + flow_x[x], row + flow_y[x]
        left, top = np.floor(across), np.floor(down)
        # written so that a NaN is outside
        inside = (left >= zero) & (left < right) & (top >= zero) & (top < bottom)
        ax, ay = across - left, down - top
        bx, by = _ONE - ax, _ONE - ay
        w00[x] = bx * by if inside else zero
        w01[x] = ax * by if inside else zero
        w10[x] = bx * ay if inside else zero
        w11[x] = ax * ay if inside else zero
        share[x] = _HALF if inside else _ONE
        left, top = left if inside else zero, top if inside else zero
        places[x] = np.int32(np.int32(np.int32(top) * line) + np.int32(np.int32(left) * NUMBERS))


@kernel
def mix_row(first, begin, second, pitch, places, weights, terms, size):  # type: ignore[no-untyped-def]
    """Combine a row of the first expansion with the interpolated second one."""
    for x in range(0, size, LANES):
        _mix_eight(first, begin, second, pitch, places, weights, terms, size, x)  # type: ignore[call-arg]


@kernel
def normal_equations(terms, share, flow_x, flow_y, weight_x, weight_y, out):  # type: ignore[no-untyped-def]
    """Write the five distinct numbers of A'A and A'b of each pixel of a row."""
    g0, g1, t0, t1, t2 = terms[0], terms[1], terms[2], terms[3], terms[4]
    m0, m1, m2, m3, m4 = out[0], out[1], out[2], out[3], out[4]
    for x in range(flow_x.size):
        weight = weight_x[x] * weight_y
        yy, xx = weight * (t0[x] * share[x]), weight * (t1[x] * share[x])
        xy = weight * (t2[x] * (share[x] * _HALF))
        gy = weight * (g0[x] * _HALF) + xy * flow_x[x] + yy * flow_y[x]
        gx = weight * (g1[x] * _HALF) + xx * flow_x[x] + xy * flow_y[x]
        m0[x] = yy * yy + xy * xy
        m1[x] = yy * xy + xx * xy
        m2[x] = xx * xx + xy * xy
        m3[x] = yy * gy + xy * gx
        m4[x] = xy * gy + xx * gx


@cache
def refinement(radius: int) -> Callable[..., Any]:
    """Compile the iterations of the flow for a window radius."""

    @kernel
    def blur_rows(ring, offsets, taps, size, out, pitch):  # type: ignore[no-untyped-def]
        """Blur TOGETHER rows across the rows of the ring that begin at `offsets`."""
        for x in range(size):
            for row in range(TOGETHER):
                middle = row + radius
                total = taps[0] * ring[offsets[middle] + np.uint64(x)]
                for k in range(1, radius + 1, 3):
                    part = np.float32(0)
                    for j in range(k, min(k + 3, radius + 1)):
                        after = ring[offsets[middle + j] + np.uint64(x)]
                        part += taps[j] * (after + ring[offsets[middle - j] + np.uint64(x)])
                    total += part
                out[np.uint64(row * pitch + x)] = total

    @kernel
    def blur(line, taps, x):  # type: ignore[no-untyped-def]
        """Return the blurred pixel x of a line, which is at x + radius."""
        total = taps[0] * line[x + radius]
        for k in range(1, radius + 1, 3):
            part = np.float32(0)
            for j in range(k, min(k + 3, radius + 1)):
                part += taps[j] * (line[x + radius + j] + line[x + radius - j])
            total += part
        return total

    @kernel
    def solve_row(a, b, c, d, e, taps, flow_x, flow_y):  # type: ignore[no-untyped-def]
        """Blur the equations along x and solve them."""
        for x in range(flow_x.size):
            g11, g12, g22 = blur(a, taps, x), blur(b, taps, x), blur(c, taps, x)
            h1, h2 = blur(d, taps, x), blur(e, taps, x)
            inverse = _ONE / (g11 * g22 - g12 * g12 + _REGULARISATION)
            flow_x[x] = (g11 * h2 - g12 * h1) * inverse
            flow_y[x] = (g22 * h1 - g12 * h2) * inverse

    @kernel
    def refine_level(  # type: ignore[no-untyped-def]
        first, second, weights_y, weights_x, taps, places, weights, share, terms, ring, lines, flow
    ):
        """Run all iterations of the flow of a level, in place and in one sweep over the rows.

        The equations of a row are computed from the old flow `radius` rows before the new flow is
        written; each iteration is `radius` rows behind the one before, so that it finds its rows in
        the cache. `places` to `lines` are buffers; `ring` holds the equations of the rows in the
        window of each iteration, `lines` those of a row blurred along y, with repeated ends.
        """
        height, width = flow.shape[1:]
        iterations, window, _, size = ring.shape
        pitch = size * NUMBERS
        offsets = np.empty(2 * radius + TOGETHER, np.uint64)
        flat_first, flat_second = first.reshape(first.size), second.reshape(second.size)
        flat_weights, flat_terms = weights.reshape(weights.size), terms.reshape(terms.size)
        flat_ring = ring.reshape(ring.size)
        for step in range(0, height + iterations * radius, TOGETHER):
            for t in range(iterations):
                ahead = step - t * radius
                for y in range(max(ahead, 0), min(ahead + TOGETHER, height)):
                    flow_x, flow_y = flow[0, y], flow[1, y]
                    find_places(flow_x, flow_y, y, height, width, pitch, places, weights, share)
                    mix_row(
                        flat_first, y * pitch, flat_second, pitch, places,
                        flat_weights, flat_terms, size,
                    )  # fmt: skip
                    normal_equations(
                        terms, share, flow_x, flow_y, weights_x, weights_y[y], ring[t, y % window]
                    )
                begin = ahead - radius
                if begin + TOGETHER <= 0 or begin >= height:
                    continue
                for k in range(2 * radius + TOGETHER):
                    row = min(max(begin + k - radius, 0), height - 1) % window
                    offsets[k] = (t * window + row) * TERMS * size
                for k in range(TERMS):
                    line = lines[k]
                    blur_rows(
                        flat_ring[k * size :], offsets, taps, width,
                        line.reshape(line.size)[radius:], line.shape[1],
                    )  # fmt: skip
                    for row in range(TOGETHER):
                        line[row, :radius] = line[row, radius]
                        line[row, radius + width : 2 * radius + width] = line[
                            row, radius + width - 1
                        ]
                for row in range(max(-begin, 0), min(TOGETHER, height - begin)):
                    y = begin + row
                    solve_row(
                        lines[0, row], lines[1, row], lines[2, row], lines[3, row], lines[4, row],
                        taps, flow[0, y], flow[1, y],
                    )  # fmt: skip

    return refine_level


@cache
def expansion(radius: int) -> Callable[..., Any]:
    """Compile the polynomial expansion for a radius."""

    @kernel
    def moment_rows(image, rows, taps, width, one, y1, y2):  # type: ignore[no-untyped-def]
        """Sum over rows of the image, weighted with 1, the offset and its square."""
        for x in range(width):
            middle = image[rows[radius], x]
            even, odd, square = taps[0, 0] * middle, taps[1, 0] * middle, taps[2, 0] * middle
            for k in range(1, radius + 1, 3):
                e, o, s = np.float32(0), np.float32(0), np.float32(0)
                for j in range(k, min(k + 3, radius + 1)):
                    after, before = image[rows[radius + j], x], image[rows[radius - j], x]
                    both, change = after + before, after - before
                    e += taps[0, j] * both
                    o += taps[1, j] * change
                    s += taps[2, j] * both
                even += e
                odd += o
                square += s
            one[x], y1[x], y2[x] = even, odd, square

    @kernel
    def three_sums(line, taps, one, x1, x2):  # type: ignore[no-untyped-def]
        """Sum along a line, weighted with 1, the offset and its square."""
        for x in range(one.size):
            middle = line[x + radius]
            even, odd, square = taps[0, 0] * middle, taps[1, 0] * middle, taps[2, 0] * middle
            for k in range(1, radius + 1, 3):
                e, o, s = np.float32(0), np.float32(0), np.float32(0)
                for j in range(k, min(k + 3, radius + 1)):
                    after, before = line[x + radius + j], line[x + radius - j]
                    both, change = after + before, after - before
                    e += taps[0, j] * both
                    o += taps[1, j] * change
                    s += taps[2, j] * both
                even += e
                odd += o
                square += s
            one[x], x1[x], x2[x] = even, odd, square

    @kernel
    def two_sums(line, taps, one, x1):  # type: ignore[no-untyped-def]
        """Sum along a line, weighted with 1 and the offset."""
        for x in range(one.size):
            middle = line[x + radius]
            even, odd = taps[0, 0] * middle, taps[1, 0] * middle
            for k in range(1, radius + 1, 3):
                e, o = np.float32(0), np.float32(0)
                for j in range(k, min(k + 3, radius + 1)):
                    after, before = line[x + radius + j], line[x + radius - j]
                    e += taps[0, j] * (after + before)
                    o += taps[1, j] * (after - before)
                even += e
                odd += o
            one[x], x1[x] = even, odd

    @kernel
    def solve_row(one, x1, x2, y1, y1x1, line, taps, scale, terms):  # type: ignore[no-untyped-def]
        """Compute gradient and second-order terms from the sums, with those of y squared."""
        gradient, constant, square, mixed = scale[0], scale[1], scale[2], scale[3]
        out0, out1, out2, out3, out4 = terms[0], terms[1], terms[2], terms[3], terms[4]
        for x in range(one.size):
            y2 = taps[0, 0] * line[x + radius]
            for k in range(1, radius + 1, 3):
                e = np.float32(0)
                for j in range(k, min(k + 3, radius + 1)):
                    e += taps[0, j] * (line[x + radius + j] + line[x + radius - j])
                y2 += e
            out0[x] = y1[x] * gradient
            out1[x] = x1[x] * gradient
            out2[x] = one[x] * constant + y2 * square
            out3[x] = one[x] * constant + x2[x] * square
            out4[x] = y1x1[x] * mixed

    @kernel
    def interleave(terms, pitch, out, begin):  # type: ignore[no-untyped-def]
        """Store the terms of each pixel of a row side by side."""
        for x in range(0, pitch, LANES):
            _interleave_eight(terms, pitch, x, out, begin + NUMBERS * x)  # type: ignore[call-arg]

    @kernel
    def expand_level(image, taps, scale, moments, sums, terms, out):  # type: ignore[no-untyped-def]
        """Expand one smoothed level; `moments` to `terms` are buffers."""
        height, width = image.shape
        size = terms.shape[1]
        rows = np.empty(2 * radius + 1, np.uint64)
        flat_terms, flat = terms.reshape(terms.size), out.reshape(out.size)
        for y in range(height):
            for k in range(2 * radius + 1):
                rows[k] = min(max(y + k - radius, 0), height - 1)
            moment_rows(
                image, rows, taps, width,
                moments[0, radius:], moments[1, radius:], moments[2, radius:],
            )  # fmt: skip
            for k in range(3):
                moments[k, :radius] = moments[k, radius]
                moments[k, radius + width :] = moments[k, radius + width - 1]
            three_sums(moments[0], taps, sums[0], sums[1], sums[2])
            two_sums(moments[1], taps, sums[3], sums[4])
            solve_row(sums[0], sums[1], sums[2], sums[3], sums[4], moments[2], taps, scale, terms)
            interleave(flat_terms, size, flat, size * NUMBERS * y)

    return expand_level
