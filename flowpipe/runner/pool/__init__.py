"""A function over many clips: on the processors of this machine, or on a Dask or Ray cluster.

Each worker is one process of one thread that takes one clip at a time, so what a crash costs is
exactly the clip in flight; it is tried once more and then reported. Results do not depend on the
number or the kind of the workers, since a clip's output depends on the clip alone.
"""

from flowpipe.runner.pool.dispatch import ATTEMPTS, over_clips
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
]
