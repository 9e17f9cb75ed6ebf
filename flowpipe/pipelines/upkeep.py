"""Checking what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpipe import artifacts
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.execution import Advance, Done, Workers
from flowpipe.flow import store
from flowpipe.flow.store import StoredClip
from flowpipe.pipelines.steps import run_stage
from flowpipe.runs import Summary
from flowpipe.stages import stage_name
from flowpipe.trajectories import verify as tables
from flowpipe.trajectories.verify import StoredTable, stored_tables


class DamagedError(FlowpipeError):
    """What is stored is not whole, or not of its video."""

    kind = "damaged"


def verify(source: Path, *, repair: bool, workers: Workers) -> Summary:
    """Check every clip of a folder of flow or of trajectories.

    See :func:`flowpipe.flow.store.verify` and :func:`flowpipe.trajectories.verify.verify`.

    Raises
    ------
    ParameterError
        The folder holds neither.
    """
    out = source if source.is_dir() else source.parent
    if stage_name(out) == "trajectories":
        stored: Sequence[Any] = list(stored_tables(out))
        work: Any = _VerifyTable(repair)
    else:
        stored, work = list(store.stored_clips(source)), _VerifyFlow(repair)
    if not stored:
        raise ParameterError(f"{str(source)!r} holds no flow and no trajectories")
    return run_stage(work, stored, out=out, records=None, workers=workers, unit="clips")


@dataclass(frozen=True, slots=True)
class _VerifyFlow:
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


@dataclass(frozen=True, slots=True)
class _VerifyTable:
    repair: bool

    def __call__(self, table: StoredTable, advance: Advance) -> Done:
        fault = tables.verify(table)
        advance(1)
        if fault is None:
            return Done()
        if self.repair:
            artifacts.take_away(table.path, table.root)
            fault += "; removed"
        raise DamagedError(fault)
