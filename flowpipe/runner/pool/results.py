"""The work for one clip, and its outcome."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from flowpipe.errors import FlowpipeError

Advance = Callable[[int], None]
"""Called by the work with the number of units (pairs, frames) processed since the last call."""

_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Done:
    """Return value of the work for a clip.

    Attributes
    ----------
    skipped
        The output existed and is up to date.
    warning
        What the user should know about a clip that succeeded.
    """

    skipped: bool = False
    warning: str | None = None


class Named(Protocol):
    """Anything picklable with a unique name; here called a clip."""

    @property
    def name(self) -> str:
        """Name of the clip, unique in the run."""

    @property
    def path(self) -> Path:
        """File or folder that the clip is read from."""


C = TypeVar("C", bound=Named)
C_contra = TypeVar("C_contra", bound=Named, contravariant=True)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[C]):
    """Outcome of a clip.

    Attributes
    ----------
    kind
        For a failure, a key of :data:`flowpipe.errors.FAILURE_KINDS`.
    reason
        For a failure the message; for a clip that is done, a warning or None.
    detail
        Traceback of an exception that is not raised on purpose.
    """

    clip: C
    status: Literal["done", "skipped", "failed"]
    kind: str | None = None
    reason: str | None = None
    detail: str | None = None


class Work(Protocol[C_contra]):
    """Function for one clip; pickled once and sent to every worker."""

    def __call__(self, clip: C_contra, advance: Advance, /) -> Done:
        """Write the output of a clip, unless it is up to date."""


class RunStoppedError(FlowpipeError):
    """A run cannot continue: the disk is full or read-only, or the workers are gone."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Result of a clip that could not be written, where no other clip could be either."""

    clip: str
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Result of a clip whose worker died."""

    reason: str


def attempt(work: Work[C], clip: C, advance: Advance) -> Outcome[C] | Fatal:
    """Process a clip; an exception becomes an outcome."""
    try:
        done = work(clip, advance)
    except FlowpipeError as error:
        return Outcome(clip, "failed", error.kind, str(error))
    except OSError as error:
        if error.errno in _FATAL:
            return Fatal(clip.name, error.errno, str(error))
        return Outcome(clip, "failed", "os", f"{type(error).__name__}: {error}")
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return Outcome(clip, "failed", "internal", reason, traceback.format_exc())
    return Outcome(clip, "skipped" if done.skipped else "done", reason=done.warning)


def unless_fatal(result: Outcome[Any] | Fatal) -> Outcome[Any]:
    """Return the outcome of a clip.

    Raises
    ------
    RunStoppedError
        The result is fatal.
    """
    if isinstance(result, Fatal):
        read_only = result.errno == errno.EROFS
        cause = "the output folder is read-only" if read_only else "the disk is full"
        raise RunStoppedError(
            f"stopped at {result.clip!r}: {cause} ({result.reason}). Finished clips are complete; "
            "free some space and run the same command again to resume"
        )
    return result
