"""A GPU solver is used only after it has agreed with the CPU on a small pair of frames.

Drivers, compilers and builds of OpenCV differ between machines, and a solver that computes
something else would not be noticed in the flow of thousands of clips.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (48, 64)
"""Height and width of the frames, in pixels."""
TIMEOUT = 300.0
"""Seconds that the first pair may take: kernels are compiled meanwhile."""

Solve = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def pair() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return two textured frames, (1, 48, 64) uint8 each; the second has moved by (1.5, -0.5)."""
    height, width = SIZE
    noise = np.random.default_rng(0).random((height + 8, width + 8)) * 255
    texture = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 1.5)
    low, high = float(texture.min()), float(texture.max())
    texture = (texture - low) * (255 / (high - low))
    moved = np.array([[1, 0, 1.5], [0, 1, -0.5]], np.float32)
    second = cv2.warpAffine(texture, moved, (width + 8, height + 8), flags=cv2.INTER_CUBIC)
    crop = (slice(4, 4 + height), slice(4, 4 + width))
    frames = [np.clip(each[crop], 0, 255).astype(np.uint8)[None] for each in (texture, second)]
    return frames[0], frames[1]


def disagreement(
    make: Callable[[], Solve],
    make_reference: Callable[[], Solve],
    *,
    largest: float | None,
    median: float,
    timeout: float | None = None,
) -> str | None:
    """Return why a solver is not to be trusted, None if it agrees with the reference.

    Parameters
    ----------
    make, make_reference
        Return the solver under test, and the one on the CPU, for frames of :data:`SIZE`.
    largest
        Largest distance of the two flows at any pixel, in pixels; None does not limit it, for
        solvers whose schemes differ at borders.
    median
        Largest median distance, in pixels.
    timeout
        Seconds until a solver is given up as hanging; by default :data:`TIMEOUT`.
    """
    first, second = pair()
    result: dict[str, Any] = {}

    def compute() -> None:
        try:
            result["flow"] = make()(first, second)
        except Exception as error:  # whatever a driver raises
            result["error"] = f"{type(error).__name__}: {error}"

    # A hanging driver call cannot be interrupted; the thread is left behind.
    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    seconds = TIMEOUT if timeout is None else timeout
    thread.join(seconds)
    if not result:
        return f"it has not computed a pair of 64x48 frames in {seconds:g} seconds"
    if "error" in result:
        return f"it fails on a pair of 64x48 frames with {result['error']}"
    found, expected = result["flow"], make_reference()(first, second)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return "its flow of a pair of 64x48 frames has another shape, or values that are not finite"
    distance = np.hypot(*(found - expected)[0])
    worst, middle = float(distance.max()), float(np.median(distance))
    if middle > median or (largest is not None and worst > largest):
        allowed = f"median {median:g}" if largest is None else f"{largest:g} at any pixel"
        return (
            f"its flow of a pair of 64x48 frames is off by {worst:.3g} pixels (median "
            f"{middle:.3g}) from that of the CPU; allowed is {allowed}"
        )
    return None
