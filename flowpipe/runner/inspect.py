"""What output folders hold: ``flowpipe status`` and ``flowpipe clean``."""

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
_STAGES = "trajectories|encode|classify|flow|train-[a-z-]+|test-[a-z-]+|fuse"
_KEYED = re.compile(f"({_STAGES})-[0-9a-f]{{8}}")


@dataclass(frozen=True)
class StageStatus:
    """What one stage's output folder holds, and how far its newest run is.

    Attributes
    ----------
    out
        The folder.
    stage
        ``flow``, ``trajectories``, ... as its ``stage.json`` says.
    files, used
        Files in it and their bytes, without the records.
    runs
        State of each shard of the newest run.
    failures
        Number of clips that failed, by kind; they are tried again by the next run.
    """

    out: Path
    stage: str
    files: int
    used: int
    runs: tuple[RunState, ...]
    failures: dict[str, int]

    @property
    def needed(self) -> int | None:
        """Bytes that what is left will take, going by what there is; None where that says nothing.

        Of the shards that are known here.
        """
        total = sum(run.bytes_total for run in self.runs)
        left = sum(run.bytes_left for run in self.runs)
        if not left:
            return 0
        return round(self.used * left / (total - left)) if total > left else None


def stage_name(out: Path) -> str | None:
    """The stage that an output folder is of, None where it is of none."""
    with contextlib.suppress(OSError):
        name = (read_stage(out) or {}).get("stage")
        return name if isinstance(name, str) else None
    return None


def stage_folders(out: Path) -> list[Path]:
    """The folder itself if it is a stage's, else the folders of stages in it.

    Raises
    ------
    ParameterError
        There are none.
    """
    if stage_name(out) is not None:
        return [out]
    below = stages_below(out)
    if not below:
        raise ParameterError(f"{str(out)!r} is no output folder of flowpipe's: no stage.json in it")
    return below


def stages_below(out: Path) -> list[Path]:
    """The folders in a folder that are stages'."""
    return [path for path in sorted(out.glob("*")) if path.is_dir() and stage_name(path)]


def status(out: Path) -> StageStatus:
    """What a stage's output folder holds."""
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
    """Bytes free on the disk of a folder."""
    return shutil.disk_usage(out).free


def leftovers(out: Path) -> list[Path]:
    """Temporary files and folders in a stage's output folder that no run here is working on.

    Those of a process that is alive on this machine are not among them; processes of other machines
    cannot be asked.
    """
    return [path for path in sorted((out / atomic.TEMPORARY).glob("*")) if _dead(path.name)]


def note_used(out: Path, folders: Sequence[Path]) -> None:
    """Record in a recipe's folder which folders of stages its last run used."""
    told = {"folders": sorted(folder.name for folder in folders)}
    atomic.write_atomic(out / _USED, json_files.to_json(told), out)
    atomic.remove_stale(out)


def stale(out: Path) -> list[Path]:
    """Folders of stages in a recipe's folder that its last finished run did not use.

    They hold what other settings gave. There are none where no recipe has finished.

    Raises
    ------
    FormatError
        The record of what was used is damaged.
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
        if _KEYED.fullmatch(folder.name)
        and folder.is_dir()
        and not folder.is_symlink()
        and folder.name not in used
    ]


def size_of(path: Path) -> int:
    """Bytes of a file, or of a folder with all it holds."""
    if path.is_dir():
        return sum(_all_sizes(path))
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def remove(paths: Sequence[Path]) -> None:
    """Remove files and folders, and the folders of records and temporaries that become empty."""
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
            # Finished and renamed at this moment, perhaps.
            with contextlib.suppress(FileNotFoundError):
                yield Path(parent, name).lstat().st_size


def _failures(out: Path) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for path in sorted((out / RECORDS).glob("failures*.jsonl")):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                kinds[str(json.loads(line).get("kind"))] += 1
    return dict(kinds.most_common())
