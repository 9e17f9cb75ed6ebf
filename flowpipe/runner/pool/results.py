"""What is done to a clip, and how it ends."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from flowpipe.errors import FlowpipeError

Advance = Callable[[int], None]
"""Called by the work with the number of units (frame pairs, frames) done since the last call."""

_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True)
class Done:
    """What the work returns for a clip.

    Attributes
    ----------
    skipped
        The output was there already.
    warning
        What the user should know of a clip that is done all the same.
    """

    skipped: bool = False
    warning: str | None = None


class Named(Protocol):
    """A clip, to this package: something with a name of its own, that can be pickled."""

    @property
    def name(self) -> str:
        """Tells the clip from all others of the run."""

    @property
    def path(self) -> Path:
        """Where it is read from, for reports."""


C = TypeVar("C", bound=Named)
C_contra = TypeVar("C_contra", bound=Named, contravariant=True)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[C]):
    """How a clip ended.

    Attributes
    ----------
    kind
        For a failure, a stable word: the error's own, ``worker-died``, ``timeout`` or ``internal``.
    reason
        For a failure the message, for a clip that is done a warning or None.
    detail
        Traceback of an error that flowpipe does not raise on purpose.
    """

    clip: C
    status: Literal["done", "skipped", "failed"]
    kind: str | None = None
    reason: str | None = None
    detail: str | None = None


class Work(Protocol[C_contra]):
    """What is done to a clip; pickled once and sent to every worker."""

    def __call__(self, clip: C_contra, advance: Advance, /) -> Done:
        """Make the clip's output, or find that it is there."""


class RunStoppedError(FlowpipeError):
    """The run cannot go on: the disk is full or not writable, or the workers are gone."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """A clip could not be written, and neither could any other."""

    clip: str
    errno: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of a clip is gone, and the clip with it."""

    reason: str


def attempt(work: Work[C], clip: C, advance: Advance) -> Outcome[C] | Fatal:
    """Do the work to a clip; whatever it raises becomes an outcome."""
    try:
        done = work(clip, advance)
    except FlowpipeError as error:
        return Outcome(clip, "failed", error.kind, str(error))
    except OSError as error:
        if error.errno in _FATAL:
            return Fatal(clip.name, error.errno, str(error))
        return Outcome(clip, "failed", "os", f"{type(error).__name__}: {error}")
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        return Outcome(clip, "failed", "internal", told, traceback.format_exc())
    return Outcome(clip, "skipped" if done.skipped else "done", reason=done.warning)


def checked(result: Outcome[Any] | Fatal) -> Outcome[Any]:
    """The outcome.

    Raises
    ------
    RunStoppedError
        The result is fatal.
    """
    if isinstance(result, Fatal):
        read_only = result.errno == errno.EROFS
        cause = "the output folder is read-only" if read_only else "the disk is full"
        raise RunStoppedError(
            f"stopped at {result.clip!r}: {cause} ({result.reason}). What is finished is "
            "whole; make room and run the same command again to go on"
        )
    return result
