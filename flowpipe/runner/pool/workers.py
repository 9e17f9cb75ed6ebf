"""Options for the workers that process the clips of a run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

from tyro.conf import Suppress, arg

from flowpipe.errors import ParameterError

Executor = Literal["local", "dask", "ray"]


def default_jobs() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers of a run; these are also options of the commands.

    Raises
    ------
    ParameterError
        A value is out of range, or contradicts another.

    Examples
    --------
    Two worker processes, and at most ten minutes per clip:

    >>> import flowpipe
    >>> flowpipe.Workers(jobs=2, timeout=600).local_jobs
    2
    """

    jobs: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: one per core)")] = (
        None
    )
    """Number of clips processed at once, each in a worker process; 0 uses this process."""
    executor: Executor = "local"
    """Where the workers run: on this machine, or on a Dask or Ray cluster (docs/clusters.md)."""
    address: Annotated[
        str | None, arg(metavar="URL", help_behavior_hint="(default: start a cluster here)")
    ] = None
    """Address of a running Dask or Ray cluster, such as tcp://host:8786 or ray://host:10001."""
    timeout: Annotated[float | None, arg(metavar="S", help_behavior_hint="(default: none)")] = None
    """Time limit per clip in seconds. A clip that exceeds it fails, and its worker is replaced."""
    progress: Suppress[bool] = False
    """Print the progress of the run on standard error."""

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
    def local_jobs(self) -> int:
        """Number of clips processed at once by workers on this machine."""
        return default_jobs() if self.jobs is None else self.jobs

    def within_memory(self, bytes_each: int) -> Workers:
        """Return as many of the workers as fit into half of this machine's memory, at least one.

        Workers of a cluster are returned unchanged.
        """
        if self.executor != "local" or self.jobs == 0:
            return self
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        fitting = max(1, memory // 2 // max(1, bytes_each))
        return replace(self, jobs=min(self.local_jobs, fitting))


def as_workers(workers: Workers | int | None) -> Workers:
    """Return workers that are given as such, as a number of processes, or as None (one per core).

    Raises
    ------
    ParameterError
        The number is negative.
    """
    return workers if isinstance(workers, Workers) else Workers(workers)
