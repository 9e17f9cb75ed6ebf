"""TV-L1's loops over an image on a CPU, compiled by Numba: resize and warp.

The loops of the iteration are in `cpu_iteration`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from flowpipe._numba import DistinctArrays

Field = NDArray[np.float32]

LANES = 8
"""Pixels a row is rounded up to; a vector of AVX2."""
MARGIN = 3
"""Pixels by which the texture repeats the border: the reach of a 4-tap kernel clamped there."""
SMALLEST_GRADIENT = np.float32(np.finfo(np.float32).eps)
"""Squared gradient under which the data term has no direction."""

_UNIT = np.float32(1)
_KEYS = (
    ((0, 1), (2, 1), (-2, -1), (0, -1)),
    ((0, -2), (-3, -1), (3, 2), (0, 1)),
    ((0, 1), (0, 0), (0, -1), (0, 0)),
    ((0, 0), (1, 0), (0, 0), (0, 0)),
)
"""Coefficients (k, l), meaning k + l a, of t^3, t^2, t and 1 in the weights of the pixels at -1, 0,
1 and 2 for a position t in 0..1; Keys (1981), whose parameter a is."""


# No fastmath flag: were reassociation or contraction allowed, the compiler would choose the
# rounding, and differently for fresh code, for code from Numba's cache and for each processor.
# Where a product and a sum are rounded once is written out (`fma`). NumPy's error model, since a
# check for division by zero would prevent vectorisation.
kernel = numba.njit(nogil=True, error_model="numpy", cache=True, pipeline_class=DistinctArrays)


@intrinsic
def _fma(typing, a, b, c):
    single = numba.float32
    return single(single, single, single), lambda _, builder, __, values: builder.fma(*values)


fma: Any = _fma
"""``a * b + c`` rounded once: one operation on every processor with AVX2 or Neon."""


@kernel
def resize(source: Field, target: Field, step_y: float, step_x: float, scale: float) -> None:
    """Sample `source` (h, w) bilinearly at ``(y * step_y, x * step_x)``, times `scale`.

    Positions count from the centre of the first pixel, as cv::cuda::resize has it.
    """
    height, width = source.shape
    row = np.empty(width + 1, np.float32)
    for y in range(target.shape[0]):
        at = np.float32(y * step_y)
        top = min(int(at), height - 1)
        fraction = np.float32(at - top) * np.float32(scale)
        rest = np.float32(scale) - fraction
        above, below = source[top], source[min(top + 1, height - 1)]
        for x in range(width):
            row[x] = fma(above[x], rest, below[x] * fraction)
        row[width] = row[width - 1]
        out = target[y]
        for x in range(target.shape[1]):
            at = np.float32(x * step_x)
            left = min(int(at), width - 1)
            fraction = np.float32(at - left)
            out[x] = fma(fraction, row[left + 1] - row[left], row[left])


@kernel
def weave(image: Field, texture: Field) -> None:
    """Lay the image and its central differences beside each other, the border repeated.

    `texture` is (h + 2 * MARGIN, w + 2 * MARGIN, 4): grey level, d/dx, d/dy, nothing. One address
    then finds the taps of all three.
    """
    height, width = image.shape
    half = np.float32(0.5)
    for y in range(texture.shape[0]):
        row = min(max(y - MARGIN, 0), height - 1)
        here = image[row]
        above, below = image[max(row - 1, 0)], image[min(row + 1, height - 1)]
        out = texture[y]
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            out[x + MARGIN, 0] = here[x]
            out[x + MARGIN, 1] = half * (here[right] - here[left])
            out[x + MARGIN, 2] = half * (below[x] - above[x])
        for x in range(MARGIN):
            out[x] = out[MARGIN]
            out[width + MARGIN + x] = out[width + MARGIN - 1]


@kernel
def warp(
    texture: Field,
    first: Field,
    u1: Field,
    u2: Field,
    gx: Field,
    gy: Field,
    rho: Field,
    fall: Field,
    stride: int,
    cubic: float,
    places: NDArray[np.int32],
    column: Field,
    line: Field,
    grey: Field,
) -> None:
    """Warp the second image and its gradient by the flow and linearise the data term there.

    Writes the gradient (gx, gy), the constant part of the residual (rho) and minus the inverse of
    the squared gradient (fall), zero in the padding. `cubic` is the parameter of Keys' kernel; its
    weights along an axis sum to one, so dividing by their sum, as OpenCV does, changes nothing.

    `texture` is that of `weave`, flat; `places`, `column`, `line` and `grey` (width) are scratch.
    """
    height, width = first.shape
    sharpness = np.float32(cubic)
    pitch = np.int32((width + 2 * MARGIN) * 4)
    low, right, bottom = np.float32(1 - MARGIN), np.float32(width), np.float32(height)
    for y in range(height):
        start = stride * (y + 1)
        v1, v2 = u1[start : start + width], u2[start : start + width]
        wx, wy = gx[start : start + width], gy[start : start + width]
        for x in range(width):
            # written so that a NaN, too, ends inside
            across, down = np.float32(np.int32(x)) + v1[x], np.float32(y) + v2[x]
            across = across if across > low else low
            across = (across if across < right else right) - low
            down = down if down > low else low
            down = (down if down < bottom else bottom) - low
            left, top = np.int32(across), np.int32(down)
            column[x], line[x] = across - np.float32(left), down - np.float32(top)
            places[x] = np.int32(np.int32(top * pitch) + np.int32(left * np.int32(4)))
        for x in range(width):
            grey[x], wx[x], wy[x] = _window(  # type: ignore[call-arg]
                texture, places[x], pitch, sharpness, column[x], line[x]
            )
        rest, slope, target = rho[start : start + width], fall[start : start + width], first[y]
        for x in range(width):
            squared = fma(wx[x], wx[x], wy[x] * wy[x])
            slope[x] = -_UNIT / max(squared, SMALLEST_GRADIENT)
            rest[x] = fma(-wy[x], v2[x], fma(-wx[x], v1[x], grey[x])) - target[x]


@intrinsic
def _window(typing, texture, place, pitch, cubic, tx, ty):
    """Interpolate in the 4 x 4 window at `place`, at (tx, ty) in 0..1 between its middle pixels.

    Returns the first three of the four channels. Half a row of the window is 8 floats in
    succession, so it is one vector; from a loop over pixels the compiler would make a collection
    of single floats.
    """
    single = numba.float32
    signature = numba.types.UniTuple(single, 3)(texture, place, pitch, single, single, single)

    def generate(context, builder, signature, arguments):
        _, place, pitch, cubic, tx, ty = arguments
        place, pitch = (builder.sext(value, ir.IntType(64)) for value in (place, pitch))
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        lane = ir.IntType(32)

        def multiply_add(a, b, c):
            fused = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(a.type, [a.type] * 3),
                f"llvm.fma.v{a.type.count}f32",
            )
            return builder.call(fused, [a, b, c])

        def pick(vector, lanes):
            order = ir.Constant(ir.VectorType(lane, len(lanes)), lanes)
            return builder.shuffle_vector(vector, vector, order)

        def spread(value, lanes):
            nothing = ir.Constant(ir.VectorType(ir.FloatType(), 1), ir.Undefined)
            return pick(builder.insert_element(nothing, value, lane(0)), [0] * lanes)

        def weights(t, taps):
            """Weight at t of the tap that each lane has."""
            kind = ir.VectorType(ir.FloatType(), len(taps))
            a, at, value = spread(cubic, len(taps)), spread(t, len(taps)), None
            for power in _KEYS:
                fixed, sloped = (ir.Constant(kind, [power[tap][i] for tap in taps]) for i in (0, 1))
                coefficient = multiply_add(a, sloped, fixed)
                value = coefficient if value is None else multiply_add(value, at, coefficient)
            return value

        def row(y, half):
            start = builder.add(place, builder.mul(pitch, pitch.type(y)))
            address = builder.gep(data, [builder.add(start, start.type(8 * half))])
            kind = ir.VectorType(ir.FloatType(), 8).as_pointer()
            taps = builder.load(builder.bitcast(address, kind))
            taps.align = 4
            return taps

        down = weights(ty, [0, 1, 2, 3])
        total = None
        for half in range(2):
            columns = builder.fmul(row(0, half), pick(down, [0] * 8))
            for y in range(1, 4):
                columns = multiply_add(row(y, half), pick(down, [y] * 8), columns)
            across = weights(tx, [2 * half] * 4 + [2 * half + 1] * 4)
            total = (
                builder.fmul(columns, across) if half == 0 else multiply_add(columns, across, total)
            )
        total = builder.fadd(pick(total, [0, 1, 2, 3]), pick(total, [4, 5, 6, 7]))
        sums = [builder.extract_element(total, lane(i)) for i in range(3)]
        return context.make_tuple(builder, signature.return_type, sums)

    return signature, generate
