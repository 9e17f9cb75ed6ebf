"""Put pairs of several clips into one batch, for solvers that compute many as fast as one.

Each clip has a thread that decodes, submits its pairs and encodes the results; one thread
computes. Pairs of the same size go into the same batch, whichever clip they are from, so a short
clip costs no more than its share, and decoding and encoding run beside the solver.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError
from flowpipe.flow.solvers import Solver

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]
_LINGER = 0.005
_SOLVERS = 4


class SolverQueue(Protocol):
    """Compute the flow of pairs of frames, at once or later."""

    ahead: int
    """Number of pairs that a clip submits before it waits for the first."""

    def submit(self, first: Frame, second: Frame) -> Future[Flow]:
        """Submit (H, W) grey or (H, W, 3) RGB frames; return the future of their (2, H, W) flow."""


class SerialSolver:
    """Compute each pair when it is submitted, with one solver per size.

    Parameters
    ----------
    create
        Return the solver for a height and a width.
    """

    ahead = 0

    def __init__(self, create: Callable[[int, int], Solver]) -> None:
        self._create = create
        self._solvers: dict[tuple[int, int], Solver] = {}

    def submit(self, first: Frame, second: Frame) -> Future[Flow]:
        """Compute the flow of one pair in this thread."""
        future: Future[Flow] = Future()
        future.set_result(self.solver(*first.shape[:2])(first[None], second[None])[0])
        return future

    def solver(self, height: int, width: int) -> Solver:
        """Return the solver of a size; the last few are kept."""
        solver = self._solvers.pop((height, width), None) or self._create(height, width)
        self._solvers[height, width] = solver
        if len(self._solvers) > _SOLVERS:
            del self._solvers[next(iter(self._solvers))]
        return solver


class BatchedSolver:
    """Compute pairs of all threads together; a context manager that owns the computing thread.

    A batch starts when it is full, or when nothing more arrives for five milliseconds. What a
    solver raises is raised by every pair of its batch.

    Parameters
    ----------
    create
        Return the solver for a height and a width.
    batch
        Largest number of pairs in a batch.
    clips
        Number of clips processed at once. Together they submit two batches' worth of pairs
        before they wait, so that one batch is gathered while another is computed.
    failure
        Return the exception that the pairs of a batch get for another one that the solver raised,
        a FlowpipeError excepted; by default they get that one.
    """

    def __init__(
        self,
        create: Callable[[int, int], Solver],
        batch: int,
        clips: int,
        failure: Callable[[Exception], Exception] = lambda error: error,
    ) -> None:
        self.ahead = max(2 * batch // clips, 1)
        self._serial = SerialSolver(create)
        self._batch = batch
        self._failure = failure
        self._arrived: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="flow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._arrived.put(None)
        if kind is None:  # interrupted, nobody waits for what is left
            self._thread.join()

    def submit(self, first: Frame, second: Frame) -> Future[Flow]:
        """Submit a pair."""
        request = _Request(first, second)
        self._arrived.put(request)
        return request.future

    def _serve(self) -> None:
        waiting: dict[tuple[int, ...], deque[_Request]] = {}
        open_ = True
        while open_ or waiting:
            open_ = open_ and self._gather(waiting)
            if not waiting:
                continue
            # The fullest size first; of equal ones the one that has waited longest.
            size = max(waiting, key=lambda each: len(waiting[each]))
            line = waiting[size]
            batch = [line.popleft() for _ in range(min(self._batch, len(line)))]
            if not line:
                del waiting[size]
            self._compute(batch)

    def _gather(self, waiting: dict[tuple[int, ...], deque[_Request]]) -> bool:
        """Sort arrived requests by size until a batch is full; return False at the end of all."""
        while all(len(line) < self._batch for line in waiting.values()):
            try:
                request = self._arrived.get(timeout=_LINGER if waiting else None)
            except queue.Empty:
                return True
            if request is None:
                return False
            waiting.setdefault(request.first.shape, deque()).append(request)
        return True

    def _compute(self, batch: list[_Request]) -> None:
        try:
            solver = self._serial.solver(*batch[0].first.shape[:2])
            flows = solver(
                np.stack([request.first for request in batch]),
                np.stack([request.second for request in batch]),
            )
        except Exception as error:
            reason = error if isinstance(error, FlowpipeError) else self._failure(error)
            for request in batch:
                request.future.set_exception(reason)
            return
        for request, flow in zip(batch, flows, strict=True):
            request.future.set_result(flow)


class _Request:
    """Hold a submitted pair and the future of its flow."""

    __slots__ = ("first", "future", "second")

    def __init__(self, first: Frame, second: Frame) -> None:
        self.first = first
        self.second = second
        self.future: Future[Flow] = Future()
