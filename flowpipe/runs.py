"""A stage over many clips, from the user's side: shards, progress, ``failures.jsonl``, summary."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowpipe import artifacts
from flowpipe.errors import FormatError, ParameterError
from flowpipe.execution import C, Outcome, Work, over_clips, over_clips_in_threads
from flowpipe.progress import Progress


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``index``-th of ``count`` parts of a run, from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.index <= self.count:
            raise ParameterError(
                f"shard is {self.index}/{self.count}; it must be i/n with i from 1 to n"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``i/n``."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ParameterError(f"shard is {text!r}; it must be i/n, such as 1/4")
        return cls(int(index), int(count))

    def of(self, clips: Sequence[C]) -> list[C]:
        """Every ``count``-th of the clips, beginning with the ``index``-th."""
        return list(clips[self.index - 1 :: self.count])


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    done, skipped, failed
        Numbers of clips.
    failures
        The file that lists the failures with their reasons, None without any.
    reasons
        Number of failures of each kind.
    noun
        What was done, in the singular.
    """

    done: int
    skipped: int
    failed: int
    failures: Path | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    noun: str = "clip"

    @property
    def exit_status(self) -> int:
        """0 when every clip is done, else 1."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        total = self.done + self.skipped + self.failed
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} there already")
        if self.failed:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.reasons.items()))
            where = f", reasons in {self.failures}" if self.failures else ""
            parts.append(f"{self.failed} failed ({kinds}){where}")
        return f"{total} {self.noun}{'s' * (total != 1)}: {', '.join(parts)}"


def run(
    work: Work[C],
    clips: Sequence[C],
    *,
    out: Path,
    records: Path | None,
    sizes: dict[str, int],
    jobs: int,
    shard: Shard | None = None,
    unit: str = "pairs",
    in_threads: bool = False,
    noun: str = "clip",
) -> Summary:
    """Do a stage's work to every clip and keep the records.

    Parameters
    ----------
    work
        Done in the workers.
    clips
        All clips of the run.
    out
        The output folder; what dead processes left in it is removed first.
    records
        Folder of ``failures.jsonl`` (``failures-2-of-8.jsonl`` for a shard); None keeps none.
    sizes
        Bytes of each clip, by name, for the time left.
    jobs
        Worker processes.
    shard
        The part of the clips to do.
    unit
        What the work counts.
    in_threads
        ``jobs`` is the number of threads of this process instead.
    noun
        What a clip is called, where the work goes over something else.

    Raises
    ------
    RunStoppedError
        The output cannot be written.
    """
    shard = shard or Shard()
    chosen = shard.of(clips)
    artifacts.remove_stale(out)
    part = "" if shard.count == 1 else f"-{shard.index}-of-{shard.count}"
    log = FailureLog(records / f"failures{part}.jsonl", out) if records else None
    reasons: dict[str, int] = {}
    try:
        if log:
            log.begin({clip.name for clip in chosen})
        weights = {clip.name: sizes.get(clip.name, 0) for clip in chosen}
        with Progress(weights, unit, noun=noun) as progress:
            outcomes = (
                over_clips_in_threads(work, chosen, threads=jobs, advance=progress.advance)
                if in_threads
                else over_clips(work, chosen, jobs=jobs, advance=progress.advance)
            )
            for outcome in outcomes:
                progress.finish(outcome.clip.name, outcome.status, outcome.reason)
                if outcome.status == "failed":
                    reasons[outcome.kind or ""] = reasons.get(outcome.kind or "", 0) + 1
                    if log:
                        log.add(outcome)
    finally:
        # Workers that were ended in the middle of a clip have left theirs.
        artifacts.remove_stale(out)
    failures = log.path if log and reasons else None
    return Summary(**progress.counts, failures=failures, reasons=reasons, noun=noun)


class FailureLog:
    """The clips that failed, one JSON object a line, until they succeed.

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
        """Forget the failures of the clips that are about to be tried again."""
        kept = [line for line in self._lines() if line.get("clip") not in names]
        if kept:
            data = "".join(json.dumps(line) + "\n" for line in kept)
            artifacts.write_atomic(self.path, data.encode(), self._root)
        else:
            self.path.unlink(missing_ok=True)

    def add(self, outcome: Outcome[Any]) -> None:
        """Append a failure, at once and in one write."""
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

    def _lines(self) -> list[artifacts.Json]:
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for data in self.path.read_bytes().splitlines():
                # A line that was cut by a kill says nothing that the next run will not find.
                with contextlib.suppress(FormatError):
                    lines.append(artifacts.read_json(self.path, data))
        return lines
