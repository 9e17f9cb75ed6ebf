"""The hot operations of TV-L1, one implementation per device.

`cpu` (Numba), `cuda` (Triton) and `torch_ops` (plain torch operations, any torch device) each have
a class of the shape of `Kernels`; `flowpipe.flow.tvl1` drives them and is where the algorithm is. A
module is imported where its device is asked for, not before: torch alone takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

RELAXATION = 1.9
"""How far an over-relaxed step goes, 1 to 2."""
CARRIED = 0.5
"""Share of a level's dual variables that over-relaxed steps start the next with.

From none they need many iterations to grow; all of them hold the flow to a coarse level's errors.
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What one warp's iterations need to know."""

    tau: float
    l_t: float
    """lambda times theta: how far the data term moves the flow at most, per unit of gradient."""
    theta: float
    epsilon: float
    """Stop when the root mean square change of a pair's flow is at most this, in pixels."""
    iterations: int


class Kernels(Protocol):
    """Operations on a batch of B pairs of one frame size; `Any` is the device's kind of array.

    An object keeps the state of the level it is at, so it serves one thread.
    """

    name: str
    version: str
    batch: int
    """The most pairs that a call should hold."""

    def upload(self, frames: NDArray[Any]) -> Any:
        """Copy (B, H, W) frames, uint8 or float32, to the device as float32."""

    def download(self, flow: Any) -> NDArray[np.float32]:
        """Return (B, 2, H, W) flow in main memory, an array of its own."""

    def resize(
        self, images: Any, height: int, width: int, step_y: float, step_x: float, scale: float
    ) -> Any:
        """(..., h, w) images sampled bilinearly at ``(y * step_y, x * step_x)``, times `scale`."""

    def begin(self, first: Any, second: Any, flow: Any | None) -> None:
        """Enter a level with (B, h, w) images and (B, 2, h, w) flow, None for zero flow."""

    def median(self, side: int) -> None:
        """Replace the flow by its median over ``side x side`` pixels, the border repeated."""

    def warp(self, cubic: float) -> None:
        """Warp `second` and its gradient by the flow; linearise the data term there.

        `cubic` is the parameter of the interpolation kernel of Keys (1981).
        """

    def iterate(self, step: Step) -> None:
        """Alternate the primal and the dual step, each pair until its own stop."""

    def flow(self) -> Any:
        """Return (B, 2, h, w) flow of the level; valid until the next `begin`."""
