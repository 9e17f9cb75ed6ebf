"""Cache of finished clips, by sizes and timestamps of files.

Opening every output and video costs a resumed run about 0.5 ms per clip. This cache skips that: a
clip counts as finished while size and timestamps of its video and of its outputs are unchanged, the
rule of make and git. Otherwise the clip is checked. The cache may be deleted at any time.

Each line is a JSON list: the name of the clip, a list of the path of its video and the paths of its
outputs relative to the folder, their sizes and timestamps in this order, and the warning shown for
the clip, or null.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic

from flowpipe.runner.pool import C, Outcome
from flowpipe.runner.run_status import FOLDER

SUFFIX = ".finished"
_FIELDS = 3
_MANY = 1000
StatKey = list[int]
"""Size, modification time and change time of each file."""
Entry = tuple[list[str], StatKey, str | None]
"""Paths of the video and the outputs, their stat key, and the warning."""


def unchanged(root: Path) -> frozenset[str]:
    """Return the outputs in a folder that are unchanged since their clips were finished.

    Size and timestamps of the outputs are compared, and those of the video if it exists.

    Returns
    -------
    frozenset of str
        Paths relative to the folder.
    """
    entries = _entries(root).values()
    return frozenset(
        path for entry in entries if _is_unchanged(root, entry) for path in entry[0][1:]
    )


def _is_unchanged(root: Path, entry: Entry) -> bool:
    (video, *outputs), key, _ = entry
    source = _stat_key([root / video])
    return source in (None, key[:_FIELDS]) and _stat_key(root / p for p in outputs) == key[_FIELDS:]


class DoneCache(Generic[C]):
    """Remember finished clips and the sizes and timestamps of their files.

    Parameters
    ----------
    root
        The output folder. The files of all shards are read.
    shard
        Name of the file to append to.
    outputs
        Return the output files and folders of a clip.
    """

    def __init__(self, root: Path, shard: str, outputs: Callable[[C], Sequence[Path]]) -> None:
        self._root = root
        self._path = root / FOLDER / f"{shard}{SUFFIX}"
        self._outputs = outputs
        self._sources: dict[str, StatKey] = {}
        self._lines: list[str] = []
        self._entries = _entries(root)

    def lookup(self, clip: C) -> Outcome[C] | None:
        """Return the outcome of a finished clip, or None if the clip has to be checked.

        Call it before the clip is processed: :meth:`record` stores the stat key that the video has
        at this moment.
        """
        source = _stat_key([clip.path])
        if source is None:
            return None
        entry = self._entries.get(clip.name)
        if entry is not None:
            _, key, warning = entry
            if key[:_FIELDS] == source and key[_FIELDS:] == _stat_key(self._outputs(clip)):
                return Outcome(clip, "skipped", reason=warning)
        self._sources[clip.name] = source
        return None

    def record(self, outcome: Outcome[C]) -> None:
        """Record a clip that is done or up to date."""
        source = self._sources.pop(outcome.clip.name, None)
        if source is None or outcome.status == "failed":
            return
        outputs = self._outputs(outcome.clip)
        key = _stat_key(outputs)
        if key is not None:
            video = os.path.abspath(outcome.clip.path)
            files = [video, *(path.relative_to(self._root).as_posix() for path in outputs)]
            line = [outcome.clip.name, files, source + key, outcome.reason]
            self._lines.append(json.dumps(line))
        if len(self._lines) >= _MANY:
            self.write()

    def write(self) -> None:
        """Append the recorded clips; errors are ignored, since this is a cache."""
        if not self._lines:
            return
        data = "".join(f"{line}\n" for line in self._lines).encode()
        self._lines = []
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                # A kill or a full disk may have cut the last line, so a new line is begun.
                file.write(b"\n" * (file.tell() > 0) + data)


def _entries(root: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for path in sorted((root / FOLDER).glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError), path.open("rb") as file:
            for line in file:
                # A damaged line is ignored: its clip is checked.
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    name, files, key, warning = json.loads(line)
                    if _is_entry(files, key, warning):
                        entries[name] = files, key, warning
    return entries


def _is_entry(files: object, key: object, warning: object) -> bool:
    return (
        isinstance(files, list)
        and len(files) > 1
        and all(isinstance(file, str) for file in files)
        and isinstance(key, list)
        and isinstance(warning, str | None)
    )


def _stat_key(paths: Iterable[Path]) -> StatKey | None:
    """Return the stat key of files and folders, or None if one is missing."""
    key: StatKey = []
    try:
        for path in paths:
            status = path.stat()
            key += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except (OSError, ValueError):  # the text of a damaged line may be no path
        return None
    return key
