"""TV-L1's operations on a CPU: one pair at a time, so that its state stays in the cache."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.kernels import CARRIED, Step, cpu_iteration, cpu_loops
from flowpipe.flow.kernels.cpu_iteration import FIELDS, LIT, PLAIN, RELAXED
from flowpipe.flow.kernels.cpu_loops import LANES, MARGIN

Array = NDArray[np.float32]

_PAGE = 1024
"""Floats in 4096 bytes, which is where L1 cache sets repeat."""
_STAGGER = 112
"""Floats by which a field is shifted against the one before; ten of them make about a page."""
_BAND = 8
"""Iterations a sweep; more gain nothing, measured from 32x64 to 1080p."""


_NOTHING = np.zeros(0, np.float32)


class CpuKernels:
    """The `Kernels` of a CPU core, for frames of one size.

    Parameters
    ----------
    height, width
        Size of the frames, in pixels.
    gamma
        Weight of the illumination term; 0 is none.
    relaxed
        Over-relaxed steps, instead of the published ones; they have no illumination term.
    """

    name = "flowpipe-cpu"
    version = f"3+numba-{numba.__version__}"
    batch = 1

    def __init__(
        self, height: int, width: int, *, gamma: float = 0.0, relaxed: bool = False
    ) -> None:
        self._gamma = gamma
        self._kind = RELAXED if relaxed else LIT if gamma else PLAIN
        self._pool = _aligned(FIELDS[self._kind] * _spacing(height, _stride(width)))
        reach = 2 * MARGIN
        self._texture_pool = _aligned((height + reach) * (width + reach) * 4)
        self._sums = np.zeros((2, _stride(width)), np.float32)
        self._places = np.zeros(width, np.int32)
        self._scratch = np.zeros((3, width), np.float32)

    def upload(self, frames: NDArray[Any]) -> Array:
        return np.ascontiguousarray(frames, np.float32)

    def download(self, flow: Array) -> Array:
        return flow.copy()

    def resize(
        self, images: Array, height: int, width: int, step_y: float, step_x: float, scale: float
    ) -> Array:
        out = np.empty((*images.shape[:-2], height, width), np.float32)
        for i in np.ndindex(images.shape[:-2]):
            cpu_loops.resize(images[i], out[i], step_y, step_x, scale)
        return out

    def begin(self, first: Array, second: Array, flow: Array | None) -> None:
        _, height, width = first.shape
        carried = None if flow is None else self._carried(height, width)
        self._first = first[0]
        self._stride = stride = _stride(width)
        spacing, rows = _spacing(height, stride), (height + 2) * stride
        pool = self._pool[: FIELDS[self._kind] * spacing].reshape(-1, spacing)
        pool[:] = 0
        self._fields = pool[:, :rows]
        shape = (height + 2 * MARGIN, width + 2 * MARGIN, 4)
        self._texture = self._texture_pool[: math.prod(shape)]
        cpu_loops.weave(second[0], self._texture.reshape(shape))
        if flow is not None:
            self.flow()[:] = flow
        if carried is not None:
            self._planes(self._carries())[:] = carried
            if self._kind == RELAXED:  # p1 is zero in the last column, p2 in the last row
                self._planes(slice(2, 6, 2))[:, :, -1] = 0
                self._planes(slice(3, 6, 2))[:, -1] = 0

    def _carries(self) -> slice:
        """Fields that a finer level takes over: u3, or p."""
        return {PLAIN: slice(0), LIT: slice(10, 11), RELAXED: slice(2, 6)}[self._kind]

    def _carried(self, height: int, width: int) -> Array:
        """Those of the level that ends, at the size of the next."""
        h, w = self._first.shape
        planes = np.ascontiguousarray(self._planes(self._carries()))
        share = CARRIED if self._kind == RELAXED else 1
        return self.resize(planes, height, width, h / height, w / width, share)

    def _planes(self, fields: slice) -> Array:
        """Fields of the level as (n, h, w) views."""
        height, width = self._first.shape
        chosen = self._fields[fields]
        return chosen.reshape(len(chosen), height + 2, self._stride)[:, 1:-1, :width]

    def median(self, side: int) -> None:
        flow = self.flow()[0]
        for component in flow:
            component[:] = cv2.medianBlur(np.ascontiguousarray(component), side)

    def warp(self, cubic: float) -> None:
        u1, u2, _, _, _, _, *data_term = self._fields[:10]
        cpu_loops.warp(  # type: ignore[call-arg]
            self._texture,
            self._first,
            u1,
            u2,
            *data_term,
            self._stride,
            cubic,
            self._places,
            *self._scratch,
        )

    def iterate(self, step: Step) -> None:
        height, width = self._first.shape
        cpu_iteration.iterate(  # type: ignore[call-arg]
            self._kind,
            *self._fields,
            *[_NOTHING] * (13 - len(self._fields)),
            *self._sums,
            height,
            width,
            self._stride,
            _BAND,
            step.tau,
            step.l_t,
            step.theta,
            self._gamma,
            step.epsilon**2 * height * width,
            step.iterations,
        )

    def flow(self) -> Array:
        return self._planes(slice(2))[None]


def _stride(width: int) -> int:
    """Floats from row to row: whole cache lines, with a column over that no vector writes."""
    padded = -(-width // LANES) * LANES
    return -(-(padded + 1) // 16) * 16


def _spacing(height: int, stride: int) -> int:
    """Floats from field to field.

    Rows of different fields must not start at the same place of a page: a loop reads ten of them
    at once, and they would evict each other from the few ways of an L1 cache set.
    """
    return -(-(height + 2) * stride // _PAGE) * _PAGE + _STAGGER


def _aligned(size: int) -> Array:
    """Zeros that begin a cache line."""
    buffer = np.zeros(size + 16, np.float32)
    start = -buffer.ctypes.data % 64 // 4
    return buffer[start : start + size]
