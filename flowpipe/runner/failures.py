"""List the clips that failed in a run, in ``OUT/.flowpipe/failures.jsonl``."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError
from flowpipe.runner import atomic, json_files, run_status
from flowpipe.runner.pool import Outcome
from flowpipe.runner.provenance import RECORDS


class FailureLog:
    """Write and update the list of failed clips, one JSON object per line.

    A clip stays listed until it succeeds.

    Parameters
    ----------
    path
        The file; it exists only while there are failures.
    root
        The output folder, for atomic writes.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self._root = root

    def begin(self, names: set[str]) -> None:
        """Remove the failures of clips that are about to be tried again."""
        kept = [line for line in self._lines() if line.get("clip") not in names]
        if kept:
            data = "".join(json.dumps(line) + "\n" for line in kept)
            atomic.write_atomic(self.path, data.encode(), self._root)
        else:
            self.path.unlink(missing_ok=True)

    def add(self, outcome: Outcome[Any]) -> None:
        """Append a failure in one unbuffered write."""
        line = {
            "clip": outcome.clip.name,
            "path": os.fspath(outcome.clip.path),
            "kind": outcome.kind,
            "reason": outcome.reason,
        }
        if outcome.detail:
            line["detail"] = outcome.detail
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def _lines(self) -> list[json_files.Json]:
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for data in self.path.read_bytes().splitlines():
                # A kill can truncate the last line; the next run finds that failure again.
                with contextlib.suppress(FormatError):
                    lines.append(json_files.read_json(self.path, data))
        return lines


def begin_log(out: Path, index: int, count: int, names: set[str]) -> FailureLog:
    """Return the failure log of a shard, without the clips that are about to be processed.

    The logs of the other shards of this run are left alone. Those of runs with another number of
    shards are leftovers: they are updated too, and their progress files are deleted.

    Parameters
    ----------
    out
        The output folder.
    index, count
        The shard, and the number of shards.
    names
        Clips of the shard.
    """
    shards = [_path(out, each, count) for each in range(1, count + 1)]
    log = FailureLog(shards[index - 1], out)
    log.begin(names)
    for path in (out / RECORDS).glob("failures*.jsonl"):
        if path not in shards:
            FailureLog(path, out).begin(names)
    for path in (out / run_status.FOLDER).glob("*-of-*.json"):
        if not path.stem.endswith(f"-of-{count}"):
            path.unlink(missing_ok=True)
    return log


def _path(out: Path, index: int, count: int) -> Path:
    suffix = f"-{index}-of-{count}" if count > 1 else ""
    return out / RECORDS / f"failures{suffix}.jsonl"
