"""TV-L1's iteration on a CPU, compiled by Numba: vector code, one pass over memory.

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
pixel's operations is longer than a core looks ahead. Which steps they are is decided once a row.

Arithmetic is strict: every operation is rounded as IEEE 754 says, products are fused with sums only
where `fma` is written, and sums have a fixed order. So the flow has the same bytes whether the code
comes from the compiler or from Numba's cache, and whichever vector instructions of x86-64 it uses.
The squared change is summed per column of pixels, which are independent sums, and only then over
the columns: a single sum in a fixed order could not be vectorised.
"""

from __future__ import annotations

import numpy as np

from flowpipe.flow.kernels import RELAXATION
from flowpipe.flow.kernels.cpu_loops import LANES, Field, fma, kernel
from flowpipe.flow.kernels.stop import FIRST, until_next

PLAIN, LIT, RELAXED = 0, 1, 2
"""The published steps; with the illumination term; the over-relaxed steps."""
FIELDS = {PLAIN: 10, LIT: 13, RELAXED: 12}
"""Fields of each: u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, and with the illumination term u3,
p31, p32, with over-relaxation the extrapolated u1 and u2."""

_ONE = np.uint64(1)
_UNIT = np.float32(1)
_TINY = np.float32(1e-20)


@kernel
def iterate(
    kind: int,
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
    e1: Field,
    e2: Field,
    e3: Field,
    sums: Field,
    unused: Field,
    height: int,
    width: int,
    stride: int,
    band: int,
    tau: float,
    l_t: float,
    theta: float,
    gamma: float,
    stop: float,
    iterations: int,
) -> int:
    """Iterate until the summed squared change of u is at most `stop`; return the iterations done.

    `sums` and `unused` (stride) are scratch memory.

    When the change is evaluated next is known (:mod:`flowpipe.flow.kernels.stop`), and the
    iterations before are swept `band` at a time.
    """
    done = 0
    until_look = FIRST
    while done < iterations:
        left = min(until_look, iterations - done) if stop > 0 else iterations - done
        looked = left == until_look and stop > 0
        done += left
        change = 0.0
        while left > 0:
            together = min(left, band)
            left -= together
            change = _sweep(
                kind, u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, e1, e2, e3, sums, unused,
                height, width, stride, together, looked and left == 0,
                np.float32(tau), np.float32(l_t), np.float32(theta), np.float32(gamma),
            )  # fmt: skip
        if looked:
            if change <= stop:
                break
            until_look = until_next(change, stop)
    return done


@kernel
def _sweep(
    kind, u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, e1, e2, e3, sums, unused,
    height, width, stride, together, look, tau, l_t, theta, gamma,
):  # fmt: skip
    """Do `together` iterations; return the last one's summed squared change of u if `look`."""
    pitch = np.uint64(stride)
    padded = (width + LANES - 1) // LANES * LANES
    if look:
        sums[:] = 0
    for step in range(height + together):
        for t in range(together):
            y = step - t
            looks = look and t == together - 1
            if 0 <= y < height:
                start, end = np.uint64(stride * (y + 1)), np.uint64(stride * (y + 1) + padded)
                if kind == RELAXED:
                    _primal_relaxed(
                        u1, u2, e1, e2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch,
                        l_t,
                    )  # fmt: skip
                    if looks:
                        _change_relaxed(u1, u2, e1, e2, sums, start, end)
                    _repeat(e1, start, end, width, pitch, y == height - 1)
                    _repeat(e2, start, end, width, pitch, y == height - 1)
                elif kind == LIT:
                    _primal_lit(
                        u1, u2, e1, p11, p12, p21, p22, e2, e3,
                        gx, gy, rho, fall, sums if looks else unused, start, end, pitch, l_t, gamma,
                    )  # fmt: skip
                    _repeat(u1, start, end, width, pitch, y == height - 1)
                    _repeat(u2, start, end, width, pitch, y == height - 1)
                    _repeat(e1, start, end, width, pitch, y == height - 1)
                else:
                    if looks:
                        _primal_and_change(
                            u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, sums,
                            start, end, pitch, l_t,
                        )  # fmt: skip
                    else:
                        _primal(
                            u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch, l_t
                        )
                    _repeat(u1, start, end, width, pitch, y == height - 1)
                    _repeat(u2, start, end, width, pitch, y == height - 1)
            if 0 < y <= height:
                start, end = np.uint64(stride * y), np.uint64(stride * y + padded)
                if kind == RELAXED:
                    _dual_relaxed(e1, p11, p12, start, end, pitch, tau, theta)
                    _dual_relaxed(e2, p21, p22, start, end, pitch, tau, theta)
                else:
                    _dual(u1, p11, p12, start, end, pitch, tau, tau / theta)
                    _dual(u2, p21, p22, start, end, pitch, tau, tau / theta)
                    if kind == LIT:
                        _dual(e1, e2, e3, start, end, pitch, tau, tau / theta)
    change = 0.0
    if look:
        for x in range(width):
            change += sums[x]
    return change


@kernel
def _repeat(u, start, end, width, pitch, last):
    """Repeat a row's last pixel behind it, and the last row below itself."""
    behind = start + np.uint64(width)
    u[behind] = u[behind - _ONE]
    if last:
        for i in range(start, end):
            u[i + pitch] = u[i]


@kernel
def _primal(u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch, l_t):
    """Zach et al.'s eqs. 15 and 17 for a row: threshold the residual, add the divergence."""
    for i in range(start, end):
        residual = fma(gy[i], u2[i], fma(gx[i], u1[i], rho[i]))
        d = min(max(residual * fall[i], -l_t), l_t)
        u1[i] += fma(d, gx[i], ((p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch])))
        u2[i] += fma(d, gy[i], ((p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch])))


@kernel
def _primal_and_change(
    u1, u2, p11, p12, p21, p22, gx, gy, rho, fall, sums, start, end, pitch, l_t
):  # fmt: skip
    """As `_primal`; add the squared change of each pixel to the sum of its column."""
    for i in range(start, end):
        residual = fma(gy[i], u2[i], fma(gx[i], u1[i], rho[i]))
        d = min(max(residual * fall[i], -l_t), l_t)
        d1 = fma(d, gx[i], ((p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch])))
        d2 = fma(d, gy[i], ((p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch])))
        sums[i - start] += fma(d1, d1, d2 * d2)
        u1[i] += d1
        u2[i] += d2


@kernel
def _primal_lit(
    u1, u2, u3, p11, p12, p21, p22, p31, p32, gx, gy, rho, fall, sums, start, end, pitch,
    l_t, gamma,
):  # fmt: skip
    """Do the same with the illumination u3 as a third component of weight gamma."""
    for i in range(start, end):
        residual = fma(gamma, u3[i], fma(gy[i], u2[i], fma(gx[i], u1[i], rho[i])))
        d = min(max(residual * fall[i], -l_t), l_t)
        d1 = fma(d, gx[i], ((p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch])))
        d2 = fma(d, gy[i], ((p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch])))
        sums[i - start] += fma(d1, d1, d2 * d2)
        u1[i] += d1
        u2[i] += d2
        u3[i] += fma(d, gamma, ((p31[i] - p31[i - _ONE]) + (p32[i] - p32[i - pitch])))


@kernel
def _dual(u, p1, p2, start, end, pitch, tau, taut):
    """Chambolle's projected ascent for a row of one component; p is stored times theta."""
    for i in range(start, end):
        ux = u[i + _ONE] - u[i]
        uy = u[i + pitch] - u[i]
        shrink = _UNIT / fma(taut, np.sqrt(fma(ux, ux, uy * uy)), _UNIT)
        p1[i] = fma(tau, ux, p1[i]) * shrink
        p2[i] = fma(tau, uy, p2[i]) * shrink


@kernel
def _primal_relaxed(
    u1, u2, ahead1, ahead2, p11, p12, p21, p22, gx, gy, rho, fall, start, end, pitch, l_t
):  # fmt: skip
    """Chambolle and Pock's primal step of length theta for a row, and its extrapolation."""
    half, two, relaxation = np.float32(0.5), np.float32(2), np.float32(RELAXATION)
    for i in range(start, end):
        d1 = (p11[i] - p11[i - _ONE]) + (p12[i] - p12[i - pitch])
        d2 = (p21[i] - p21[i - _ONE]) + (p22[i] - p22[i - pitch])
        residual = fma(gy[i], u2[i] + d2, fma(gx[i], u1[i] + d1, rho[i]))
        d = min(max(residual * (half * fall[i]), -l_t), l_t)
        d1 = fma(d, gx[i], d1)
        d2 = fma(d, gy[i], d2)
        ahead1[i] = fma(two, d1, u1[i])
        ahead2[i] = fma(two, d2, u2[i])
        u1[i] = fma(relaxation, d1, u1[i])
        u2[i] = fma(relaxation, d2, u2[i])


@kernel
def _change_relaxed(u1, u2, ahead1, ahead2, sums, start, end):
    """Add each pixel's squared change by `_primal_relaxed` to the sum of its column."""
    share = np.float32((RELAXATION / (2 - RELAXATION)) ** 2)
    for i in range(start, end):
        d1, d2 = ahead1[i] - u1[i], ahead2[i] - u2[i]
        sums[i - start] = fma(share, fma(d1, d1, d2 * d2), sums[i - start])


@kernel
def _dual_relaxed(ahead, p1, p2, start, end, pitch, tau, theta):
    """Their dual step for a row of one component, projected; p is stored times theta."""
    step, relaxation = np.float32(0.5) * tau, np.float32(RELAXATION)
    for i in range(start, end):
        q1 = fma(step, ahead[i + _ONE] - ahead[i], p1[i])
        q2 = fma(step, ahead[i + pitch] - ahead[i], p2[i])
        shrink = min(theta / np.sqrt(fma(q1, q1, fma(q2, q2, _TINY))), _UNIT)
        p1[i] = fma(relaxation, fma(q1, shrink, -p1[i]), p1[i])
        p2[i] = fma(relaxation, fma(q2, shrink, -p2[i]), p2[i])
