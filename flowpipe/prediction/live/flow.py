"""Flow of frames as they come, in the levels that a network was trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Dis, FlowParameters, Tvl1
from flowpipe.flow.quantize import from_uint8, to_uint8
from flowpipe.flow.solvers import Backend, Solver
from flowpipe.flow.store import layout
from flowpipe.flow.store.as_stored import AsStored, image_as_stored
from flowpipe.flow.warp import without_camera
from flowpipe.prediction.live.parameters import LiveFlow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LiveMethod:
    """How flow is computed of live frames.

    Attributes
    ----------
    parameters, backend
        The method, and its solver.
    step
        Frames from the first to the second frame of a pair; negative for backward flow.
    bound
        Displacement in pixels that saturates the levels.
    eight_bit
        Whether the network was trained on flow that was stored in levels.
    warped
        Whether the camera's motion is removed.
    stored, warped_stored
        How the flow, and the flow without the camera's motion, was stored for training; what that
        does to it is left out if None.
    frames_quality
        JPEG quality of the frames that were stored with the flow, in which the camera was
        followed; None if it was followed in the frames of the video.
    """

    parameters: FlowParameters
    backend: Backend
    step: int
    bound: float
    eight_bit: bool
    warped: bool
    stored: AsStored | None = None
    warped_stored: AsStored | None = None
    frames_quality: int | None = None


def live_method(
    stage: FlowStage, choice: LiveFlow, given_bound: float, *, warped: bool
) -> LiveMethod:
    """Return how flow is computed of live frames.

    Parameters
    ----------
    stage
        Of the flow that the network was trained on.
    choice
        The option.
    given_bound
        Bound in pixels of flow that was stored as floating point.
    warped
        Whether the network was trained on flow without the camera's motion.

    Raises
    ------
    ParameterError
        The camera cannot be followed with the step of the flow.
    BackendUnavailableError
        The flow cannot be computed on this machine.
    """
    if warped and stage.step != 1:
        raise ParameterError(
            f"step of the warped flow is {stage.step}; the camera is followed from frame to frame"
        )
    trained = stage.parameters
    chosen: dict[LiveFlow, FlowParameters] = {
        "auto": Tvl1.fast() if isinstance(trained, Tvl1) else trained,
        "trained": trained,
        "fast": Tvl1.fast(),
        "dis": Dis(preset="fast"),
    }
    parameters = chosen[choice]
    backend = (
        stage.solver
        if parameters == trained
        else solvers.choose("auto", parameters.method, parameters)
    )
    eight_bit = layout(stage.layout).eight_bit
    bound = stage.stored_bound if eight_bit else given_bound
    return LiveMethod(parameters, backend, stage.step, bound, eight_bit, warped)


class FrameFlow:
    """Compute the flow of neighbouring frames, one frame after the other."""

    def __init__(self, method: LiveMethod) -> None:
        self._method = method
        self._greys: deque[NDArray[np.uint8]] = deque(maxlen=abs(method.step) + 1)
        self._solver: tuple[tuple[int, ...], Solver] | None = None
        self._own: _WithoutCamera | None = None
        self._before: NDArray[np.uint8] | None = None

    def restart(self) -> None:
        """Forget the frames: the next one does not follow them."""
        self._greys.clear()
        self._own = self._before = None

    def add(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the flow that ends in a frame.

        Parameters
        ----------
        image
            (H, W, 3) uint8 BGR, of the same size since the last restart.

        Returns
        -------
        (2, H, W) uint8, or None
            Levels, 128 for zero; None where there is no frame before it yet.
        """
        method = self._method
        grey = _grey(image)
        self._greys.append(grey)
        camera, before = grey, self._before
        if method.frames_quality is not None:
            camera = _grey(image_as_stored(image, method.frames_quality))
        self._before = camera
        if before is None or len(self._greys) < abs(method.step) + 1:
            return None
        first, second = self._greys[0], grey
        if method.step < 0:
            first, second = second, first
        flow = self._solve(first, second)
        if not method.warped:
            return self._levels(flow, method.stored)
        if method.stored is not None:  # what is stored is what the camera's motion is taken out of
            flow = method.stored.flow(flow)
        elif method.eight_bit:
            flow = from_uint8(to_uint8(flow, method.bound), method.bound, zero=127.5)
        self._own = self._own or _WithoutCamera(before)
        return self._levels(self._own.of(camera, flow), method.warped_stored)

    def _levels(self, flow: NDArray[np.float32], stored: AsStored | None) -> NDArray[np.uint8]:
        return to_uint8(flow, self._method.bound) if stored is None else stored.levels(flow)

    def _solve(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._solver is None or self._solver[0] != first.shape:
            height, width = first.shape
            solver = solvers.create(self._method.parameters, self._method.backend, height, width)
            self._solver = first.shape, solver
        flow: NDArray[np.float32] = self._solver[1](first[None], second[None])[0]
        return flow


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


class _WithoutCamera:
    """:func:`flowpipe.flow.warp.without_camera`, one frame after the other."""

    def __init__(self, first: NDArray[np.uint8]) -> None:
        self._greys, self._flows = deque([first]), deque[NDArray[np.float32]]()
        self._fields = without_camera(_popped(self._greys), _popped(self._flows))

    def of(self, grey: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float32]:
        self._greys.append(grey)
        self._flows.append(flow)
        return next(self._fields)


def _popped(items: deque[T]) -> Iterator[T]:
    while True:
        yield items.popleft()
