"""Verify stored outputs of every stage."""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.flow import store
from flowpipe.flow.store import StoredClip
from flowpipe.io import npz
from flowpipe.runner import atomic, done_cache, json_files
from flowpipe.runner.inspect import stage_name, stages_below
from flowpipe.runner.pool import Advance, Done, Workers
from flowpipe.runner.run import Summary, run_stage
from flowpipe.training.features import layouts as features
from flowpipe.training.features.layouts import StoredFeatures, stored_features
from flowpipe.trajectories import verify as tables
from flowpipe.trajectories.verify import StoredTable, stored_tables

logger = logging.getLogger(__name__)


class DamagedError(FlowpipeError):
    """An output is damaged, or was made from another video."""

    kind = "damaged"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in an output folder that is neither flow nor trajectories."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.root / self.name


def _read_npy(path: Path) -> None:
    with path.open("rb") as file:
        try:
            np.lib.format.read_array(file, allow_pickle=False)
        except npz.NPY_FAULTS as error:
            raise FormatError(f"{str(path)!r} is damaged: {error}") from None
        if file.read(1):
            raise FormatError(f"{str(path)!r} is damaged: there are data after the array")


def _read_tar(path: Path) -> None:
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isfile():
                    with contextlib.closing(archive.extractfile(member) or io.BytesIO()) as file:
                        while file.read(1 << 20):
                            pass
    except tarfile.TarError as error:
        raise FormatError(f"{str(path)!r} is damaged: {error}") from None


def _read_safetensors(path: Path) -> None:
    import safetensors  # an extra

    try:
        with safetensors.safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    except safetensors.SafetensorError as error:
        raise FormatError(f"{str(path)!r} is damaged: {error}") from None


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": json_files.read_json,
    ".npz": npz.read_through,
    ".npy": _read_npy,
    ".tar": _read_tar,
    ".safetensors": _read_safetensors,
}
"""Reads every byte of a file, by its suffix."""

Stored = StoredClip | StoredTable | StoredFeatures | StoredFile


def verify(
    source: Path, *, repair: bool, quick: bool = False, workers: Workers | int | None = None
) -> Summary:
    """Verify all outputs in the folder of a stage, or in all stage folders of a recipe.

    Flow and trajectories are decoded and compared with their videos; see
    :func:`flowpipe.flow.store.verify` and :func:`flowpipe.trajectories.verify.verify`. Features are
    compared with the checksums of their records. Every byte of the other files is read and compared
    with the checksums that their formats have.

    Parameters
    ----------
    source
        The folder, or the file of one clip.
    repair
        Remove damaged and outdated outputs, so that the next run computes them again.
    quick
        Skip clips whose files and videos have the sizes and timestamps that they had when the clip
        was finished.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Raises
    ------
    ParameterError
        There is nothing to verify.
    """
    stored = [
        each
        for folder in (stages_below(source) if stage_name(source) is None else [])
        for each in _stored(folder)
    ]
    stored = stored or list(_stored(source))
    out = source if source.is_dir() else source.parent
    if not stored:
        raise ParameterError(f"{str(source)!r} holds no output of flowpipe to verify")
    if quick:
        count = len(stored)
        stored = _changed(stored)
        logger.info(
            f"{count - len(stored)} of {count} clips are unchanged since they were finished"
        )
        if not stored:
            return Summary(done=0, skipped=count, failed=0, out=out)
    return run_stage(_Verify(repair), stored, out=out, record=False, workers=workers, unit="clips")


def _changed(stored: Sequence[Stored]) -> list[Stored]:
    known = {root: done_cache.unchanged(root) for root in {each.root for each in stored}}
    return [each for each in stored if _from_root(each) not in known[each.root]]


def _from_root(stored: Stored) -> str:
    return stored.path.relative_to(stored.root).as_posix()


def _stored(source: Path) -> Sequence[Stored]:
    match stage_name(source) if source.is_dir() else None:
        case "trajectories" | "tdd":
            return list(stored_tables(source))
        case None | "flow" | "warped-flow" | "export":
            return list(store.stored_clips(source))
        case "features":
            return list(stored_features(source))
        case _:
            paths = sorted(path for path in source.rglob("*") if path.suffix in _READERS)
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
            elif isinstance(stored, StoredFeatures):
                features.remove(stored)
            else:
                atomic.remove_atomically(stored.path, stored.root)
            fault += "; removed" if removed else "; kept, since flowpipe may not have written it"
        raise DamagedError(fault)


def _fault(stored: Stored) -> str | None:
    if isinstance(stored, StoredClip):
        return store.verify(stored)
    if isinstance(stored, StoredTable):
        return tables.verify(stored)
    if isinstance(stored, StoredFeatures):
        return features.verify(stored)
    try:
        _READERS[stored.path.suffix](stored.path)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None
