"""Errors that flowpipe raises on purpose; any other exception that escapes is a bug."""

from __future__ import annotations

import math
from typing import ClassVar

FAILURE_KINDS = {
    "unreadable": "The file cannot be opened: check that it exists and that you may read it.",
    "not-a-video": "The file is no video, or is empty: leave it out.",
    "no-video-stream": "The file has sound or subtitles only: leave it out.",
    "no-frames": "No frame of the video can be decoded: get another copy.",
    "video": "The video cannot be used; the reason says why.",
    "truncated": "The file ends too early: get a complete copy, or use `--keep-truncated`.",
    "damaged": "Part of a file is damaged: get another copy; a video can be kept by "
    "`--keep-damaged`.",
    "changed": "The file was written to while it was read: run again.",
    "too-short": "The clip has too few frames for one result: leave it out, or ask for less.",
    "name-too-long": "The file system cannot store the name of an output: rename the source.",
    "name-taken": "The output belongs to another source: use another `--out`, or `--overwrite`.",
    "frames-gone": "The frames are needed, and the video is missing: put it back, or use "
    "`--frames` when flow is extracted.",
    "no-trajectories": "The clip has no trajectories that can be encoded.",
    "format": "A file does not hold what is expected; the reason names it.",
    "parameter": "An option does not fit this clip; the reason names it.",
    "unavailable": "The solver does not run on this machine; see `flowpipe doctor`.",
    "os": "The operating system refused to read or write a file; the reason names it.",
    "timeout": "The clip took longer than `--timeout`.",
    "worker-died": "The worker process died twice, of a crash in a decoder or for lack of memory: "
    "use fewer `--jobs`.",
    "internal": "A bug of flowpipe: please report it with the traceback in `detail`.",
    "other": "Another error; the reason says which.",
}
"""Every kind of failure that a run records for a clip: its meaning, and what to do."""


class FlowpipeError(Exception):
    """Base of every error that a user can cause and can correct.

    The message names the file or the parameter, its value, and what would be right. ``kind`` is a
    key of :data:`FAILURE_KINDS`.

    Examples
    --------
    >>> import flowpipe
    >>> try:
    ...     flowpipe.read_flow("no-such-folder")
    ... except flowpipe.FlowpipeError as error:
    ...     print(error)
    'no-such-folder' does not exist; a folder or file of flow is expected
    """

    kind: ClassVar[str] = "other"


class ParameterError(FlowpipeError, ValueError):
    """A parameter is out of range, or contradicts another."""

    kind = "parameter"


class BackendUnavailableError(FlowpipeError):
    """A solver cannot run on this machine; the message says what it needs."""

    kind = "unavailable"


class FormatError(FlowpipeError):
    """A file does not hold what its name or its location says."""

    kind = "format"


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
        bounds = " and ".join(bound for bound in (at_least, at_most) if bound) or "a number"
        raise ParameterError(f"{name} is {value!r}; it must be {bounds}")
