"""Inspect output folders, for ``flowpipe status`` and ``flowpipe clean``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import atomic, json_files, run_status
from flowpipe.runner.provenance import RECORDS, read_stage
from flowpipe.runner.run_status import RunState

_USED = Path(RECORDS, "used.json")
_HASHED = re.compile(r".+-[0-9a-f]{8}")
_DEPTH = 2


@dataclass(frozen=True)
class StageStatus:
    """Contents of the output folder of a stage, and progress of its newest run.

    Attributes
    ----------
    out
        The folder.
    stage
        Name of the stage, a key of :data:`flowpipe.runner.provenance.STAGES`.
    files, used
        Number of files and their total size in bytes, without the records.
    runs
        Progress of each shard of the newest run.
    failures
        Number of failed clips by kind; the next run tries them again.
    """

    out: Path
    stage: str
    files: int
    used: int
    runs: tuple[RunState, ...]
    failures: dict[str, int]

    @property
    def needed(self) -> int | None:
        """Estimated bytes that the clips left will take; None if no clip is done yet."""
        total = sum(run.bytes_total for run in self.runs)
        left = sum(run.bytes_left for run in self.runs)
        if not left:
            return 0
        return round(self.used * left / (total - left)) if total > left else None


def stage_name(out: Path) -> str | None:
    """Return the name of the stage of an output folder, or None if it is no output folder."""
    with contextlib.suppress(OSError):
        name = (read_stage(out) or {}).get("stage")
        return name if isinstance(name, str) else None
    return None


def stage_folders(out: Path) -> list[Path]:
    """Return the folder itself if it is an output folder of a stage, else those in it.

    Raises
    ------
    ParameterError
        There are none.
    """
    if not out.exists():
        raise ParameterError(f"{str(out)!r} does not exist; an output folder is expected")
    if stage_name(out) is not None:
        return [out]
    below = stages_below(out)
    if not below:
        raise ParameterError(f"{str(out)!r} is no output folder of flowpipe: no stage.json in it")
    return below


def stages_below(out: Path) -> list[Path]:
    """Return the output folders of stages in the folder of a recipe, or of several recipes."""
    return list(_stages_below(out, _DEPTH))


def _stages_below(out: Path, depth: int) -> Iterator[Path]:
    for path in sorted(out.glob("*")):
        if not path.is_dir():
            continue
        if stage_name(path) is not None:
            yield path
        elif depth > 1:
            yield from _stages_below(path, depth - 1)


def status(out: Path) -> StageStatus:
    """Return the contents and the progress of an output folder."""
    files = used = 0
    for size in _sizes(out):
        files += 1
        used += size
    return StageStatus(
        out,
        stage_name(out) or "",
        files,
        used,
        tuple(run_status.states(out).values()),
        _failures(out),
    )


def free(out: Path) -> int:
    """Return the free bytes on the disk of a folder."""
    return shutil.disk_usage(out).free


def leftovers(out: Path) -> list[Path]:
    """Return the temporary files in an output folder that no run on this machine uses.

    Temporary files of other machines are included, since their processes cannot be checked.
    """
    return [path for path in sorted((out / atomic.TEMPORARY).glob("*")) if _dead(path.name)]


def note_used(out: Path, folders: Sequence[Path]) -> None:
    """Record in the folder of a recipe which stage folders its last run used."""
    record = {"folders": sorted(folder.name for folder in folders)}
    atomic.write_atomic(out / _USED, json_files.to_json(record), out)
    atomic.remove_stale(out)


def stale(out: Path) -> list[Path]:
    """Return the stage folders of a recipe that its last finished run did not use.

    They hold outputs of other settings. If no run has finished, there are none.

    Raises
    ------
    FormatError
        The record of the folders that were used is damaged.
    """
    path = out / _USED
    if not path.exists():
        return []
    used = json_files.read_json(path).get("folders")
    if not isinstance(used, list):
        raise FormatError(f"{str(path)!r} has no list of folders; remove it")
    return [
        folder
        for folder in sorted(out.iterdir())
        if _HASHED.fullmatch(folder.name)
        and not folder.is_symlink()
        and stage_name(folder) is not None
        and folder.name not in used
    ]


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of a folder with all its contents."""
    if path.is_dir():
        return sum(_all_sizes(path))
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def remove(paths: Sequence[Path]) -> None:
    """Remove files and folders, and the parent folders that become empty."""
    for path in paths:
        atomic.discard(path)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _dead(name: str) -> bool:
    machine, pid = atomic.owner(name)
    return machine != atomic.host() or pid is None or not atomic.alive(pid)


def _sizes(out: Path) -> Iterator[int]:
    records = {atomic.TEMPORARY, RECORDS}
    with os.scandir(out) as entries:
        for entry in entries:
            if entry.name in records:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _all_sizes(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False).st_size


def _all_sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            # A run may have just renamed it.
            with contextlib.suppress(FileNotFoundError):
                yield Path(parent, name).lstat().st_size


def _failures(out: Path) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for path in sorted((out / RECORDS).glob("failures*.jsonl")):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                kinds[str(json.loads(line).get("kind"))] += 1
    return dict(kinds.most_common())
