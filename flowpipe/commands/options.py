"""Options that several commands share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Protocol

from tyro.conf import Positional, arg

from flowpipe.errors import ParameterError
from flowpipe.io.source import Size
from flowpipe.runner.pool import Executor, Workers
from flowpipe.runner.run import Shard

Inputs = Positional[
    Annotated[tuple[str, ...], arg(name="videos", metavar="VIDEOS", help_behavior_hint="")]
]


@dataclass(frozen=True)
class WorkerOptions:
    """Who does the work of a run."""

    jobs: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: all processors)")
    ] = None
    """Worker processes, of one thread each: clips that are worked on at once. 0 works in this
    process."""
    executor: Executor = "local"
    """Where the workers are: on this machine, or on a Dask or Ray cluster (docs/clusters.md)."""
    address: Annotated[
        str | None, arg(metavar="URL", help_behavior_hint="(default: one is started here)")
    ] = None
    """Cluster of --executor that runs already, such as tcp://host:8786 or ray://host:10001."""
    timeout: Annotated[float | None, arg(metavar="S", help_behavior_hint="(default: none)")] = None
    """Seconds for a clip. A worker that takes longer is replaced, and the clip fails."""

    def chosen(self) -> Workers:
        """The workers."""
        return Workers(self.jobs, self.executor, self.address, self.timeout)


Workforce = Annotated[WorkerOptions, arg(name="")]


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Do it, and return the exit status."""


def part(text: str | None) -> Shard:
    """The part of the clips that ``--shard`` names, or all of them."""
    return Shard() if text is None else Shard.parse(text)


def frame_size(size: str | None, short_side: int | None, default: str | None = None) -> Size:
    """What ``--size`` and ``--short-side`` ask for.

    Raises
    ------
    ParameterError
        Both are given, or the size is not ``WIDTHxHEIGHT``.
    """
    if size is not None and short_side is not None:
        raise ParameterError("--size and --short-side exclude each other")
    if short_side is not None:
        return short_side
    text = default if size is None else size
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ParameterError(f"--size is {text!r}; it must be WIDTHxHEIGHT, such as 340x256")
    return int(match[1]), int(match[2])
