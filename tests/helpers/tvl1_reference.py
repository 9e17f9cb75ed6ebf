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


def published(u, p, g, rho_c, square, l_t, tau, theta):
    """Zach et al. for u (C, H, W) and p (2, C, H, W): the next ones."""
    rho = rho_c + (g * u).sum(axis=0)
    bounded = np.where(square > np.finfo(np.float32).eps, square, np.inf)
    fi = np.where(abs(rho) > l_t * square, -l_t * np.sign(rho), -rho / bounded)
    u = u + fi * g + theta * np.stack([divergence(*pc) for pc in p.swapaxes(0, 1)])
    slopes = np.stack([forward(c) for c in u], axis=1)
    return u, (p + tau / theta * slopes) / (1 + tau / theta * np.hypot(*slopes))


def over_relaxed(u, p, g, rho_c, square, l_t, tau, theta):
    """Algorithm 1 of Chambolle and Pock (2011), u and p going 1.9 times as far as it says.

    The data term is lambda |rho| smoothed by the coupling theta, as the published steps have it:
    rho^2 / (2 theta square) near zero. Primal step theta, dual step tau / (2 theta).
    """
    v = u + theta * np.stack([divergence(*pc) for pc in p.swapaxes(0, 1)])
    rho = rho_c + (g * v).sum(axis=0)
    bounded = np.where(square > np.finfo(np.float32).eps, square, np.inf)
    v = v + np.clip(-rho / (2 * bounded), -l_t, l_t) * g
    slopes = np.stack([forward(c) for c in 2 * v - u], axis=1)
    q = p + tau / (2 * theta) * slopes
    q = q / np.maximum(1, np.hypot(*q))
    return u + 1.9 * (v - u), p + 1.9 * (q - p)


def tvl1(first, second, *, tau=0.25, lambda_=0.15, theta=0.3, n_scales=5, scale_step=0.8, warps=5,
         epsilon=0.01, iterations=300, cubic=-0.5, median=None, gamma=0.0,
         steps="published"):  # fmt: skip
    """Flow (2, H, W) in pixels from ``first`` to ``second``, (H, W) grey levels 0..255."""
    levels = sizes(*first.shape, n_scales, scale_step)
    pyramid = [(first.astype(np.float64), second.astype(np.float64))]
    for size in levels[1:]:
        pyramid.append(tuple(resize(i, *size, 1 / scale_step, 1 / scale_step) for i in pyramid[-1]))
    u = np.zeros((3 if gamma else 2, *levels[-1]))
    p = np.zeros((2, *u.shape))
    for level in reversed(range(len(levels))):
        i0, i1 = pyramid[level]
        if u.shape[1:] != i0.shape:
            ratio = u.shape[1] / i0.shape[0], u.shape[2] / i0.shape[1]
            u = np.stack([resize(c, *i0.shape, *ratio) for c in u])
            u[:2] /= scale_step
            coarse, p = p, np.zeros((2, *u.shape))
            if steps == "over-relaxed":
                p += 0.5 * np.stack([[resize(c, *i0.shape, *ratio) for c in q] for q in coarse])
                p[0, :, :, -1] = 0
                p[1, :, -1] = 0
        i1x, i1y = gradients(i1)
        for _ in range(warps):
            if median is not None:
                u[:2] = median(u[0]), median(u[1])
            w = np.stack([warp(i, *u[:2], cubic) for i in (i1, i1x, i1y)])
            square = w[1] ** 2 + w[2] ** 2
            rho_c = w[0] - (w[1:] * u[:2]).sum(axis=0) - i0
            g = np.concatenate([w[1:], np.full((len(u) - 2, *i0.shape), gamma)])
            stop = epsilon**2 * i0.size
            error, previous = np.inf, 0.0
            for n in range(iterations):
                if error <= stop:
                    break
                step = over_relaxed if steps == "over-relaxed" else published
                before = u
                u, p = step(u, p, g, rho_c, square, lambda_ * theta, tau, theta)
                if epsilon > 0 and n % 2 == 1 and previous < stop:
                    error = previous = np.sum((u - before)[:2] ** 2)
                else:
                    error, previous = np.inf, previous - stop
    return u[:2]
