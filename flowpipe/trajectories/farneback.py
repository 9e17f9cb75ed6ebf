"""Compute Farneback's flow as the dense-trajectory programs do, on the scales of trajectories.

Polynomial expansion and displacement: G. Farneback, "Two-frame motion estimation based on
polynomial expansion", SCIA 2003. The version in the released DT and iDT programs differs from
``cv2.calcOpticalFlowFarneback``: its pyramid is that of the trajectories (sqrt(2)), each level is
smoothed and reduced from the full frame, and after the iterations of a level the flow is filtered
by a 5x5 median, before it is passed to the next level, tracked and described.

The iterations work on rows: the products of an iteration are in a ring of rows that stays in the
cache, and their blur, the 2x2 solution and the new flow follow a few rows behind, in place.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from flowpipe._typing import Grey, Plane
from flowpipe._vectors import padded
from flowpipe.trajectories.farneback_loops import (
    NUMBERS,
    TERMS,
    TOGETHER,
    expansion,
    refinement,
)
from flowpipe.trajectories.median import MedianFilter
from flowpipe.trajectories.parameters import SCALE_STRIDE, TrajectoryParameters
from flowpipe.trajectories.pyramid import Level, Reducer

Expansion = list[Plane]
"""Per level (height, width, 5): y and x gradient, then the terms of yy, xx and xy."""

_BORDER = np.array([0.14, 0.14, 0.4472, 0.4472, 0.4472], np.float32)


class FarnebackFlow:
    """Compute expansion and flow on all scales of one frame size, with reused buffers.

    Parameters
    ----------
    levels
        Spatial scales, finest first.
    parameters
        Its ``poly_n``, ``poly_sigma``, ``flow_window`` and ``flow_iterations`` are used.
    """

    def __init__(self, levels: list[Level], parameters: TrajectoryParameters) -> None:
        height, width = levels[0].height, levels[0].width
        self.levels = levels
        poly = parameters.poly_n
        self._expand = expansion(poly)
        self._poly_taps, self._poly_scale = poly_kernel(parameters.poly_n, parameters.poly_sigma)
        radius = parameters.flow_window // 2
        self._refine = refinement(radius)
        self._blur_taps = window_kernel(parameters.flow_window)
        self._reducers = [Reducer(height, width, level) for level in levels]
        self._weights = [(border_weights(v.height), border_weights(v.width)) for v in levels]
        self._expand_rows: list[Any] = [
            (
                np.zeros((3, v.width + 2 * poly), np.float32),
                np.zeros((5, v.width), np.float32),
                np.zeros((TERMS, padded(v.width)), np.float32),
            )
            for v in levels
        ]
        self._refine_rows: list[Any] = [
            (
                np.zeros(size, np.int32),
                *(
                    np.zeros(shape, np.float32)
                    for shape in (
                        (4, size),
                        size,
                        (TERMS, size),
                        (parameters.flow_iterations, 2 * radius + TOGETHER, TERMS, size),
                        (TERMS, TOGETHER, size + 2 * radius),
                    )
                ),
            )
            for size in (padded(v.width) for v in levels)
        ]
        self._medians = [MedianFilter(v.height, v.width) for v in levels]
        self._raw = [np.empty((2, v.height, v.width), np.float32) for v in levels]

    def new_expansion(self) -> Expansion:
        """Return buffers for :meth:`expand`."""
        return [np.zeros((v.height, padded(v.width), NUMBERS), np.float32) for v in self.levels]

    def new_flow(self) -> list[Plane]:
        """Return buffers for :meth:`flow`, (2, height, width) per level: x, y in its pixels."""
        return [np.empty((2, v.height, v.width), np.float32) for v in self.levels]

    def expand(self, grey: Grey, out: Expansion) -> None:
        """Compute the polynomial expansion of a frame at every scale."""
        for reducer, scratch, level in zip(self._reducers, self._expand_rows, out, strict=True):
            smooth = reducer.reduce(grey)
            self._expand(smooth, self._poly_taps, self._poly_scale, *scratch, level)

    def flow(self, first: Expansion, second: Expansion, out: list[Plane]) -> None:
        """Compute the flow from the first frame to the second at every scale, coarse to fine."""
        for k in range(len(self.levels) - 1, -1, -1):
            raw, level = self._raw[k], self.levels[k]
            if k == len(self.levels) - 1:
                raw[...] = 0
            else:
                for channel in range(2):
                    cv2.resize(out[k + 1][channel], (level.width, level.height), dst=raw[channel])
                raw *= np.float32(SCALE_STRIDE)
            weights_y, weights_x = self._weights[k]
            self._refine(
                first[k],
                second[k],
                weights_y,
                weights_x,
                self._blur_taps,
                *self._refine_rows[k],
                raw,
            )
            filter_flow(self._medians[k], raw, out[k])


def filter_flow(median: MedianFilter, flow: Plane, out: Plane) -> None:
    """Apply a 5x5 median filter to each component."""
    for channel in range(2):
        median.apply(flow[channel], out[channel])


def poly_kernel(radius: int, sigma: float) -> tuple[Plane, Plane]:
    """Return the taps and normalization of the polynomial expansion.

    Returns
    -------
    taps
        (3, radius + 1): the Gaussian weights of offsets 0..radius times 1, offset, offset squared.
    scale
        Entries of the inverse of the weighted basis products: of the gradient, of the constant
        into a pure square, of a square into itself, of the mixed term.
    """
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    x, y = np.meshgrid(offsets, offsets)
    basis = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y]).reshape(6, -1).astype(float)
    inverse = np.linalg.inv((basis * np.outer(weights, weights).ravel()) @ basis.T)
    scale = [inverse[1, 1], inverse[0, 3], inverse[3, 3], inverse[5, 5]]
    half = offsets[radius:]
    taps = weights[radius:] * np.stack([np.ones_like(half), half, half * half])
    return taps.astype(np.float32), np.array(scale, np.float32)


def window_kernel(window: int) -> Plane:
    """Return the Gaussian taps at 0..radius of the window that the equations are averaged over."""
    radius = window // 2
    sigma = radius * 0.3
    half = np.exp(-(np.arange(radius + 1) ** 2) / (2 * sigma**2))
    return np.asarray(half / (half[0] + 2 * half[1:].sum()), np.float32)


def border_weights(size: int) -> Plane:
    """Return the weight of each row or column, smaller in the outermost five on each side."""
    weights = np.ones(size, np.float32)
    weights[:5] *= _BORDER[:size]
    weights[-5:] *= _BORDER[:size][::-1]
    return weights
