"""Errors that flowpipe raises on purpose; anything else that escapes is a defect."""

from __future__ import annotations

import math


class FlowpipeError(Exception):
    """Base of every error that a user can cause and can mend.

    The message names the file or the parameter, its value, and what would be right.
    """


class ParameterError(FlowpipeError, ValueError):
    """A parameter has a value outside its range, or two parameters contradict each other."""


class BackendUnavailableError(FlowpipeError):
    """A solver was asked for that this machine cannot run; the message says how to get it."""


class FormatError(FlowpipeError):
    """A file does not hold what its name or its place says it holds."""


def check_range(
    name: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> None:
    """Raise a ParameterError unless ``low <= value <= high`` (``low < value`` with open_low)."""
    if not (low < value if open_low else low <= value) or not value <= high:
        at_least = f"{'more than' if open_low else 'at least'} {low:g}" if low > -math.inf else ""
        at_most = f"at most {high:g}" if high < math.inf else ""
        bounds = " and ".join(part for part in (at_least, at_most) if part) or "a number"
        raise ParameterError(f"{name} is {value!r}; it must be {bounds}")
