"""Which solver computes the flow: the backends by name, what each lacks here, and the choice."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe import __version__
from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import opencv
from flowpipe.flow.parameters import FlowParameters, Tvl1

Backend = Literal["cuda", "opencv-cuda", "cpu", "opencv-cpu", "opencv-opencl", "torch"]
"""``cuda``, ``cpu`` and ``torch`` are flowpipe's own solver, the others OpenCV's."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)

# OpenCL and torch only on request: how fast they are depends on the driver and the device.
_AUTOMATIC: tuple[Backend, ...] = ("cuda", "opencv-cuda", "cpu", "opencv-cpu")
_OPENCV: dict[Backend, opencv.Runtime] = {
    "opencv-cuda": "cuda",
    "opencv-cpu": "cpu",
    "opencv-opencl": "opencl",
}


class Solver(Protocol):
    """Computes the flow of batches of pairs of one size, for one worker."""

    name: str
    version: str

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, H, W) uint8 grey, twice, to (B, 2, H, W) float32 pixels, x then y."""


def methods(backend: Backend) -> tuple[str, ...]:
    """The methods that a backend has, whether or not it runs here."""
    return opencv.METHODS[_OPENCV[backend]] if backend in _OPENCV else (Tvl1.method,)


def why_unavailable(backend: Backend, method: str) -> str | None:
    """None where the backend can compute the method here, else why not and the way out."""
    if backend in _OPENCV:
        return opencv.why_unavailable(_OPENCV[backend], method)
    if method not in methods(backend):
        return f"flowpipe's own solver is for {Tvl1.method} only; take an opencv backend"
    if backend == "cuda":
        return _why_no_cuda()
    if backend == "torch" and importlib.util.find_spec("torch") is None:
        return "torch is not installed; run: pip install torch torchvision"
    return None


def choose(
    backend: Backend | Literal["auto"], method: str, parameters: FlowParameters | None = None
) -> Backend:
    """The backend to use: the one asked for, or with ``auto`` the best that runs here.

    With the method's parameters, one that has all they ask for.

    Raises
    ------
    BackendUnavailableError
        It cannot run here; for ``auto``, none can.
    """
    asked = _AUTOMATIC if backend == "auto" else (backend,)
    reasons = {}
    for candidate in asked:
        reason = why_unavailable(candidate, method)
        if reason is None and parameters is not None and candidate in _OPENCV:
            reason = opencv.why_unsupported(parameters, _OPENCV[candidate])
        if reason is None:
            return candidate
        if method in methods(candidate) or backend != "auto":
            reasons[candidate] = reason
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise BackendUnavailableError(f"no solver for {method} here: {told}")


def batch_size(backend: Backend) -> int:
    """Pairs that a backend should be given at a time: 1, or enough to fill a GPU."""
    return {"cuda": 64, "torch": 16}.get(backend, 1)


def version(backend: Backend) -> str:
    """Version of the library whose solver the backend is."""
    return opencv.VERSION if backend in _OPENCV else __version__


def create(parameters: FlowParameters, backend: Backend, height: int, width: int) -> Solver:
    """Make the solver for frames of one size.

    Raises
    ------
    BackendUnavailableError, ParameterError
        As the backend's own constructor does.
    """
    if backend in _OPENCV:
        return opencv.OpencvSolver(parameters, _OPENCV[backend], height, width)
    if not isinstance(parameters, Tvl1):
        raise BackendUnavailableError(f"{backend}: {why_unavailable(backend, parameters.method)}")
    from flowpipe.flow.tvl1 import Tvl1Solver

    device = f"torch:{_torch_device()}" if backend == "torch" else backend
    return Tvl1Solver(parameters, height, width, device=device)


def _why_no_cuda() -> str | None:
    # Loading the driver's library tells a machine without one at once; importing torch takes long.
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; it comes with: pip install torch (a CUDA build)"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA device; check the driver with: nvidia-smi"
    return None


def _torch_device() -> str:
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if accelerator is None else accelerator.type
