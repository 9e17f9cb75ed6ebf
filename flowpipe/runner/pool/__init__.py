"""Process many clips in parallel: on the cores of this machine, or on a Dask or Ray cluster.

Each worker is a process with one thread that processes one clip at a time, so a crash costs
exactly one clip; it is tried once more and then reported. Results do not depend on the number or
the kind of workers, because the output for a clip depends on that clip alone.
"""

from flowpipe.runner.pool.dispatch import ATTEMPTS, over_clips
from flowpipe.runner.pool.on_devices import DeviceFailedError, DeviceWork, over_clips_on_devices
from flowpipe.runner.pool.results import (
    Advance,
    C,
    Done,
    Named,
    Outcome,
    RunStoppedError,
    Work,
)
from flowpipe.runner.pool.threads import over_clips_in_threads
from flowpipe.runner.pool.workers import Executor, Workers, as_workers, default_jobs

__all__ = [
    "ATTEMPTS",
    "Advance",
    "C",
    "DeviceFailedError",
    "DeviceWork",
    "Done",
    "Executor",
    "Named",
    "Outcome",
    "RunStoppedError",
    "Work",
    "Workers",
    "as_workers",
    "default_jobs",
    "over_clips",
    "over_clips_in_threads",
    "over_clips_on_devices",
]
