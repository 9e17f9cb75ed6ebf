"""Which clips of a folder are finished, as far as the file system alone can tell.

To look into every output and every video takes a run that goes on half a millisecond a clip. A clip
that was found finished is known as such without that, as long as lengths and times of its video and
of its outputs are what they were then: the rule of make and git. Where they differ, or there is no
record, the clip is looked at. The record may be removed at any time.

A line of it is a JSON list: the clip's name, a list of the path of its video and those of its
outputs from the folder, their stamps in this order, and what was odd about the clip or null.
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
Stamp = list[int]
"""Length, time of modification and time of change, of each file."""
Entry = tuple[list[str], Stamp, str | None]
"""Video and outputs, their stamps, and what was odd."""


def unchanged(root: Path) -> frozenset[str]:
    """Outputs of the clips in a folder that are as the runs that finished them left them.

    The outputs have the lengths and times that they had then, and so has the video, unless it is
    gone.

    Returns
    -------
    frozenset of str
        Paths from the folder.
    """
    entries = _entries(root).values()
    return frozenset(path for entry in entries if _holds(root, entry) for path in entry[0][1:])


def _holds(root: Path, entry: Entry) -> bool:
    (video, *outputs), stamp, _ = entry
    source = _stamp([root / video])
    return (
        source in (None, stamp[:_FIELDS]) and _stamp(root / p for p in outputs) == stamp[_FIELDS:]
    )


class DoneCache(Generic[C]):
    """Finished clips and the stamps of their files.

    Parameters
    ----------
    root
        The output folder. Records of all its shards are read.
    shard
        Name of the record to add to.
    outputs
        Gives the files and folders of a clip whose presence and times say that it is whole.
    """

    def __init__(self, root: Path, shard: str, outputs: Callable[[C], Sequence[Path]]) -> None:
        self._root = root
        self._path = root / FOLDER / f"{shard}{SUFFIX}"
        self._outputs = outputs
        self._sources: dict[str, Stamp] = {}
        self._lines: list[str] = []
        self._entries = _entries(root)

    def known(self, clip: C) -> Outcome[C] | None:
        """That the clip was there already, or None where it has to be looked at.

        To be asked before the clip is worked on: what :meth:`note` records of its video is what it
        was then.
        """
        source = _stamp([clip.path])
        if source is None:
            return None
        entry = self._entries.get(clip.name)
        if entry is not None:
            _, stamp, told = entry
            if stamp[:_FIELDS] == source and stamp[_FIELDS:] == _stamp(self._outputs(clip)):
                return Outcome(clip, "skipped", reason=told)
        self._sources[clip.name] = source
        return None

    def note(self, outcome: Outcome[C]) -> None:
        """Record a clip that is done or was found done."""
        source = self._sources.pop(outcome.clip.name, None)
        if source is None or outcome.status == "failed":
            return
        outputs = self._outputs(outcome.clip)
        stamp = _stamp(outputs)
        if stamp is not None:
            video = os.path.abspath(outcome.clip.path)
            files = [video, *(path.relative_to(self._root).as_posix() for path in outputs)]
            line = [outcome.clip.name, files, source + stamp, outcome.reason]
            self._lines.append(json.dumps(line))
        if len(self._lines) >= _MANY:
            self.write()

    def write(self) -> None:
        """Append what was noted; a run does not fail for its record."""
        if not self._lines:
            return
        data = "".join(f"{line}\n" for line in self._lines).encode()
        self._lines = []
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                # After a line that was cut by a kill or a full disk, one begins anew.
                file.write(b"\n" * (file.tell() > 0) + data)


def _entries(root: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for path in sorted((root / FOLDER).glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError), path.open("rb") as file:
            for line in file:
                # A line that is none says nothing: the clip is looked at.
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    name, files, stamp, told = json.loads(line)
                    if _is_entry(files, stamp, told):
                        entries[name] = files, stamp, told
    return entries


def _is_entry(files: object, stamp: object, told: object) -> bool:
    return (
        isinstance(files, list)
        and len(files) > 1
        and all(isinstance(file, str) for file in files)
        and isinstance(stamp, list)
        and isinstance(told, str | None)
    )


def _stamp(paths: Iterable[Path]) -> Stamp | None:
    """Of files and folders; None unless all are there."""
    stamp: Stamp = []
    try:
        for path in paths:
            status = path.stat()
            stamp += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except (OSError, ValueError):  # a record may hold what is no path
        return None
    return stamp
