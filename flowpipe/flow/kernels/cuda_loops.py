"""The kernels of TV-L1 in Triton: one program is BLOCK pixels of one pair."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _keys(t, a):
    """Keys' cubic kernel at -2 < t < 2."""
    t = tl.abs(t)
    near = t * t * ((a + 2) * t - (a + 3)) + 1
    far = a * (t * (t * (t - 5) + 8) - 4)
    return tl.where(t <= 1, near, far)


@triton.jit
def warp(
    first, texture, u, g, rho, fall, height, width, cubic, BLOCK: tl.constexpr
):  # fmt: skip
    """Warp the second image and its gradient by the flow; linearise the data term there."""
    area = height * width
    pair = tl.program_id(1).to(tl.int64) * area
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < area
    u1 = tl.load(u + 2 * pair + at, mask=inside, other=0)
    u2 = tl.load(u + 2 * pair + area + at, mask=inside, other=0)
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
def _primal(
    u, p1, p2, g, rho, fall, at, x, y, area, width, inside, l_t, theta
):  # fmt: skip
    """Both components of u at a pixel, and how they change."""
    u1 = tl.load(u + at, mask=inside, other=0)
    u2 = tl.load(u + area + at, mask=inside, other=0)
    g1 = tl.load(g + at, mask=inside, other=0)
    g2 = tl.load(g + area + at, mask=inside, other=0)
    residual = tl.load(rho + at, mask=inside, other=0) + g1 * u1 + g2 * u2
    pull = residual * tl.load(fall + at, mask=inside, other=0)
    pull = tl.minimum(tl.maximum(pull, -l_t), l_t)
    across = inside & (x > 0)
    above = inside & (y > 0)
    div1 = (tl.load(p1 + at, mask=inside, other=0) - tl.load(p1 + at - 1, mask=across, other=0)) + (
        tl.load(p2 + at, mask=inside, other=0) - tl.load(p2 + at - width, mask=above, other=0)
    )
    p1 += area
    p2 += area
    div2 = (tl.load(p1 + at, mask=inside, other=0) - tl.load(p1 + at - 1, mask=across, other=0)) + (
        tl.load(p2 + at, mask=inside, other=0) - tl.load(p2 + at - width, mask=above, other=0)
    )
    change1 = pull * g1 + theta * div1
    change2 = pull * g2 + theta * div2
    return u1 + change1, u2 + change2, change1, change2


@triton.jit(do_not_specialize=["n"])  # type: ignore[call-overload]
def iterate(
    u, p1, p2, new_u, new_p1, new_p2, g, rho, fall,
    old_state, new_state, old_change, new_change,
    n, height, width, blocks, stop, taut, l_t, theta,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Settle iteration n - 1 of a pair and, unless it rests, do iteration n."""
    block, pair = tl.program_id(0), tl.program_id(1).to(tl.int64)
    working = tl.load(old_state + 3 * pair)
    look = tl.load(old_state + 3 * pair + 1)
    done = tl.load(old_state + 3 * pair + 2)
    if (working == 1) & (look >= 0) & (n - 1 == look):
        parts = tl.arange(0, BLOCKS)
        change = tl.sum(tl.load(old_change + pair * blocks + parts, mask=parts < blocks, other=0))
        # OpenCV's rule: look again when the change is paid off at `stop` an iteration
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
        u += 2 * pair * area
        p1 += 2 * pair * area
        p2 += 2 * pair * area
        g += 2 * pair * area
        rho += pair * area
        fall += pair * area
        u1, u2, change1, change2 = _primal(
            u, p1, p2, g, rho, fall, at, x, y, area, width, inside, l_t, theta
        )
        # past the border a pixel is its own neighbour
        xr = tl.minimum(x + 1, width - 1)
        u1r, u2r, _, _ = _primal(
            u, p1, p2, g, rho, fall, at - x + xr, xr, y, area, width, inside, l_t, theta
        )
        yb = tl.minimum(y + 1, height - 1)
        u1b, u2b, _, _ = _primal(
            u, p1, p2, g, rho, fall, (yb * width) + x, x, yb, area, width, inside, l_t, theta
        )
        at1 = 2 * pair * area + at
        at2 = at1 + area
        tl.store(new_u + at1, u1, mask=inside)
        tl.store(new_u + at2, u2, mask=inside)
        shrink1 = 1 + taut * tl.sqrt((u1r - u1) * (u1r - u1) + (u1b - u1) * (u1b - u1))
        shrink2 = 1 + taut * tl.sqrt((u2r - u2) * (u2r - u2) + (u2b - u2) * (u2b - u2))
        p11 = tl.load(p1 + at, mask=inside, other=0)
        p12 = tl.load(p2 + at, mask=inside, other=0)
        p21 = tl.load(p1 + area + at, mask=inside, other=0)
        p22 = tl.load(p2 + area + at, mask=inside, other=0)
        tl.store(new_p1 + at1, (p11 + taut * (u1r - u1)) / shrink1, mask=inside)
        tl.store(new_p2 + at1, (p12 + taut * (u1b - u1)) / shrink1, mask=inside)
        tl.store(new_p1 + at2, (p21 + taut * (u2r - u2)) / shrink2, mask=inside)
        tl.store(new_p2 + at2, (p22 + taut * (u2b - u2)) / shrink2, mask=inside)
        if n == look:
            squares = tl.where(inside, change1 * change1 + change2 * change2, 0)
            tl.store(new_change + pair * blocks + block, tl.sum(squares))
