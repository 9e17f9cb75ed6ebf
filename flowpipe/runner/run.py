"""A stage over many clips, from the user's side: shards, progress, ``failures.jsonl``, summary."""

from __future__ import annotations

import contextlib
import heapq
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import atomic, json_files, run_status
from flowpipe.runner.done_cache import DoneCache
from flowpipe.runner.pool import C, Outcome, Work, Workers, over_clips, over_clips_in_threads
from flowpipe.runner.progress import Progress
from flowpipe.runner.provenance import RECORDS
from flowpipe.runner.run_status import Recorder


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

    def of(self, clips: Sequence[C], sizes: Mapping[str, int]) -> list[C]:
        """The clips of this part, in their order.

        The largest go first, each to the part that has least so far, so that all have about the
        same number of bytes. Which part a clip is in depends on the names and sizes alone.
        """
        if self.count == 1:
            return list(clips)
        parts = [(0, 0, index) for index in range(1, self.count + 1)]
        chosen = set()
        for clip in sorted(clips, key=lambda clip: (-sizes.get(clip.name, 0), clip.name)):
            size, number, index = heapq.heappop(parts)
            heapq.heappush(parts, (size + sizes.get(clip.name, 0), number + 1, index))
            if index == self.index:
                chosen.add(clip.name)
        return [clip for clip in clips if clip.name in chosen]


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
    record: bool = True,
    sizes: Mapping[str, int],
    workers: Workers,
    shard: Shard | None = None,
    unit: str = "pairs",
    in_threads: bool = False,
    noun: str = "clip",
    outputs: Callable[[C], Sequence[Path]] | None = None,
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
    record
        Keep ``failures.jsonl`` (``failures-2-of-8.jsonl`` for a shard) and the state of the run in
        the folder's records.
    sizes
        Bytes of each clip, by name, for the time left.
    workers
        Who does it.
    shard
        The part of the clips to do.
    unit
        What the work counts.
    in_threads
        The workers are threads of this process instead.
    noun
        What a clip is called, where the work goes over something else.
    outputs
        Files and folders that a clip's work leaves. Where they and the clip's source are as the
        folder's ledger has them, the work is not called; see :mod:`flowpipe.runner.done_cache`.

    Raises
    ------
    RunStoppedError
        The output cannot be written.
    """
    shard = shard or Shard()
    chosen = shard.of(clips, sizes)
    atomic.remove_stale(out)
    log = FailureLog(out / RECORDS / _failures(shard), out) if record else None
    reasons: dict[str, int] = {}
    weights = {clip.name: sizes.get(clip.name, 0) for clip in chosen}
    progress = Progress(weights, unit, noun=noun)
    with contextlib.ExitStack() as stack:
        # Workers that are ended in the middle of a clip leave theirs.
        stack.callback(atomic.remove_stale, out)
        if log:
            _forget(out, shard, {clip.name for clip in chosen})
            path = out / run_status.FOLDER / f"{shard.index}-of-{shard.count}.json"
            recorder = stack.enter_context(Recorder(path, out, progress.snapshot))
        stack.enter_context(progress)
        ledger = None
        left: Sequence[C] = chosen
        if outputs:
            ledger = DoneCache(out, f"{shard.index}-of-{shard.count}", outputs)
            stack.callback(ledger.write)
            left = _left(chosen, ledger, progress)
        outcomes = (
            over_clips_in_threads(work, left, threads=workers.here, advance=progress.advance)
            if in_threads
            else over_clips(work, left, workers=workers, advance=progress.advance)
        )
        for outcome in outcomes:
            progress.finish(outcome.clip.name, outcome.status, outcome.reason)
            if ledger:
                ledger.note(outcome)
            if outcome.status == "failed":
                reasons[outcome.kind or ""] = reasons.get(outcome.kind or "", 0) + 1
                if log:
                    log.add(outcome)
            if log:
                recorder.tick()
    failures = log.path if log and reasons else None
    return Summary(**progress.counts, failures=failures, reasons=reasons, noun=noun)


def _left(clips: Sequence[C], ledger: DoneCache[C], progress: Progress) -> list[C]:
    """The clips that are not known as finished."""
    left = []
    for clip in clips:
        known = ledger.known(clip)
        if known is None:
            left.append(clip)
        else:
            progress.finish(clip.name, known.status, known.reason)
    return left


def _failures(shard: Shard) -> str:
    return (
        "failures.jsonl" if shard.count == 1 else f"failures-{shard.index}-of-{shard.count}.jsonl"
    )


def _forget(out: Path, shard: Shard, names: set[str]) -> None:
    """Drop the failures of clips that are about to be tried again, whoever noted them.

    The files of the other shards are theirs, but those of a division into another number of shards
    are of an earlier run, and so are its states.
    """
    mine = _failures(shard)
    others = {_failures(Shard(index, shard.count)) for index in range(1, shard.count + 1)} - {mine}
    records = out / RECORDS
    for path in [records / mine, *records.glob("failures*.jsonl")]:
        if path.name not in others:
            FailureLog(path, out).begin(names)
    for path in (out / run_status.FOLDER).glob("*-of-*.json"):
        if not path.stem.endswith(f"-of-{shard.count}"):
            path.unlink(missing_ok=True)


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
            atomic.write_atomic(self.path, data.encode(), self._root)
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

    def _lines(self) -> list[json_files.Json]:
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for data in self.path.read_bytes().splitlines():
                # A line that was cut by a kill says nothing that the next run will not find.
                with contextlib.suppress(FormatError):
                    lines.append(json_files.read_json(self.path, data))
        return lines
