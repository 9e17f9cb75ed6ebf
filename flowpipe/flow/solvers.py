"""The solvers by name: which can run here, and the choice among them."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe import __version__
from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import methods as table
from flowpipe.flow import opencv, self_check
from flowpipe.flow.devices import first_device
from flowpipe.flow.parameters import FlowParameters, Tvl1

logger = logging.getLogger(__name__)

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
        """Compute flow of (B, H, W) uint8 frames: (B, 2, H, W) float32 pixels, x then y.

        The frames are grey, or (B, H, W, 3) RGB for the methods that take colour.
        """


def methods(backend: Backend) -> tuple[str, ...]:
    """Return the methods that a backend has, whether or not it runs here."""
    return tuple(name for name, entry in table.METHODS.items() if backend in entry.backends)


def why_unavailable(backend: Backend, method: str) -> str | None:
    """Return the reason if a backend cannot compute a method here, with what to do; else None."""
    entry = table.method(method)
    if backend not in entry.backends:
        return f"{backend} has no {method}; take --backend {' or '.join(entry.backends)}"
    if entry.why_unavailable is not None:
        return entry.why_unavailable(backend)
    if entry.create is not None:
        return None
    if backend in _OPENCV:
        return opencv.why_unavailable(_OPENCV[backend], method)
    if backend == "cuda":
        return _why_no_cuda()
    if backend == "torch" and importlib.util.find_spec("torch") is None:
        return "torch is not installed; run: pip install torch torchvision"
    return None


def choose(
    backend: Backend | Literal["auto"], method: str, parameters: FlowParameters | None = None
) -> Backend:
    """Return the backend to use: the one asked for, or with ``auto`` the best that runs here.

    Parameters
    ----------
    backend
        A backend, or ``auto``.
    method
        The flow method.
    parameters
        Parameters that the backend must support.

    Raises
    ------
    BackendUnavailableError
        It cannot run here, or its flow differs from that of the CPU; for ``auto``, none can.
    """
    entry = table.method(method)
    automatic = tuple(name for name in BACKENDS if name in (*_AUTOMATIC, *_own(entry)))
    asked = automatic if backend == "auto" else (backend,)
    reasons = {}
    for candidate in asked:
        reason = why_unavailable(candidate, method)
        if reason is None and parameters is not None and candidate in _OPENCV:
            reason = opencv.why_unsupported(parameters, _OPENCV[candidate])
        if reason is None:
            reason = why_not_trusted(candidate, method)
            if reason is not None and backend == "auto":
                logger.warning(f"{candidate} is not used for {method}: {reason}")
        if reason is None:
            return candidate
        if method in methods(candidate) or backend != "auto":
            reasons[candidate] = reason
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise BackendUnavailableError(f"no solver for {method} here: {listed}")


def usable(recorded: str, method: str) -> Backend | Literal["auto"]:
    """Return the backend that a record names if it runs here, else auto."""
    for backend in BACKENDS:
        if backend == recorded and why_unavailable(backend, method) is None:
            return backend
    return "auto"


def _own(entry: table.Method) -> tuple[str, ...]:
    """Return the backends that ``auto`` may choose for a method with a solver of its own."""
    return entry.backends if entry.create is not None else ()


@functools.cache
def why_not_trusted(backend: Backend, method: str, device: str | None = None) -> str | None:
    """Return why the flow of a GPU solver is not to be used; None for solvers on the CPU.

    A process checks a solver on a device once, by default on the first.
    """
    if backend not in ("cuda", "opencv-cuda") or table.method(method).create is not None:
        return None
    parameters = table.method(method).parameters()
    # OpenCV has no Brox on the CPU; the published method nearest to it there is TV-L1.
    reference: tuple[Any, Backend] = (parameters, "opencv-cpu")
    if method == "tvl1" or "opencv-cpu" not in table.method(method).backends:
        reference = (Tvl1(), "cpu")
    is_own = backend == "cuda"
    return self_check.disagreement(
        lambda: create(parameters, backend, *self_check.SIZE, device=device),
        lambda: create(*reference, *self_check.SIZE),
        largest=1e-3 if is_own else None,
        median=1e-3 if is_own else 0.3 if method == "brox" else 0.05,
    )


def batch_size(backend: Backend) -> int:
    """Return the number of pairs to give a backend at a time: 1, or enough to fill a GPU."""
    return {"cuda": 64, "torch": 16}.get(backend, 1)


def version(backend: Backend) -> str:
    """Return the version of the library whose solver the backend is."""
    return opencv.VERSION if backend in _OPENCV else __version__


def create(
    parameters: FlowParameters,
    backend: Backend,
    height: int,
    width: int,
    *,
    device: str | None = None,
) -> Solver:
    """Return the solver for frames of one size.

    `device` is the torch device that the backends ``cuda`` and ``torch`` compute on, by default
    the first accelerator.

    Raises
    ------
    BackendUnavailableError, ParameterError
        As the backend's own constructor does.
    """
    entry = table.method(parameters.method)
    if entry.create is not None:
        return entry.create(parameters, backend, height, width, device)
    if backend in _OPENCV:
        return opencv.OpencvSolver(parameters, _OPENCV[backend], height, width)
    if not isinstance(parameters, Tvl1):
        raise BackendUnavailableError(f"{backend}: {why_unavailable(backend, parameters.method)}")
    from flowpipe.flow.tvl1 import Tvl1Solver

    where: str = backend
    if backend == "cuda" and device is not None:
        where = device
    elif backend == "torch":
        where = f"torch:{device or first_device()}"
    return Tvl1Solver(parameters, height, width, device=where)


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
