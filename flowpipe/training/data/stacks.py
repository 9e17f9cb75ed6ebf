"""A stack: L consecutive flow fields as the 2 L channels of one network input.

The channels are x1 y1 x2 y2 ... (x of the earliest field first), which is what TSN, tsn-pytorch,
TSM, mmaction2 and the two-stream networks of 2014 and 2016 train on. Simonyan and Zisserman (NIPS
2014) call it optical flow stacking, and beside it describe trajectory stacking: channels of later
fields are sampled where each pixel has moved to, so that a channel pair follows one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.flow.quantize import ZERO_LEVEL, to_uint8
from flowpipe.flow.store import StoredClip
from flowpipe.models.clip_input import Stacking

X, Y = slice(0, None, 2), slice(1, None, 2)
"""The channels of a stack that hold horizontal and vertical displacement."""
ZERO = ZERO_LEVEL
"""The level of zero flow."""


class FlowFields(Protocol):
    """Flow of a clip, such as a :class:`~flowpipe.flow.store.FlowReader`."""

    @property
    def clip(self) -> StoredClip:
        """The clip."""

    @property
    def level_bound(self) -> float:
        """Bound of the grey levels, in pixels."""

    def levels(self, index: int) -> NDArray[np.uint8]:
        """Return (2, H, W) grey levels of a field."""

    def flow(self, index: int, *, zero: float) -> NDArray[np.float32]:
        """Return (2, H, W) float32 pixels of a field."""


def read_stack(
    reader: FlowFields,
    indices: Sequence[int],
    *,
    stacking: Stacking = "flow",
) -> NDArray[np.uint8]:
    """Read a stack from stored flow.

    Parameters
    ----------
    reader
        The clip, in any layout.
    indices
        The L fields of the stack, counted from 0.
    stacking
        ``trajectory`` follows the pixels of the first field.

    Returns
    -------
    (2 L, H, W) uint8
        Grey levels, 128 for zero.

    Raises
    ------
    FormatError
        A member is missing or damaged, or the fields differ in size. The clip is named.
    IndexError
        The clip is too short.
    """
    if stacking == "trajectory":
        flow = [reader.flow(index, zero=127.5) for index in indices]
        _check_sizes([field.shape for field in flow], reader)
        return to_uint8(follow(np.stack(flow)), reader.level_bound).reshape(-1, *flow[0].shape[1:])
    levels = [reader.levels(index) for index in indices]
    _check_sizes([field.shape for field in levels], reader)
    return np.concatenate(levels)


def follow(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sample each flow field where the pixels of the first have moved to: trajectory stacking.

    ``p_1 = p`` and ``p_k = p_(k-1) + d_(k-1)(p_(k-1))`` for every pixel p of the first frame;
    bilinear between pixels. A point that leaves the frame is held at its border.

    Parameters
    ----------
    flow
        (L, 2, H, W) float32, in pixels of this resolution, x then y.

    Returns
    -------
    (L, 2, H, W) float32
        ``d_k(p_k)`` at p; the first field is as it was.
    """
    height, width = flow.shape[2:]
    grid = np.indices((height, width), np.float32)
    x, y = grid[1].copy(), grid[0].copy()
    stack = np.empty(flow.shape, np.float32)
    for index, field in enumerate(flow):
        for axis in range(2):
            stack[index, axis] = cv2.remap(
                np.ascontiguousarray(field[axis], np.float32), x, y, cv2.INTER_LINEAR
            )
        np.clip(x + stack[index, 0], 0, width - 1, out=x)
        np.clip(y + stack[index, 1], 0, height - 1, out=y)
    return stack


def _check_sizes(shapes: list[tuple[int, ...]], reader: FlowFields) -> None:
    if len(set(shapes)) > 1:
        sizes = ", ".join(f"{shape[2]}x{shape[1]}" for shape in sorted(set(shapes)))
        raise FormatError(f"flow fields of {str(reader.clip.path)!r} differ in size: {sizes}")
