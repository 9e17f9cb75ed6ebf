"""Options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated, Protocol

from tyro.conf import Positional, arg

from flowpipe.errors import ParameterError
from flowpipe.execution import default_jobs
from flowpipe.footage import Size
from flowpipe.runs import Shard

Inputs = Positional[
    Annotated[tuple[str, ...], arg(name="videos", metavar="VIDEOS", help_behavior_hint="")]
]
Jobs = Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all processors)")]


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Do it, and return the exit status."""


def processes(asked: int | None) -> int:
    """Worker processes: as many as asked for, or one a processor."""
    return default_jobs() if asked is None else asked


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
