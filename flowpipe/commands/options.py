"""Options shared by several commands."""

from __future__ import annotations

import re
from typing import Annotated, Protocol

from tyro.conf import Positional, arg

from flowpipe.errors import ParameterError
from flowpipe.io.source import Size
from flowpipe.runner.pool import Workers

Inputs = Positional[
    Annotated[tuple[str, ...], arg(name="videos", metavar="VIDEOS", help_behavior_hint="")]
]


WorkerOptions = Annotated[Workers, arg(name="")]


def reporting_workers() -> Workers:
    """Return the default of a command's workers, which print the progress of the run."""
    return Workers(progress=True)


class Command(Protocol):
    """A command with its options."""

    def run(self) -> int:
        """Run the command, and return the exit status."""


def frame_size(size: str | None, short_side: int | None, default: str | None = None) -> Size:
    """Return the frame size that ``--size`` and ``--short-side`` ask for.

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
