"""Checking what is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.execution import Advance, Done, Workers
from flowpipe.flow import store
from flowpipe.flow.store import StoredClip
from flowpipe.pipelines.steps import run_stage
from flowpipe.runs import Summary


def verify(source: Path, *, repair: bool, workers: Workers) -> Summary:
    """Check every clip of a folder of flow; see :func:`flowpipe.flow.store.verify`."""
    clips = list(store.stored_clips(source))
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    out = source if source.is_dir() else source.parent
    return run_stage(_Verify(repair), clips, out=out, records=None, workers=workers, unit="clips")


class DamagedError(FlowpipeError):
    """Stored flow is not whole, or not of its video."""

    kind = "damaged"


@dataclass(frozen=True, slots=True)
class _Verify:
    repair: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        fault = store.verify(clip)
        advance(1)
        if fault is None:
            return Done()
        if self.repair:
            removed = store.remove(clip)
            fault += "; removed" if removed else "; left, since it is not known as flowpipe's"
        raise DamagedError(fault)
