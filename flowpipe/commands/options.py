"""Options shared by several commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Protocol

from tyro.conf import Positional, arg

from flowpipe.errors import ParameterError
from flowpipe.io.source import Size
from flowpipe.runner.pool import Workers

Inputs = Positional[
    Annotated[tuple[str, ...], arg(name="videos", metavar="VIDEOS", help_behavior_hint="")]
]


Lists = Annotated[tuple[Path, ...], arg(metavar="FILE", help_behavior_hint="(default: its own)")]
ProtocolName = Annotated[
    str | None,
    arg(
        metavar="official|loo|K-fold|FILE",
        help_behavior_hint="(default: official splits, or loo where there are none)",
    ),
]
Splits = Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")]
WorkerOptions = Annotated[Workers, arg(name="")]


def reporting_workers() -> Workers:
    """Return the default of a command's workers, which print the progress of the run."""
    return Workers(progress=True)


class Command(Protocol):
    """A command with its options."""

    def run(self) -> int:
        """Run the command, and return the exit status."""


def frame_size(size: str | None, short_side: int | None, default: str | None = None) -> Size:
    """Return the frame size that ``--frame-size`` and ``--short-side`` ask for.

    Raises
    ------
    ParameterError
        Both are given, or the size is not ``WIDTHxHEIGHT``.
    """
    if size is not None and short_side is not None:
        raise ParameterError("--frame-size and --short-side exclude each other")
    if short_side is not None:
        return short_side
    text = default if size is None else size
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ParameterError(f"--frame-size is {text!r}; it must be WIDTHxHEIGHT, such as 340x256")
    return int(match[1]), int(match[2])


def option_value(arguments: Sequence[str], option: str, default: str) -> str:
    """Return the value of an option, before the arguments are parsed.

    The last one counts, as for the parser. Underscores and hyphens are the same.
    """
    value = default
    for index, argument in enumerate(arguments):
        name, has_value, text = argument.partition("=")
        if name.replace("_", "-") != option:
            continue
        if has_value:
            value = text
        elif index + 1 < len(arguments):
            value = arguments[index + 1]
    return value
