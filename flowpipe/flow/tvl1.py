"""TV-L1 optical flow, in batches, on any device.

Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007,
as OpenCV's CUDA solver (`cv::cuda::OpticalFlowDual_TVL1`) computes it, since the two-stream and TSN
papers took their flow from that one. It is not what OpenCV's CPU solver computes: no median filter,
Catmull-Rom interpolation with repeated borders, and a stop that is looked at less often.

The second frame is warped by the flow, the brightness constancy is linearised there, and a primal
and a dual step alternate until the flow rests:

    rho(u) = I1w + <grad I1w, u - u0> - I0
    v      = u + clip(-rho / |grad I1w|^2, -lambda theta, lambda theta) * grad I1w
    u      = v + theta div p
    p      = (p + tau/theta grad u) / (1 + tau/theta |grad u|)      for each component of u

from the coarsest level of a pyramid to the finest. With an illumination term, u has a third
component that nothing moves, its weight gamma in place of a gradient (OpenCV's `gamma`).

Those are the published steps. The over-relaxed ones, beyond the published scheme, are those of
Chambolle and Pock, "A first-order primal-dual algorithm for convex problems", JMIV 2011, with the
relaxation of Condat, JOTA 2013, for the same energy with v minimised out:

    z = u + theta div p
    w = z + clip(-rho(z) / 2 |grad I1w|^2, -lambda theta, lambda theta) * grad I1w
    q = p + tau/(2 theta) grad (2 w - u),      over max(1, |q|)
    u = u + 1.9 (w - u)
    p = p + 1.9 (q - p)

At tau = 1/4 the product of the two lengths is 1/8, the largest that is proven to converge. A level
starts with half of the coarser one's p, where the published scheme starts with none.

This module has the pyramid, the order of things and the batches; the operations, one implementation
per device, are in `flowpipe.flow.kernels`.
"""

from __future__ import annotations

import math
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.flow.devices import out_of_memory
from flowpipe.flow.kernels import Kernels, Step
from flowpipe.flow.parameters import Tvl1

SMALLEST_SIDE = 16
"""Pixels; the pyramid stops before a level with a shorter side."""


class Tvl1Solver:
    """TV-L1 flow of pairs of frames of one size.

    Parameters
    ----------
    parameters
        The parameters of the scheme.
    height, width
        Size of every frame, in pixels.
    device
        "cpu" (compiled by Numba), "cuda" or "cuda:1" (Triton), or "torch:" and any torch device,
        as in "torch:cpu" or "torch:mps" (plain torch operations).
    threads
        Pairs computed at once on the CPU; a pair's flow does not depend on it.
    batch
        Pairs computed at once on a GPU at most; None is what suits the device's cache. It is halved
        when the device's memory runs out, and stays so.

    Raises
    ------
    ParameterError
        A size, device or parameter out of range.
    BackendUnavailableError
        The device, or the library that drives it, is not here.
    """

    def __init__(
        self,
        parameters: Tvl1,
        height: int,
        width: int,
        *,
        device: str = "cpu",
        threads: int = 1,
        batch: int | None = None,
    ) -> None:
        counts = {"height": height, "width": width, "threads": threads, "batch": batch}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ParameterError(f"{name} is {value!r}; it must be at least 1")
        self.parameters = parameters
        self._sizes = pyramid_sizes(height, width, parameters.n_scales, parameters.scale_step)
        workers = threads if device == "cpu" else 1
        kernels = [_make_kernels(device, height, width, parameters) for _ in range(workers)]
        self.name, self.version = kernels[0].name, kernels[0].version
        self._batch = 1 if device == "cpu" else batch or kernels[0].batch
        self._free: queue.SimpleQueue[Kernels] = queue.SimpleQueue()
        for one in kernels:
            self._free.put(one)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def __call__(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the flow of every pair.

        Parameters
        ----------
        first, second
            (B, H, W) grey levels 0..255, uint8 or float32.

        Returns
        -------
        flow
            (B, 2, H, W) float32, in pixels: x, then y. What is at (x, y) in `first` is at
            (x + flow[0], y + flow[1]) in `second`.

        Raises
        ------
        ParameterError
            Wrong shapes or dtypes.
        """
        self._check(first, second)
        flow = np.empty((len(first), 2, *self._sizes[0]), np.float32)
        if self._pool is None:
            at = 0
            while at < len(first):
                part = slice(at, at + self._batch)
                try:
                    flow[part] = self._solve(first[part], second[part])
                except out_of_memory():
                    if self._batch == 1:
                        raise
                    self._batch = max(min(self._batch, len(first) - at) // 2, 1)
                else:
                    at += self._batch
        else:
            parts = [slice(i, i + self._batch) for i in range(0, len(first), self._batch)]
            jobs = [self._pool.submit(self._solve, first[p], second[p]) for p in parts]
            for part, job in zip(parts, jobs, strict=True):
                flow[part] = job.result()
        return flow

    def _check(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        for name, frames in (("first", first), ("second", second)):
            if frames.ndim != 3 or frames.shape[1:] != self._sizes[0]:
                height, width = self._sizes[0]
                raise ParameterError(
                    f"{name} has shape {frames.shape}; it must be (B, {height}, {width})"
                )
            if frames.dtype not in (np.uint8, np.float32):
                raise ParameterError(f"{name} is {frames.dtype}; it must be uint8 or float32")
            if frames.dtype == np.float32 and frames.size:
                low, high = float(frames.min()), float(frames.max())
                if not (low >= 0 and high <= 255):
                    raise ParameterError(
                        f"{name} has values from {low:g} to {high:g}; they must be in 0..255"
                    )
        if len(first) != len(second):
            raise ParameterError(f"first holds {len(first)} frames and second {len(second)}")

    def _solve(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float32]:
        kernels = self._free.get()
        try:
            return kernels.download(_scheme(kernels, self.parameters, self._sizes, first, second))
        finally:
            self._free.put(kernels)


def pyramid_sizes(
    height: int, width: int, n_scales: int | str, scale_step: float
) -> list[tuple[int, int]]:
    """Return the (height, width) of each level, the full size first."""
    sizes = [(height, width)]
    limit = math.inf if n_scales == "auto" else float(n_scales)
    while len(sizes) < limit:
        size = (round(sizes[-1][0] * scale_step), round(sizes[-1][1] * scale_step))
        if min(size) < SMALLEST_SIDE:
            break
        sizes.append(size)
    return sizes


def _scheme(
    kernels: Kernels,
    parameters: Tvl1,
    sizes: list[tuple[int, int]],
    first: NDArray[Any],
    second: NDArray[Any],
) -> Any:
    """Run the algorithm for a batch that the kernels can hold."""
    step = Step(
        tau=parameters.tau,
        l_t=parameters.lambda_ * parameters.theta,
        theta=parameters.theta,
        epsilon=parameters.epsilon,
        iterations=parameters.iterations,
    )
    shrink = 1 / parameters.scale_step
    pyramid = [(kernels.upload(first), kernels.upload(second))]
    for height, width in sizes[1:]:
        i0, i1 = (kernels.resize(i, height, width, shrink, shrink, 1) for i in pyramid[-1])
        pyramid.append((i0, i1))
    for level, (i0, i1) in reversed(list(enumerate(pyramid))):
        flow = None
        if level < len(sizes) - 1:
            (height, width), (h, w) = sizes[level], sizes[level + 1]
            flow = kernels.resize(kernels.flow(), height, width, h / height, w / width, shrink)
        kernels.begin(i0, i1, flow)
        for _ in range(parameters.warps):
            if parameters.median > 1:
                kernels.median(parameters.median)
            kernels.warp(parameters.cubic)
            kernels.iterate(step)
    return kernels.flow()


def _make_kernels(device: str, height: int, width: int, parameters: Tvl1) -> Kernels:
    kind, _, rest = device.partition(":")
    gamma, relaxed = parameters.gamma, parameters.steps == "over-relaxed"
    if device == "cpu":
        from flowpipe.flow.kernels.cpu import CpuKernels

        return CpuKernels(height, width, gamma=gamma, relaxed=relaxed)
    if kind == "torch" and rest:
        from flowpipe.flow.kernels.torch_ops import TorchKernels

        return TorchKernels(rest, gamma=gamma, relaxed=relaxed)
    if kind == "cuda":
        from flowpipe.flow.kernels.cuda import CudaKernels

        return CudaKernels(device, height, width, gamma=gamma, relaxed=relaxed)
    raise ParameterError(
        f"device is {device!r}; it must be cpu, cuda, cuda:<index> or torch:<torch device>"
    )
