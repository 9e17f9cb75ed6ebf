"""Cut a crop out of grey planes, scale and mirror it, compiled by Numba.

A plane is resized along its columns, transposed, and resized along its rows, so that both passes
add rows of memory with one weight each, sixteen pixels at a time. The arithmetic is Pillow's and
torchvision's of 8-bit images: a triangle as wide as the step between output pixels (but not
narrower than two pixels), in fixed point, rounded after each pass.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from flowpipe._vectors import LANE, WORD, indices, kernel, memories, spread
from flowpipe.flow.store.jpeg_loops import decode_columns

SIDE = 16
"""Pixels at a time: rows and columns in memory are padded to whole ones."""

_BYTE = ir.IntType(8)
_PIXELS, _SUMS = ir.VectorType(_BYTE, SIDE), ir.VectorType(LANE, SIDE)


@lru_cache(maxsize=64)
def taps(size: int, new_size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return how a row of pixels is scaled, without antialiasing only where it grows.

    Parameters
    ----------
    size, new_size
        Number of pixels before and after.

    Returns
    -------
    first : (new_size,) int64
        The first pixel that counts.
    weights : (new_size, n + 1) int32
        Of it and the next, n in all; the last number is the bits to shift by.
    """
    scale = size / new_size
    reach = max(scale, 1.0)
    centre = (np.arange(new_size) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), size)
    n = int((last - first).max())
    at = first[:, None] + np.arange(n)
    weights = np.maximum(1 - np.abs(at - centre[:, None] + 0.5) / reach, 0)
    weights[at >= last[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    # As many bits as 16 hold with a sign.
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    out = np.full((new_size, n + 1), bits, np.int32)
    out[:, :-1] = np.floor(weights * (1 << bits) + 0.5)
    # All weights are read of every pixel, so all must lie in the row.
    for k, start in enumerate(np.maximum(np.minimum(first, size - n), 0)):
        out[k, :-1] = np.roll(out[k, :-1], first[k] - start)
        first[k] = start
    return first, out


@intrinsic
def _weighted_sum(typing, rows, at, stride, weights, weight_at, n, out, out_at, count):
    """Add `n` rows of pixels, `stride` apart, with a weight each, into one of `count` pixels."""
    index = numba.int64
    signature = numba.void(rows, index, index, weights, index, index, out, index, index)

    def generate(context, builder, signature, arguments):
        source, factors, target = memories(context, builder, signature, arguments, 0, 3, 6)
        _, at, stride, _, weight_at, n, _, out_at, count = arguments
        bits = factors.load(builder.add(weight_at, n), LANE)
        half = spread(builder, builder.lshr(builder.shl(LANE(1), bits), LANE(1)), SIDE)
        shift = spread(builder, bits, SIDE)
        last = builder.sub(count, WORD(SIDE))
        most = ir.Constant(_SUMS, [255] * SIDE)

        def add(total, k, place):
            factor = spread(builder, factors.load(builder.add(weight_at, k), LANE), SIDE)
            row = builder.add(builder.add(at, builder.mul(stride, k)), place)
            pixels = builder.zext(source.load(row, _PIXELS, align=1), _SUMS)
            return builder.add(total, builder.mul(pixels, factor))

        def write(total, place):
            total = builder.lshr(total, shift)
            total = builder.select(builder.icmp_unsigned(">", total, most), most, total)
            target.store(builder.add(out_at, place), builder.trunc(total, _PIXELS), align=1)

        def row_of(number):
            with cgutils.for_range_slice(builder, WORD(0), count, WORD(SIDE)) as (start, _):
                # The last ones overlap with those before where they would go beyond the row.
                beyond = builder.icmp_signed(">", start, last)
                place = builder.select(beyond, last, start)
                if number:
                    total = half
                    for k in range(number):
                        total = add(total, WORD(k), place)
                else:
                    memory = cgutils.alloca_once(builder, _SUMS)
                    builder.store(half, memory)
                    with cgutils.for_range(builder, n) as loop:
                        builder.store(add(builder.load(memory), loop.index, place), memory)
                    total = builder.load(memory)
                write(total, place)

        with builder.if_else(builder.icmp_signed("==", n, WORD(2))) as (two, other):
            with two:
                row_of(2)
            with other, builder.if_else(builder.icmp_signed("==", n, WORD(3))) as (three, any_n):
                with three:
                    row_of(3)
                with any_n:
                    row_of(0)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _transpose_tile(typing, source, at, stride, out, out_at, out_stride):
    """Transpose 16x16 pixels of a flat array into another."""
    index = numba.int64
    signature = numba.void(source, index, index, out, index, index)

    def generate(context, builder, signature, arguments):
        pixels, target = memories(context, builder, signature, arguments, 0, 3)
        _, at, stride, _, out_at, out_stride = arguments
        rows = [
            pixels.load(builder.add(at, builder.mul(stride, WORD(k))), _PIXELS, align=1)
            for k in range(SIDE)
        ]
        low = indices([place + half for place in range(SIDE // 2) for half in (0, SIDE)])
        high = indices([place + half for place in range(SIDE // 2, SIDE) for half in (0, SIDE)])
        for _ in range(4):  # each interleaves row k with row k + 8
            pairs = [(rows[k], rows[k + SIDE // 2]) for k in range(SIDE // 2)]
            rows = [builder.shuffle_vector(*pair, order) for pair in pairs for order in (low, high)]
        for k, row in enumerate(rows):
            target.store(builder.add(out_at, builder.mul(out_stride, WORD(k))), row, align=1)
        return context.get_dummy_value()

    return signature, generate


@kernel
def _transpose(source, at, stride, height, width, out, out_stride):
    """Transpose `height` rows of `width` pixels, both rounded up to whole tiles."""
    for y in range(0, height, SIDE):
        for x in range(0, width, SIDE):
            _transpose_tile(  # type: ignore[call-arg]
                source, at + y * stride + x, stride, out, x * out_stride + y, out_stride
            )


@kernel
def _negate(plane):
    """Negate levels about 128; 0 becomes 255."""
    for k in range(plane.size):
        plane[k] = np.uint8(256 - max(np.int32(plane[k]), np.int32(1)))


@kernel
def _resize(columns, at, stride, high, wide, across, down, flip, negate, memory, out):
    """Scale a crop that lies in memory column by column from `at`, `stride` apart, into a plane."""
    size = out.shape[0]
    turned, rows = memory
    padded_high, padded_size = (high + SIDE - 1) // SIDE * SIDE, (size + SIDE - 1) // SIDE * SIDE
    first, weights = across
    n = weights.shape[1] - 1
    for x in range(size):
        place = size - 1 - x if flip else x
        _weighted_sum(  # type: ignore[call-arg]
            columns, at + first[x] * stride, stride, weights, x * (n + 1), n,
            turned, place * padded_high, padded_high,
        )  # fmt: skip
    _transpose(turned, 0, padded_high, padded_size, padded_high, rows, padded_size)
    first, weights = down
    n = weights.shape[1] - 1
    for y in range(size):
        _weighted_sum(  # type: ignore[call-arg]
            rows, first[y] * padded_size, padded_size, weights, y * (n + 1), n,
            out, y * size, size,
        )  # fmt: skip
    if negate:
        _negate(out.reshape(-1))


@kernel
def cut_planes(planes, crop, across, down, flip, is_flow, memory, out):
    """Cut, scale and mirror planes of levels.

    Parameters
    ----------
    planes
        (N, H, W) uint8 in any order of memory.
    crop
        Top, left, height and width of the crop.
    across, down
        Of :func:`taps`.
    flip, is_flow
        Whether to mirror left and right, and then to negate planes 0, 2, 4 ...
    memory
        Of :func:`new_memory`.
    out
        (N, size, size) uint8.
    """
    top, left, high, wide = crop
    copied, columns, turned, rows = memory
    stride, column = (wide + SIDE - 1) // SIDE * SIDE, (high + SIDE - 1) // SIDE * SIDE
    for number in range(len(planes)):
        for y in range(high):
            row = copied[y * stride : y * stride + wide]
            line = planes[number, top + y, left : left + wide]
            for x in range(wide):
                row[x] = line[x]
        _transpose(copied, 0, stride, high, wide, columns, column)
        negate = flip and is_flow and number % 2 == 0
        _resize(
            columns, 0, column, high, wide, across, down, flip, negate, (turned, rows), out[number]
        )


@kernel
def cut_jpegs(
    data, ends, picture, crop, across, down, flip, is_flow, scan, tables, memory, out, done
):
    """Decode what a crop shows of grey JPEGs, scale and mirror it.

    Parameters
    ----------
    data, ends
        The JPEGs one after the other, and where each ends.
    picture
        Height and width that all have.
    crop, across, down, flip, is_flow, memory, out
        As for :func:`cut_planes`.
    scan, tables
        As for :func:`~flowpipe.flow.store.jpeg_loops.decode_columns`.
    done
        (N,) bool: whether a plane was written. The others are not of the simple kind, or damaged.
    """
    height, width = picture
    top, left, high, wide = crop
    _, columns, turned, rows = memory
    blocks = (top // 8, (top + high + 7) // 8, left // 8, (left + wide + 7) // 8)
    stride = 8 * (blocks[1] - blocks[0])
    at = left % 8 * stride + top % 8
    start = 0
    for number in range(len(ends)):
        end = ends[number]
        done[number] = decode_columns(
            data, start, end, height, width, blocks, scan, tables, columns
        )
        start = end
        if done[number]:
            negate = flip and is_flow and number % 2 == 0
            _resize(
                columns,
                at,
                stride,
                high,
                wide,
                across,
                down,
                flip,
                negate,
                (turned, rows),
                out[number],
            )


def new_memory(high: int, wide: int, size: int) -> tuple[NDArray[np.uint8], ...]:
    """Return the memory that a crop of this height and width takes."""
    side = [value + 3 * SIDE for value in (high, wide, size)]
    return (
        np.zeros(side[0] * side[1], np.uint8),
        np.zeros(side[0] * side[1], np.uint8),
        np.zeros(side[0] * side[2], np.uint8),
        np.zeros(side[0] * side[2], np.uint8),
    )
