"""Process clips in a child process of a Dask or Ray worker.

A crash in a decoder, or a clip that exceeds its time limit, then costs that clip and not the
cluster's worker; libraries use one thread each; and compiled code does not delay the heartbeat of
the worker.
"""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

from flowpipe.runner.pool.local import LocalPool
from flowpipe.runner.pool.results import Fatal, Lost, Outcome

Result = tuple[int, Outcome[Any] | Fatal | Lost]
"""Units processed, and the outcome of the clip."""


class WorkerHost:
    """Own one worker process, on the machine where this object lives.

    Parameters
    ----------
    work
        The pickled function for one clip.
    timeout
        Time limit per clip in seconds; None for no limit.
    """

    def __init__(self, work: bytes, timeout: float | None) -> None:
        # Dask starts its workers as daemons, which multiprocessing does not allow to have children.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        self._units = 0
        self._pool = LocalPool(pickle.loads(work), 1, timeout, self._count)

    def process(self, clip: Any) -> Result:
        """Process a clip in the child process, and wait for it."""
        self._units = 0
        self._pool.submit(clip)
        while not (ended := self._pool.wait()):
            pass
        return self._units, ended[0][1]

    def close(self) -> None:
        """Stop the process."""
        self._pool.close()

    def _count(self, units: int) -> None:
        self._units += units
