"""Which clips of a folder are finished, as far as the file system alone can tell.

To look into every output and every video takes a run that goes on half a millisecond a clip. A clip
that was found finished is known as such without that, as long as lengths and times of its video and
of its outputs are what they were then: the rule of make and git. Where they differ, or there is no
record, the clip is looked at. The record may be removed at any time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic

from flowpipe.execution import C, Outcome

_FIELDS = 3
_MANY = 1000
Stamp = list[int]
"""Length, time of modification and time of change, of each file."""


class Ledger(Generic[C]):
    """Finished clips and the stamps of their files.

    Parameters
    ----------
    path
        The file to add to, one JSON list a line. What lies beside it under the same suffix, such as
        those of other shards, is read, too.
    outputs
        Gives the files and folders of a clip whose presence and times say that it is whole.
    """

    def __init__(self, path: Path, outputs: Callable[[C], Sequence[Path]]) -> None:
        self._path = path
        self._outputs = outputs
        self._sources: dict[str, Stamp] = {}
        self._lines: list[str] = []
        self._entries: dict[str, tuple[Stamp, str | None]] = {}
        for each in sorted(path.parent.glob(f"*{path.suffix}")):
            self._read(each)

    def known(self, clip: C) -> Outcome[C] | None:
        """That the clip was there already, or None where it has to be looked at.

        To be asked before the clip is worked on: what :meth:`note` records of its video is what it
        was then.
        """
        source = _stamp([clip.path])
        if source is None:
            return None
        entry = self._entries.get(clip.name)
        if entry is not None and entry[0][:_FIELDS] == source:
            outputs = _stamp(self._outputs(clip))
            if outputs is not None and entry[0][_FIELDS:] == outputs:
                return Outcome(clip, "skipped", reason=entry[1])
        self._sources[clip.name] = source
        return None

    def note(self, outcome: Outcome[C]) -> None:
        """Record a clip that is done or was found done."""
        source = self._sources.pop(outcome.clip.name, None)
        if source is None or outcome.status == "failed":
            return
        outputs = _stamp(self._outputs(outcome.clip))
        if outputs is not None:
            self._lines.append(json.dumps([outcome.clip.name, source + outputs, outcome.reason]))
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

    def _read(self, path: Path) -> None:
        with contextlib.suppress(OSError), path.open("rb") as file:
            for line in file:
                # A line that is none says nothing: the clip is looked at.
                with contextlib.suppress(ValueError, TypeError, RecursionError):
                    name, stamp, told = json.loads(line)
                    if isinstance(stamp, list) and (told is None or isinstance(told, str)):
                        self._entries[name] = stamp, told


def _stamp(paths: Sequence[Path]) -> Stamp | None:
    """Of files and folders; None unless all are there."""
    stamp: Stamp = []
    try:
        for path in paths:
            status = path.stat()
            stamp += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return None
    return stamp
