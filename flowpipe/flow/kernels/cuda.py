"""TV-L1's two hot operations for NVIDIA GPUs, in Triton; the others are torch's own.

One launch is one iteration of every pair of the batch. A launch settles the stop of the iteration
before it: each program adds up its pair's partial sums, always in the same order, and a pair that
rests is passed over. So the host never has to wait for the device inside a level; now and then it
takes a look at a copy of the pairs' states that has arrived meanwhile, and stops launching.

u and p go from one set of arrays to another and back, and a program computes the primal step of its
right and lower neighbours too, as the dual step needs them: cheaper than another launch.

With TRITON_INTERPRET=1 set before this module is imported, everything runs on the CPU under
Triton's interpreter, for tests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow.kernels import Step
from flowpipe.flow.kernels.stop import FIRST
from flowpipe.flow.kernels.torch_ops import TorchKernels

try:
    import triton

    from flowpipe.flow.kernels import cuda_loops
except ImportError as error:  # torch builds for CPU, macOS and Windows come without it
    raise BackendUnavailableError(
        "the cuda device needs triton, which comes with torch's CUDA builds for Linux "
        "(pip install triton); device='torch:cuda' works without it"
    ) from error

_BLOCK = 256
_INTERPRETED_BLOCK = 512
"""Larger, since under the interpreter a program costs the same whatever its size."""
_GLANCE = 16
"""Iterations between two looks at whether every pair rests."""
_BYTES = 64
"""State of a pixel: two sets of u and p, the gradient, the residual and its slope."""
_WORKING, _LOOK, _DONE = 0, 1, 2
"""Columns of a pair's state: 1 until it rests; next iteration whose change counts; iterations."""


class CudaKernels(TorchKernels):
    """The `Kernels` of a CUDA device, for frames of one size."""

    def __init__(
        self, device: str, height: int, width: int, *, gamma: float = 0.0, relaxed: bool = False
    ) -> None:
        interpreted = triton.knobs.runtime.interpret
        if not interpreted and not torch.cuda.is_available():
            raise BackendUnavailableError(
                f"device {device!r} needs an NVIDIA GPU and a torch build for CUDA; here is none. "
                "device='cpu' works everywhere"
            )
        super().__init__("cpu" if interpreted else device, gamma=gamma, relaxed=relaxed)
        self._interpreted = interpreted
        self._block = _INTERPRETED_BLOCK if interpreted else _BLOCK
        self.name = "flowpipe-cuda"
        self.version = f"1+triton-{triton.__version__}"
        if not interpreted:
            cache = torch.cuda.get_device_properties(self._device).L2_cache_size
            self.batch = min(max(cache // (_BYTES * height * width), 8), 64)

    def warp(self, cubic: float) -> None:
        batch, height, width = self._first.shape
        area = height * width
        self._u = self._u.contiguous()
        self._g = torch.empty(batch, 2, height, width, device=self._device)
        self._rho, self._fall = torch.empty_like(self._first), torch.empty_like(self._first)
        with self._selected():
            cuda_loops.warp[(triton.cdiv(area, self._block), batch)](
                self._first.contiguous(), self._texture.contiguous(), self._u, self._g, self._rho,
                self._fall, height, width, cubic, COMPONENTS=self._u.shape[1], BLOCK=self._block,
            )  # fmt: skip

    def _selected(self) -> AbstractContextManager[object]:
        """Triton launches on the device that is current, whatever its arguments are on."""
        return nullcontext() if self._interpreted else torch.cuda.device(self._device)

    def iterate(self, step: Step) -> None:
        with self._selected():
            self._iterate(step)

    def _iterate(self, step: Step) -> None:
        batch, height, width = self._first.shape
        blocks = triton.cdiv(height * width, self._block)
        here: tuple[Tensor, ...] = (self._u, self._p1, self._p2)
        there = tuple(torch.empty_like(field) for field in here)
        stop = step.epsilon**2 * height * width
        # filled there: copied from the host it would have to wait for the device
        old_state = torch.zeros(batch, 3, dtype=torch.int32, device=self._device)
        old_state[:, _WORKING] = 1
        old_state[:, _LOOK] = FIRST - 1 if stop > 0 else -1
        new_state = torch.empty_like(old_state)
        old_change = torch.zeros(batch, blocks, device=self._device)
        new_change = torch.zeros_like(old_change)
        rest = _Rest(self._device)
        done = 0
        while done < step.iterations:
            cuda_loops.iterate[(blocks, batch)](
                *here, *there, self._g, self._rho, self._fall,
                old_state, new_state, old_change, new_change,
                done, height, width, blocks,
                stop, step.tau / step.theta, step.l_t, step.theta, self._gamma,
                COMPONENTS=self._u.shape[1], RELAXED=self._relaxed,
                BLOCK=self._block, BLOCKS=triton.next_power_of_2(blocks),
            )  # fmt: skip
            here, there = there, here
            old_state, new_state = new_state, old_state
            old_change, new_change = new_change, old_change
            done += 1
            if done % _GLANCE == 0 and rest.seen(old_state):
                break
        # a pair that rested after k iterations left them where the k-th wrote
        counts = torch.where(old_state[:, _WORKING] == 1, done, old_state[:, _DONE])
        swapped = ((done - counts) % 2 == 1).view(-1, 1, 1, 1)
        self._u, self._p1, self._p2 = (
            torch.where(swapped, b, a) for a, b in zip(here, there, strict=True)
        )


class _Rest:
    """Whether every pair rests, by a copy of their states that is never waited for."""

    def __init__(self, device: torch.device) -> None:
        self._event: Any = None
        self._asynchronous = device.type == "cuda"

    def seen(self, state: Tensor) -> bool:
        if not self._asynchronous:
            return not state[:, _WORKING].any()
        if self._event is None:
            self._copy = torch.empty(len(state), dtype=state.dtype, pin_memory=True)
            self._copy.copy_(state[:, _WORKING], non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        elif self._event.query():
            self._event = None
            return not self._copy.any()
        return False
