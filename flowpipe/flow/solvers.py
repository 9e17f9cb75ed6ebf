"""Which solver computes the flow: the backends by name, what each lacks here, and the choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import opencv
from flowpipe.flow.parameters import FlowParameters

Backend = Literal["opencv-cuda", "opencv-cpu", "opencv-opencl"]
"""In the order in which ``auto`` prefers them; OpenCL only on request, for its drivers vary."""

BACKENDS: tuple[Backend, ...] = get_args(Backend)
_AUTOMATIC: tuple[Backend, ...] = ("opencv-cuda", "opencv-cpu")
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
    return opencv.METHODS[_OPENCV[backend]]


def why_unavailable(backend: Backend, method: str) -> str | None:
    """None where the backend can compute the method here, else why not and the way out."""
    return opencv.why_unavailable(_OPENCV[backend], method)


def choose(backend: Backend | Literal["auto"], method: str) -> Backend:
    """The backend to use: the one asked for, or with ``auto`` the best that runs here.

    Raises
    ------
    BackendUnavailableError
        It cannot run here; for ``auto``, none can.
    """
    asked = _AUTOMATIC if backend == "auto" else (backend,)
    reasons = {}
    for candidate in asked:
        reason = why_unavailable(candidate, method)
        if reason is None:
            return candidate
        reasons[candidate] = reason
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise BackendUnavailableError(f"no solver for {method} here: {told}")


def version(backend: Backend) -> str:
    """Version of the library whose solver the backend is."""
    return opencv.VERSION


def create(parameters: FlowParameters, backend: Backend, height: int, width: int) -> Solver:
    """Make the solver for frames of one size.

    Raises
    ------
    BackendUnavailableError, ParameterError
        As the backend's own constructor does.
    """
    return opencv.OpencvSolver(parameters, _OPENCV[backend], height, width)


SolverFactory = Callable[[FlowParameters, Backend, int, int], Solver]
