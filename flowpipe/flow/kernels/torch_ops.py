"""TV-L1's operations in plain torch, for any torch device, and the check on the other two.

Every pair of a batch is computed until the last one rests; one that rests earlier is masked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow.kernels import CARRIED, RELAXATION, Step
from flowpipe.flow.kernels.stop import FIRST, until_next_of_batch

_GLANCE = 16
"""Iterations between two questions to the device whether every pair rests."""


class TorchKernels:
    """The `Kernels` of a torch device.

    Parameters
    ----------
    device
        A torch device.
    gamma
        Weight of the illumination term; with one, the flow has a third component while it is
        computed, added to the residual `gamma` times.
    relaxed
        Over-relaxed steps, instead of the published ones; they have no illumination term.

    Raises
    ------
    BackendUnavailableError
        Torch cannot use the device here.
    """

    batch = 16

    def __init__(self, device: str, *, gamma: float = 0.0, relaxed: bool = False) -> None:
        try:
            self._device = torch.device(device)
            torch.empty(1, device=self._device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise BackendUnavailableError(
                f"torch cannot use device {device!r} here: {str(error).splitlines()[0]}"
            ) from error
        self.name = f"flowpipe-torch-{self._device.type}"
        self.version = f"1+torch-{torch.__version__.split('+')[0]}"
        self._gamma, self._relaxed = gamma, relaxed
        self._u: Tensor
        self._p1: Tensor
        self._p2: Tensor

    def upload(self, frames: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self._device).float()

    def download(self, flow: Tensor) -> NDArray[np.float32]:
        return np.array(flow.cpu().numpy())

    def resize(
        self, images: Tensor, height: int, width: int, step_y: float, step_x: float, scale: float
    ) -> Tensor:
        def taps(size: int, length: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
            at = torch.arange(size, device=images.device) * step
            low = at.floor().long().clamp(max=length - 1)
            return low, (low + 1).clamp(max=length - 1), (at - low).float()

        top, bottom, fy = taps(height, images.shape[-2], step_y)
        left, right, fx = taps(width, images.shape[-1], step_x)
        rows = torch.lerp(images[..., top, :], images[..., bottom, :], fy[:, None])
        return torch.lerp(rows[..., left], rows[..., right], fx) * scale

    def begin(self, first: Tensor, second: Tensor, flow: Tensor | None) -> None:
        batch, height, width = first.shape
        components = 3 if self._gamma else 2
        self._first = first
        u = first.new_zeros(batch, components, height, width)
        p1, p2 = torch.zeros_like(u), torch.zeros_like(u)
        if flow is not None:
            h, w = self._u.shape[-2:]
            size = (height, width, h / height, w / width)
            u[:, :2] = flow
            u[:, 2:] = self.resize(self._u[:, 2:], *size, 1)
            if self._relaxed:
                p1[..., :-1] = self.resize(self._p1, *size, CARRIED)[..., :-1]
                p2[..., :-1, :] = self.resize(self._p2, *size, CARRIED)[..., :-1, :]
        self._u, self._p1, self._p2 = u, p1, p2
        framed = functional.pad(second[:, None], (1, 1, 1, 1), mode="replicate")
        dx = (framed[..., 1:-1, 2:] - framed[..., 1:-1, :-2]) / 2
        dy = (framed[..., 2:, 1:-1] - framed[..., :-2, 1:-1]) / 2
        self._texture = torch.cat([second[:, None], dx, dy], dim=1)

    def median(self, side: int) -> None:
        framed = functional.pad(self._u[:, :2], (side // 2,) * 4, mode="replicate")
        windows = framed.unfold(2, side, 1).unfold(3, side, 1).flatten(-2)
        self._u[:, :2] = windows.median(dim=-1).values

    def warp(self, cubic: float) -> None:
        batch, height, width = self._first.shape
        y = torch.arange(height, device=self._device)[:, None] + self._u[:, 1]
        x = torch.arange(width, device=self._device) + self._u[:, 0]
        top, left = y.floor(), x.floor()
        down, across = _weights(y - top, cubic), _weights(x - left, cubic)
        texture = self._texture.flatten(2)
        total = torch.zeros_like(self._texture)
        for j in range(4):
            row = (top.long() + (j - 1)).clamp(0, height - 1) * width
            for i in range(4):
                at = row + (left.long() + (i - 1)).clamp(0, width - 1)
                taps = texture.gather(2, at.view(batch, 1, -1).expand(-1, 3, -1))
                total += (down[j] * across[i])[:, None] * taps.view_as(total)
        self._g = total[:, 1:]
        square = (self._g**2).sum(1, keepdim=True)
        self._fall = -1 / square.clamp(min=torch.finfo(torch.float32).eps)
        u = self._u[:, :2]
        self._rho = total[:, :1] - (self._g * u).sum(1, keepdim=True) - self._first[:, None]
        if self._gamma:
            self._g = torch.cat([self._g, torch.full_like(self._rho, self._gamma)], dim=1)

    def iterate(self, step: Step) -> None:
        batch, height, width = self._first.shape
        stop = step.epsilon**2 * height * width
        steps = self._over_relaxed if self._relaxed else self._published
        working = torch.ones(batch, 1, 1, 1, dtype=torch.bool, device=self._device)
        look = torch.full((batch,), FIRST - 1, device=self._device)
        for n in range(step.iterations):
            new = steps(step)
            change = new[0] - self._u
            self._u, self._p1, self._p2 = (
                torch.where(working, b, a)
                for a, b in zip((self._u, self._p1, self._p2), new, strict=True)
            )
            if stop == 0:
                continue
            if n % 2 == 0:  # the change is evaluated after pairs of iterations
                continue
            looks = look == n
            error = (change[:, :2] ** 2).flatten(1).sum(1)
            look = torch.where(looks, n + until_next_of_batch(error, stop), look)
            working = working & ~(looks & (error <= stop)).view(-1, 1, 1, 1)
            if n % _GLANCE == _GLANCE - 1 and not working.any():
                break

    def _published(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next u, p1 and p2."""
        u = self._u + self._pull(self._u, step.l_t, 1) * self._g
        u = u + step.theta * _divergence(self._p1, self._p2)
        ux, uy = _forward(u)
        taut = step.tau / step.theta
        shrink = 1 + taut * torch.sqrt(ux * ux + uy * uy)
        return u, (self._p1 + taut * ux) / shrink, (self._p2 + taut * uy) / shrink

    def _over_relaxed(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        u = self._u + step.theta * _divergence(self._p1, self._p2)
        u = u + self._pull(u, step.l_t, 0.5) * self._g
        ux, uy = _forward(2 * u - self._u)
        length = step.tau / (2 * step.theta)
        p1, p2 = self._p1 + length * ux, self._p2 + length * uy
        shrink = torch.sqrt(p1 * p1 + p2 * p2).clamp(min=1)
        return (
            torch.lerp(self._u, u, RELAXATION),
            torch.lerp(self._p1, p1 / shrink, RELAXATION),
            torch.lerp(self._p2, p2 / shrink, RELAXATION),
        )

    def _pull(self, u: Tensor, limit: float, share: float) -> Tensor:
        """Return how far the data term moves u along the gradient, of which it goes a share."""
        rho = self._rho + (self._g * u).sum(1, keepdim=True)
        return (share * rho * self._fall).clamp(-limit, limit)

    def flow(self) -> Tensor:
        return self._u[:, :2]


def _weights(t: Tensor, a: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys' cubic weights of the pixels at -1, 0, 1 and 2 for positions `t` in 0..1."""
    return (
        a * t * (t * (t - 2) + 1),
        t * t * ((a + 2) * t - (a + 3)) + 1,
        t * (t * (2 * a + 3 - (a + 2) * t) - a),
        a * t * t * (1 - t),
    )


def _divergence(p1: Tensor, p2: Tensor) -> Tensor:
    """Backward differences, zero outside."""
    left = functional.pad(p1, (1, 0))[..., :-1]
    above = functional.pad(p2, (0, 0, 1, 0))[..., :-1, :]
    return (p1 - left) + (p2 - above)


def _forward(u: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences, zero at the last column and row."""
    ux, uy = torch.zeros_like(u), torch.zeros_like(u)
    ux[..., :-1] = u[..., 1:] - u[..., :-1]
    uy[..., :-1, :] = u[..., 1:, :] - u[..., :-1, :]
    return ux, uy
