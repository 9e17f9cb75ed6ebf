"""The loops of TV-L1 on a CPU, compiled by Numba: vector code, one pass over memory.

A field (u, p, ...) is a flat float32 array of rows, `stride` apart, with a row of padding above and
below and at least one padding column behind each row, which is also the one before the next. Every
loop runs over whole vectors of `LANES` pixels, the last one into the padding. What makes that right
without a branch in a loop:

- p11, p21 are zero before a row, p12, p22 above the first: a backward difference needs no test;
- u is repeated once behind a row and below the last, so a forward difference there is zero;
- the dual variables are stored times theta, which spares the multiplication of the divergence.

`iterate` does several iterations in one sweep over the rows: iteration t works a row behind
iteration t - 1, whose rows it finds in the cache. Nothing is recomputed and no value differs.

The primal step and the dual step of a row are loops of their own: in one loop, the chain of one
pixel's operations is longer than a core looks ahead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray

from flowpipe.compiled import DistinctArrays

Field = NDArray[np.float32]

LANES = 8
"""Pixels a row is rounded up to; a vector of AVX2."""
MARGIN = 3
"""Pixels by which the texture repeats the border: the reach of a 4-tap kernel clamped there."""
SMALLEST_GRADIENT = np.float32(np.finfo(np.float32).eps)
"""Squared gradient under which the data term has no direction."""

_ONE = np.uint64(1)
_UNIT = np.float32(1)
_KEYS = (
    ((0, 1), (2, 1), (-2, -1), (0, -1)),
    ((0, -2), (-3, -1), (3, 2), (0, 1)),
    ((0, 1), (0, 0), (0, -1), (0, 0)),
    ((0, 0), (1, 0), (0, 0), (0, 0)),
)
"""Coefficients (k, l), meaning k + l a, of t^3, t^2, t and 1 in the weights of the pixels at -1, 0,
1 and 2 for a position t in 0..1; Keys (1981), whose parameter a is."""


_options: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "cache": True,
    "pipeline_class": DistinctArrays,
}
_iteration = numba.njit(fastmath=True, **_options)
# an address comes of a flow here, so that NaN and infinity must stay what they are
_kernel = numba.njit(fastmath={"reassoc", "contract", "arcp", "nsz", "afn"}, **_options)


@_kernel
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
            row[x] = above[x] * rest + below[x] * fraction
        row[width] = row[width - 1]
        out = target[y]
        for x in range(target.shape[1]):
            at = np.float32(x * step_x)
            left = min(int(at), width - 1)
            fraction = np.float32(at - left)
            out[x] = row[left] + fraction * (row[left + 1] - row[left])


@_kernel
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


@_kernel
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
            squared = wx[x] * wx[x] + wy[x] * wy[x]
            slope[x] = -_UNIT / max(squared, SMALLEST_GRADIENT)
            rest[x] = grey[x] - wx[x] * v1[x] - wy[x] * v2[x] - target[x]


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

        def fma(a, b, c):
            return builder.fadd(builder.fmul(a, b, ("contract",)), c, ("contract",))

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
                coefficient = fma(a, sloped, fixed)
                value = coefficient if value is None else fma(value, at, coefficient)
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
                columns = fma(row(y, half), pick(down, [y] * 8), columns)
            across = weights(tx, [2 * half] * 4 + [2 * half + 1] * 4)
            total = builder.fmul(columns, across) if half == 0 else fma(columns, across, total)
        total = builder.fadd(pick(total, [0, 1, 2, 3]), pick(total, [4, 5, 6, 7]))
        sums = [builder.extract_element(total, lane(i)) for i in range(3)]
        return context.make_tuple(builder, signature.return_type, sums)

    return signature, generate


@_iteration
def iterate(
    u1: Field,
    u2: Field,
    p11: Field,
    p12: Field,
    p21: Field,
    p22: Field,
    gx: Field,
    gy: Field,
    rho: Field,
    fall: Field,
    inside: Field,
    height: int,
    width: int,
    stride: int,
    band: int,
    tau: float,
    l_t: float,
    theta: float,
    stop: float,
    iterations: int,
) -> int:
    """Iterate until the summed squared change of u is at most `stop`; return the iterations done.

    OpenCV's CUDA solver looks at the change after an odd iteration only, and after a look that
    found e only once e has been paid off at `stop` an iteration. When the next look comes is
    therefore known, and the iterations before it are swept `band` at a time.
    """
    done = 0
    until_look = 2
    while done < iterations:
        left = min(until_look, iterations - done) if stop > 0 else iterations - done
        looked = left == until_look and stop > 0
        done += left
        change = 0.0
        while left > 0:
            together = min(left, band)
            left -= together
            change = _sweep(
                u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, inside,
                height, width, stride, together, looked and left == 0,
                np.float32(tau), np.float32(l_t), np.float32(tau / theta),
            )  # fmt: skip
        if looked:
            if change <= stop:
                break
            until_look = 2 * (int(min(change / (2 * stop), np.float64(iterations))) + 1)
    return done


@_iteration
def _sweep(
    u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, inside,
    height, width, stride, together, look, tau, l_t, taut,
):  # fmt: skip
    """Do `together` iterations; return the last one's summed squared change of u if `look`."""
    pitch = np.uint64(stride)
    padded = (width + LANES - 1) // LANES * LANES
    change = 0.0
    for step in range(height + together):
        for t in range(together):
            y = step - t
            if 0 <= y < height:
                start, end = np.uint64(stride * (y + 1)), np.uint64(stride * (y + 1) + padded)
                if look and t == together - 1:
                    change += _primal_and_change(
                        u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, inside, start, end, pitch,
                        l_t,
                    )  # fmt: skip
                else:
                    _primal(u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch, l_t)
                behind = np.uint64(stride * (y + 1) + width)
                u1[behind], u2[behind] = u1[behind - _ONE], u2[behind - _ONE]
                if y == height - 1:
                    for i in range(start, end):
                        u1[i + pitch], u2[i + pitch] = u1[i], u2[i]
            if 0 < y <= height:
                start, end = np.uint64(stride * y), np.uint64(stride * y + padded)
                _dual(u1, p11, p12, start, end, pitch, tau, taut)
                _dual(u2, p21, p22, start, end, pitch, tau, taut)
    return change


@_iteration
def _primal(u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch, l_t):
    """Zach et al.'s eqs. 15 and 17 for a row: threshold the residual, add the divergence."""
    for i in range(start, end):
        residual = rho[i] + gx[i] * u1[i] + gy[i] * u2[i]
        d = min(max(residual * fall[i], -l_t), l_t)
        u1[i] += d * gx[i] + ((p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch]))
        u2[i] += d * gy[i] + ((p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch]))


@_iteration
def _primal_and_change(
    u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, inside, start, end, pitch, l_t
):  # fmt: skip
    """As `_primal`; return the summed squared change of the pixels inside."""
    change = np.float32(0)
    for i in range(start, end):
        residual = rho[i] + gx[i] * u1[i] + gy[i] * u2[i]
        d = min(max(residual * fall[i], -l_t), l_t)
        d1 = d * gx[i] + ((p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch]))
        d2 = d * gy[i] + ((p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch]))
        change += (d1 * d1 + d2 * d2) * inside[i - start]
        u1[i] += d1
        u2[i] += d2
    return change


@_iteration
def _dual(u, p1, p2, start, end, pitch, tau, taut):
    """Chambolle's projected ascent for a row of one component; p is stored times theta."""
    for i in range(start, end):
        ux = u[i + _ONE] - u[i]
        uy = u[i + pitch] - u[i]
        shrink = np.float32(1) / (np.float32(1) + taut * np.sqrt(ux * ux + uy * uy))
        p1[i] = (p1[i] + tau * ux) * shrink
        p2[i] = (p2[i] + tau * uy) * shrink
