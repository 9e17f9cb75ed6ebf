"""Who does the work of a run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal, get_args

from flowpipe.errors import ParameterError

Executor = Literal["local", "dask", "ray"]


def default_jobs() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of a run.

    Attributes
    ----------
    jobs
        Clips worked on at once, each by a process of one thread; 0 works in this process. By
        default one a processor, of this machine or of the cluster at ``address``.
    executor
        This machine, or a cluster of Dask or Ray.
    address
        Of a cluster that runs already; without one, a cluster is started on this machine.
    timeout
        Seconds for a clip; one that takes longer fails, and its worker is replaced.

    Raises
    ------
    ParameterError
        A value is out of range, or does not go with another.
    """

    jobs: int | None = None
    executor: Executor = "local"
    address: str | None = None
    timeout: float | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 0:
            raise ParameterError(f"jobs is {self.jobs}; it must be 0 (in this process) or more")
        if self.executor not in get_args(Executor):
            raise ParameterError(
                f"executor is {self.executor!r}; it must be one of {', '.join(get_args(Executor))}"
            )
        if self.executor == "local" and self.address is not None:
            raise ParameterError(
                f"address is {self.address!r}, but the executor is local; it must be dask or ray"
            )
        if self.executor != "local" and self.jobs == 0:
            raise ParameterError(f"jobs is 0; {self.executor} needs at least 1")
        if self.timeout is not None:
            if not (self.timeout > 0 and math.isfinite(self.timeout)):
                raise ParameterError(f"timeout is {self.timeout}; it must be above 0 seconds")
            if self.jobs == 0:
                raise ParameterError("timeout is given, but jobs is 0; it needs worker processes")

    @property
    def here(self) -> int:
        """Clips at once where the workers are on this machine."""
        return default_jobs() if self.jobs is None else self.jobs
