"""TV-L1 flow as OpenCV's CUDA solver computes it, in plain float64 numpy: the yardstick.

A transcription, step by step and unoptimised, of the scheme that `flowpipe.flow.tvl1` describes;
nothing here is shared with the package.
"""

from __future__ import annotations

import numpy as np


def resize(image, height, width, step_y, step_x):
    """Bilinear, sampled at ``(y * step_y, x * step_x)``, the last row and column repeated."""

    def taps(size, length, step):
        at = np.arange(size) * step
        low = np.floor(at).astype(int)
        return low.clip(0, length - 1), (low + 1).clip(0, length - 1), at - low

    top, bottom, fy = taps(height, image.shape[0], step_y)
    left, right, fx = taps(width, image.shape[1], step_x)
    rows = image[top] * (1 - fy)[:, None] + image[bottom] * fy[:, None]
    return rows[:, left] * (1 - fx) + rows[:, right] * fx


def gradients(image):
    padded = np.pad(image, 1, mode="edge")
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    return dx, dy


def kernel(t, a):
    """The cubic kernel of Keys (1981); a = -0.5 is Catmull-Rom."""
    t = abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def warp(image, u, v, a):
    """Cubic interpolation at ``(x + u, y + v)``; weights normalised, borders repeated."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width]
    x, y = x + u, y + v
    total, weights = 0.0, 0.0
    for dy in range(-1, 3):
        for dx in range(-1, 3):
            cx, cy = np.floor(x) + dx, np.floor(y) + dy
            weight = kernel(x - cx, a) * kernel(y - cy, a)
            rows = cy.clip(0, height - 1).astype(int)
            columns = cx.clip(0, width - 1).astype(int)
            total = total + weight * image[rows, columns]
            weights = weights + weight
    return total / weights


def divergence(p1, p2):
    """Backward differences, zero outside."""
    return np.diff(p1, axis=1, prepend=0) + np.diff(p2, axis=0, prepend=0)


def forward(u):
    """Forward differences, zero at the last column and row."""
    return np.diff(u, axis=1, append=u[:, -1:]), np.diff(u, axis=0, append=u[-1:])


def sizes(height, width, n_scales, scale_step):
    levels = [(height, width)]
    for _ in range(n_scales - 1):
        size = tuple(int(np.rint(n * scale_step)) for n in levels[-1])
        if min(size) < 16:
            break
        levels.append(size)
    return levels


def tvl1(first, second, *, tau=0.25, lambda_=0.15, theta=0.3, n_scales=5, scale_step=0.8, warps=5,
         epsilon=0.01, iterations=300, cubic=-0.5, median=None, gamma=0.0):  # fmt: skip
    """Flow (2, H, W) in pixels from ``first`` to ``second``, (H, W) grey levels 0..255."""
    levels = sizes(*first.shape, n_scales, scale_step)
    pyramid = [(first.astype(np.float64), second.astype(np.float64))]
    for size in levels[1:]:
        pyramid.append(tuple(resize(i, *size, 1 / scale_step, 1 / scale_step) for i in pyramid[-1]))
    l_t, taut = lambda_ * theta, tau / theta
    u = v = w = np.zeros(levels[-1])
    for level in reversed(range(len(levels))):
        i0, i1 = pyramid[level]
        if u.shape != i0.shape:
            steps = u.shape[0] / i0.shape[0], u.shape[1] / i0.shape[1]
            u, v = (resize(f, *i0.shape, *steps) / scale_step for f in (u, v))
            w = resize(w, *i0.shape, *steps)
        p11 = p12 = p21 = p22 = p31 = p32 = np.zeros_like(i0)
        i1x, i1y = gradients(i1)
        for _ in range(warps):
            if median is not None:
                u, v = median(u), median(v)
            wx, wy = warp(i1x, u, v, cubic), warp(i1y, u, v, cubic)
            gradient = wx**2 + wy**2
            rho_c = warp(i1, u, v, cubic) - wx * u - wy * v - i0
            stop = epsilon**2 * i0.size
            error, previous = np.inf, 0.0
            for n in range(iterations):
                if error <= stop:
                    break
                rho = rho_c + wx * u + wy * v + gamma * w
                bounded = np.where(gradient > np.finfo(np.float32).eps, gradient, np.inf)
                fi = np.where(abs(rho) > l_t * gradient, -l_t * np.sign(rho), -rho / bounded)
                du = fi * wx + theta * divergence(p11, p12)
                dv = fi * wy + theta * divergence(p21, p22)
                u, v = u + du, v + dv
                if gamma:
                    w = w + fi * gamma + theta * divergence(p31, p32)
                if epsilon > 0 and n % 2 == 1 and previous < stop:
                    error = previous = np.sum(du**2 + dv**2)
                else:
                    error, previous = np.inf, previous - stop
                (ux, uy), (vx, vy), (tx, ty) = forward(u), forward(v), forward(w)
                p11, p12 = ((p + taut * g) / (1 + taut * np.hypot(ux, uy))
                            for p, g in ((p11, ux), (p12, uy)))  # fmt: skip
                p21, p22 = ((p + taut * g) / (1 + taut * np.hypot(vx, vy))
                            for p, g in ((p21, vx), (p22, vy)))  # fmt: skip
                p31, p32 = ((p + taut * g) / (1 + taut * np.hypot(tx, ty))
                            for p, g in ((p31, tx), (p32, ty)))  # fmt: skip
    return np.stack([u, v])
