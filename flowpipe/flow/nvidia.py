"""Flow of NVIDIA's optical flow hardware (Turing and later), through an OpenCV built with CUDA.

NVIDIA Optical Flow SDK 2.0, a vector per pixel. Turing cards have one per 4x4 pixels only, and
refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendUnavailableError, ParameterError
from flowpipe.flow import opencv

_FACTORY = "NvidiaOpticalFlow_2_0_create"
_PRESETS = {"slow": 5, "medium": 10, "fast": 20}
_MISSING = (
    "this cv2 has no cv2.cuda.NvidiaOpticalFlow_2_0; it comes with OpenCV's cudaoptflow module, "
    "built with CUDA and NVIDIA's Optical Flow SDK (docs/opencv_cuda.md)"
)


@dataclass(frozen=True, slots=True)
class Nvidia:
    """Flow of NVIDIA's optical flow hardware."""

    method: ClassVar[str] = "nvidia"

    quality: Literal["slow", "medium", "fast"] = "slow"
    """Preset of the hardware: slow has the best flow."""

    def __post_init__(self) -> None:
        if self.quality not in _PRESETS:
            raise ParameterError(f"quality is {self.quality!r}; it must be {' or '.join(_PRESETS)}")


def why_unavailable(backend: str) -> str | None:
    """Return the reason if the hardware cannot be used here, else None."""
    if not hasattr(getattr(cv2, "cuda", None), _FACTORY):
        return _MISSING
    return opencv.why_no_cuda_device()


class NvidiaSolver:
    """Flow of pairs of grey frames of one size.

    Parameters
    ----------
    parameters
        The preset.
    backend
        ``opencv-cuda``.
    height, width
        Size of the frames in pixels.
    device
        None: the first device that cv2 sees.

    Raises
    ------
    BackendUnavailableError
        This machine has no such hardware, or its card has no vector per pixel.
    """

    def __init__(
        self, parameters: Nvidia, backend: str, height: int, width: int, device: str | None
    ) -> None:
        self.name, self.version = backend, opencv.VERSION
        if reason := why_unavailable(backend):
            raise BackendUnavailableError(f"nvidia with {backend}: {reason}")
        create = getattr(cv2.cuda, _FACTORY)
        try:
            # Size, preset, grids of the flow and of hints; no hints, no costs; the first GPU.
            preset = _PRESETS[parameters.quality]
            self._solver: Any = create((width, height), preset, 1, 1, False, False, False, 0)
        except cv2.error as error:
            raise BackendUnavailableError(
                f"nvidia with {backend}: the hardware refuses {width}x{height} frames with a "
                f"vector per pixel ({error.err or error}); that takes an Ampere card or later"
            ) from None

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, 2, H, W) flow of (N, H, W) grey frames, in pixels."""
        flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
        for one, other, out in zip(first, second, flow, strict=True):
            vectors = self._solver.calc(_upload(one), _upload(other), None)[0]
            # The hardware's vectors are integers, in 1/32 of a pixel.
            out[...] = self._solver.convertToFloat(vectors, None).download().transpose(2, 0, 1)
        return flow


def _upload(image: NDArray[np.uint8]) -> Any:
    on_device = cv2.cuda.GpuMat()
    on_device.upload(np.ascontiguousarray(image))
    return on_device
