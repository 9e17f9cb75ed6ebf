"""What stands on a cluster's machine: worker processes of its own for one clip each.

A worker of Dask or Ray does not do the work itself but has a process for it, as a run on one
machine has. So a crash in a decoder and a clip that takes too long cost the clip and not the
cluster's worker, the libraries have one thread each, and the cluster's own heartbeat is not held
up by compiled code.
"""

from __future__ import annotations

import multiprocessing
import pickle
from typing import Any

from flowpipe.runner.pool.local import Crew
from flowpipe.runner.pool.results import Fatal, Lost, Outcome

Result = tuple[int, Outcome[Any] | Fatal | Lost]
"""Units done, and how the clip ended."""


class Host:
    """One worker process, on the machine where this is.

    Parameters
    ----------
    work
        Pickled.
    timeout
        Seconds for a clip; None for no limit.
    """

    def __init__(self, work: bytes, timeout: float | None) -> None:
        # Dask's nannies start their workers as daemons, which multiprocessing allows no children.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        self._units = 0
        self._crew = Crew(pickle.loads(work), 1, timeout, self._count)

    def do(self, clip: Any) -> Result:
        """Have the process do a clip, and wait for it."""
        self._units = 0
        self._crew.give(clip)
        while not (ended := self._crew.take()):
            pass
        return self._units, ended[0][1]

    def close(self) -> None:
        """End the process."""
        self._crew.close()

    def _count(self, units: int) -> None:
        self._units += units
