"""The kernels of TV-L1 in Triton: one program is BLOCK pixels of one pair."""

from __future__ import annotations

import triton
import triton.language as tl

from flowpipe.flow.kernels import RELAXATION

_RELAXATION = tl.constexpr(RELAXATION)


@triton.jit
def _keys(t, a):
    """Keys' cubic kernel at -2 < t < 2."""
    t = tl.abs(t)
    near = t * t * ((a + 2) * t - (a + 3)) + 1
    far = a * (t * (t * (t - 5) + 8) - 4)
    return tl.where(t <= 1, near, far)


@triton.jit
def warp(
    first, texture, u, g, rho, fall, height, width, cubic,
    COMPONENTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Warp the second image and its gradient by the flow; linearise the data term there."""
    area = height * width
    pair = tl.program_id(1).to(tl.int64) * area
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < area
    u += COMPONENTS * pair
    u1 = tl.load(u + at, mask=inside, other=0)
    u2 = tl.load(u + area + at, mask=inside, other=0)
    # farther out than this, only the repeated border is seen; and a NaN gives an address
    x = tl.minimum(tl.maximum((at % width).to(tl.float32) + u1, -2.0), width + 1.0)
    y = tl.minimum(tl.maximum((at // width).to(tl.float32) + u2, -2.0), height + 1.0)
    left, top = tl.floor(x), tl.floor(y)
    grey = tl.zeros([BLOCK], tl.float32)
    gx = tl.zeros([BLOCK], tl.float32)
    gy = tl.zeros([BLOCK], tl.float32)
    for j in tl.static_range(-1, 3):
        row = tl.minimum(tl.maximum(top.to(tl.int32) + j, 0), height - 1) * width
        down = _keys(y - top - j, cubic)
        for i in tl.static_range(-1, 3):
            weight = down * _keys(x - left - i, cubic)
            tap = row + tl.minimum(tl.maximum(left.to(tl.int32) + i, 0), width - 1)
            grey += weight * tl.load(texture + 3 * pair + tap, mask=inside, other=0)
            gx += weight * tl.load(texture + 3 * pair + area + tap, mask=inside, other=0)
            gy += weight * tl.load(texture + 3 * pair + 2 * area + tap, mask=inside, other=0)
    target = tl.load(first + pair + at, mask=inside, other=0)
    tl.store(g + 2 * pair + at, gx, mask=inside)
    tl.store(g + 2 * pair + area + at, gy, mask=inside)
    tl.store(rho + pair + at, grey - gx * u1 - gy * u2 - target, mask=inside)
    square = tl.maximum(gx * gx + gy * gy, 1.1920929e-07)
    tl.store(fall + pair + at, -1.0 / square, mask=inside)


@triton.jit
def _divergence(p1, p2, at, x, y, width, inside):
    """Backward differences, zero outside."""
    left = tl.load(p1 + at - 1, mask=inside & (x > 0), other=0)
    above = tl.load(p2 + at - width, mask=inside & (y > 0), other=0)
    here1 = tl.load(p1 + at, mask=inside, other=0)
    here2 = tl.load(p2 + at, mask=inside, other=0)
    return (here1 - left) + (here2 - above)


@triton.jit
def _primal(
    u, p1, p2, g, rho, fall, x, y, area, width, inside, l_t, theta, gamma,
    COMPONENTS: tl.constexpr, RELAXED: tl.constexpr,
):  # fmt: skip
    """Three components of u at a pixel, and how far the primal step takes each."""
    at = y * width + x
    u1 = tl.load(u + at, mask=inside, other=0)
    u2 = tl.load(u + area + at, mask=inside, other=0)
    g1 = tl.load(g + at, mask=inside, other=0)
    g2 = tl.load(g + area + at, mask=inside, other=0)
    change1 = theta * _divergence(p1, p2, at, x, y, width, inside)
    change2 = theta * _divergence(p1 + area, p2 + area, at, x, y, width, inside)
    residual = tl.load(rho + at, mask=inside, other=0) + g1 * u1 + g2 * u2
    pull = tl.load(fall + at, mask=inside, other=0)
    if RELAXED:
        residual += g1 * change1 + g2 * change2
        pull *= 0.5
    u3, change3 = u1, change1
    if COMPONENTS == 3:
        u3 = tl.load(u + 2 * area + at, mask=inside, other=0)
        change3 = theta * _divergence(p1 + 2 * area, p2 + 2 * area, at, x, y, width, inside)
        residual += gamma * u3
    pull = tl.minimum(tl.maximum(residual * pull, -l_t), l_t)
    return u1, u2, u3, change1 + pull * g1, change2 + pull * g2, change3 + pull * gamma


@triton.jit
def _dual(
    p1, p2, new_p1, new_p2, at, inside, here, right, below, taut, RELAXED: tl.constexpr
):  # fmt: skip
    """Dual step of a component, by what it is at a pixel and its neighbours."""
    old1 = tl.load(p1 + at, mask=inside, other=0)
    old2 = tl.load(p2 + at, mask=inside, other=0)
    ux, uy = right - here, below - here
    if RELAXED:
        q1 = old1 + 0.5 * taut * ux
        q2 = old2 + 0.5 * taut * uy
        shrink = tl.maximum(tl.sqrt(q1 * q1 + q2 * q2), 1.0)
        q1 = old1 + _RELAXATION * (q1 / shrink - old1)
        q2 = old2 + _RELAXATION * (q2 / shrink - old2)
    else:
        shrink = 1 + taut * tl.sqrt(ux * ux + uy * uy)
        q1 = (old1 + taut * ux) / shrink
        q2 = (old2 + taut * uy) / shrink
    tl.store(new_p1 + at, q1, mask=inside)
    tl.store(new_p2 + at, q2, mask=inside)


@triton.jit(do_not_specialize=["n"])  # type: ignore[call-overload]
def iterate(
    u, p1, p2, new_u, new_p1, new_p2, g, rho, fall,
    old_state, new_state, old_change, new_change,
    n, height, width, blocks, stop, taut, l_t, theta, gamma,
    COMPONENTS: tl.constexpr, RELAXED: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Settle iteration n - 1 of a pair and, unless it rests, do iteration n.

    u and p have COMPONENTS components: two, or three with the illumination term of weight gamma.
    """
    block, pair = tl.program_id(0), tl.program_id(1).to(tl.int64)
    working = tl.load(old_state + 3 * pair)
    look = tl.load(old_state + 3 * pair + 1)
    done = tl.load(old_state + 3 * pair + 2)
    if (working == 1) & (look >= 0) & (n - 1 == look):
        parts = tl.arange(0, BLOCKS)
        change = tl.sum(tl.load(old_change + pair * blocks + parts, mask=parts < blocks, other=0))
        # kernels/stop.py: until_next
        look += 2 * (tl.minimum(change / (2 * stop), 1e6).to(tl.int32) + 1)
        if change <= stop:
            working *= 0
            done = tl.maximum(done, n)
    if block == 0:
        tl.store(new_state + 3 * pair, working)
        tl.store(new_state + 3 * pair + 1, look)
        tl.store(new_state + 3 * pair + 2, done)
    if working == 1:
        area = height * width
        at = block * BLOCK + tl.arange(0, BLOCK)
        inside = at < area
        x, y = at % width, at // width
        start = COMPONENTS * pair * area
        u += start
        p1 += start
        p2 += start
        new_u += start
        new_p1 += start
        new_p2 += start
        g += 2 * pair * area
        rho += pair * area
        fall += pair * area
        # past the border a pixel is its own neighbour
        xr = tl.minimum(x + 1, width - 1)
        yb = tl.minimum(y + 1, height - 1)
        u1, u2, u3, d1, d2, d3 = _primal(
            u, p1, p2, g, rho, fall, x, y, area, width, inside, l_t, theta, gamma,
            COMPONENTS, RELAXED,
        )  # fmt: skip
        u1r, u2r, u3r, d1r, d2r, d3r = _primal(
            u, p1, p2, g, rho, fall, xr, y, area, width, inside, l_t, theta, gamma,
            COMPONENTS, RELAXED,
        )  # fmt: skip
        u1b, u2b, u3b, d1b, d2b, d3b = _primal(
            u, p1, p2, g, rho, fall, x, yb, area, width, inside, l_t, theta, gamma,
            COMPONENTS, RELAXED,
        )  # fmt: skip
        # the dual step looks at u so much of the change ahead, and u itself goes on by `length`
        ahead: tl.constexpr = 2.0 if RELAXED else 1.0
        length: tl.constexpr = _RELAXATION if RELAXED else 1.0
        tl.store(new_u + at, u1 + length * d1, mask=inside)
        tl.store(new_u + area + at, u2 + length * d2, mask=inside)
        _dual(
            p1, p2, new_p1, new_p2, at, inside,
            u1 + ahead * d1, u1r + ahead * d1r, u1b + ahead * d1b, taut, RELAXED,
        )  # fmt: skip
        _dual(
            p1, p2, new_p1, new_p2, at + area, inside,
            u2 + ahead * d2, u2r + ahead * d2r, u2b + ahead * d2b, taut, RELAXED,
        )  # fmt: skip
        if COMPONENTS == 3:
            tl.store(new_u + 2 * area + at, u3 + length * d3, mask=inside)
            _dual(
                p1, p2, new_p1, new_p2, at + 2 * area, inside,
                u3 + ahead * d3, u3r + ahead * d3r, u3b + ahead * d3b, taut, RELAXED,
            )  # fmt: skip
        if n == look:
            squares = tl.where(inside, d1 * d1 + d2 * d2, 0) * (length * length)
            tl.store(new_change + pair * blocks + block, tl.sum(squares))
