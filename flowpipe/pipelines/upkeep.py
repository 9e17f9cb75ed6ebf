"""Checking what is there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.flow import store
from flowpipe.flow.store import StoredClip
from flowpipe.io import npz
from flowpipe.runner import atomic, done_cache, json_files
from flowpipe.runner.inspect import stage_name, stages_below
from flowpipe.runner.pool import Advance, Done, Workers
from flowpipe.runner.run import Summary, run_stage
from flowpipe.trajectories import verify as tables
from flowpipe.trajectories.verify import StoredTable, stored_tables

logger = logging.getLogger(__name__)


class DamagedError(FlowpipeError):
    """What is stored is not whole, or not of its video."""

    kind = "damaged"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An npz or JSON file in an output folder."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.root / self.name


Stored = StoredClip | StoredTable | StoredFile


def verify(
    source: Path, *, repair: bool, quick: bool = False, workers: Workers | int | None = None
) -> Summary:
    """Check everything in an output folder of a stage, or in each of a recipe's.

    Flow and trajectories are checked thoroughly, and against their videos; see
    :func:`flowpipe.flow.store.verify` and :func:`flowpipe.trajectories.verify.verify`. Of vectors,
    scores, networks and the like every byte is read, whose check sums npz files carry.

    Parameters
    ----------
    source
        The folder, or the file of one clip.
    repair
        Remove what is not whole or not up to date.
    quick
        Do not read flow and trajectories whose files and videos have the lengths and times that
        they had when the clip was finished.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Raises
    ------
    ParameterError
        There is nothing to check.
    """
    stored = [
        each
        for folder in (stages_below(source) if stage_name(source) is None else [])
        for each in _stored(folder)
    ]
    stored = stored or list(_stored(source))
    out = source if source.is_dir() else source.parent
    if not stored:
        raise ParameterError(f"{str(source)!r} holds nothing of flowpipe's to verify")
    if quick:
        count = len(stored)
        stored = _touched(stored)
        logger.info(
            f"{count - len(stored)} of {count} clips are as they were finished, and are not read"
        )
        if not stored:
            return Summary(done=0, skipped=count, failed=0, out=out)
    return run_stage(_Verify(repair), stored, out=out, record=False, workers=workers, unit="clips")


def _touched(stored: Sequence[Stored]) -> list[Stored]:
    known = {root: done_cache.unchanged(root) for root in {each.root for each in stored}}
    return [each for each in stored if _from_root(each) not in known[each.root]]


def _from_root(stored: Stored) -> str:
    return stored.path.relative_to(stored.root).as_posix()


def _stored(source: Path) -> Sequence[Stored]:
    match stage_name(source) if source.is_dir() else None:
        case "trajectories":
            return list(stored_tables(source))
        case None | "flow" | "warped-flow" | "export":
            return list(store.stored_clips(source))
        case _:
            paths = sorted(path for path in source.rglob("*") if path.suffix in (".npz", ".json"))
            names = [path.relative_to(source).as_posix() for path in paths]
            return [StoredFile(source, name) for name in names if not name.startswith(".")]


@dataclass(frozen=True, slots=True)
class _Verify:
    repair: bool

    def __call__(self, stored: Stored, advance: Advance) -> Done:
        fault = _fault(stored)
        advance(1)
        if fault is None:
            return Done()
        if self.repair:
            removed = True
            if isinstance(stored, StoredClip):
                removed = store.remove(stored)
            else:
                atomic.remove_atomically(stored.path, stored.root)
            fault += "; removed" if removed else "; left, since it is not known as flowpipe's"
        raise DamagedError(fault)


def _fault(stored: Stored) -> str | None:
    if isinstance(stored, StoredClip):
        return store.verify(stored)
    if isinstance(stored, StoredTable):
        return tables.verify(stored)
    try:
        if stored.path.suffix == ".json":
            json_files.read_json(stored.path)
        else:
            npz.read_through(stored.path)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None
