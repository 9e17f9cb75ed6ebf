"""Run a stage over many clips, with shards, progress, failures and a summary."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from flowpipe.errors import ParameterError
from flowpipe.runner import atomic, run_status
from flowpipe.runner.done_cache import DoneCache
from flowpipe.runner.failures import begin_log
from flowpipe.runner.pool import (
    Advance,
    C,
    Outcome,
    Work,
    Workers,
    as_workers,
    over_clips,
)
from flowpipe.runner.progress import Progress
from flowpipe.runner.run_status import Recorder

logger = logging.getLogger(__name__)

_LONG_NAME = 100
"""Names of fewer bytes than this fit into every file system, with any suffix."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Select the clips of shard `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.index <= self.count:
            raise ParameterError(
                f"shard is {self.index}/{self.count}; it must be i/n with i from 1 to n"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse ``i/n``."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal()):
            raise ParameterError(f"shard is {text!r}; it must be i/n, such as 1/4")
        return cls(int(index), int(count))

    def of(self, clips: Sequence[C], sizes: Mapping[str, int]) -> list[C]:
        """Return the clips of this shard, in the order given.

        Clips are assigned largest first, each to the shard with the fewest bytes so far, so that
        all shards have about the same size. The assignment depends only on names and sizes.
        """
        if self.count == 1:
            return list(clips)
        shards = [(0, 0, index) for index in range(1, self.count + 1)]
        chosen = set()
        for clip in sorted(clips, key=lambda clip: (-sizes.get(clip.name, 0), clip.name)):
            size, number, index = heapq.heappop(shards)
            heapq.heappush(shards, (size + sizes.get(clip.name, 0), number + 1, index))
            if index == self.index:
                chosen.add(clip.name)
        return [clip for clip in clips if clip.name in chosen]


def as_shard(shard: Shard | str | None) -> Shard:
    """Return a shard that is given as such, as ``i/n``, or as None (all clips).

    Raises
    ------
    ParameterError
        The text is not ``i/n`` with i from 1 to n.
    """
    if shard is None:
        return Shard()
    return Shard.parse(shard) if isinstance(shard, str) else shard


@dataclass(frozen=True)
class Summary:
    """Count the outcomes of a run.

    Attributes
    ----------
    done, skipped, failed
        Number of clips that were processed, were up to date, and failed.
    out
        The output folder.
    failed_clips
        Names of the clips that failed, in the order in which they did.
    failures
        File that lists the failed clips with the reasons; None if no clip failed.
    reasons
        Number of failures of each kind; see :data:`flowpipe.errors.FAILURE_KINDS`.
    noun
        What the run processed, if not clips, in the singular.
    """

    done: int
    skipped: int
    failed: int
    out: Path
    failed_clips: tuple[str, ...] = ()
    failures: Path | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    noun: str = "clip"

    @property
    def exit_status(self) -> int:
        """Return 1 if a clip failed, else 0."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        total = self.done + self.skipped + self.failed
        parts = [f"{self.done} done"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        if self.failed:
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.reasons.items()))
            where = f", reasons in {self.failures}" if self.failures else ""
            parts.append(f"{self.failed} failed ({kinds}){where}")
        return f"{total} {self.noun}{'s' * (total != 1)}: {', '.join(parts)}"


class Over(Protocol[C]):
    """Process clips somewhere."""

    def __call__(self, clips: Sequence[C], *, advance: Advance) -> Iterator[Outcome[C]]:
        """Yield the outcome of every clip as it arrives."""


def run_stage(
    work: Work[C],
    clips: Sequence[C],
    *,
    out: Path,
    unit: str,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    record: bool = True,
    outputs: Callable[[C], Sequence[Path]] | None = None,
    overwrite: bool = False,
    over: Over[C] | None = None,
    noun: str = "clip",
) -> Summary:
    """Process the clips of a stage, record failures and progress, and log a summary.

    A clip that fails does not stop the others: it is logged as a warning, recorded, and tried again
    by the next run.

    Parameters
    ----------
    work
        The work for one clip, called in the workers.
    clips
        All clips of the run.
    out
        The output folder. Temporary files that killed processes left in it are removed first.
    unit
        What the work counts, in the plural: ``pairs``, ``frames``.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    shard
        The shard to process, such as ``"2/8"``; by default all clips.
    record
        Record the failures in ``failures.jsonl`` (``failures-2-of-8.jsonl`` for a shard) and the
        progress of the run, for ``flowpipe status``, in ``OUT/.flowpipe``.
    outputs
        Return the output files and folders of a clip. A clip whose outputs have names that are
        too long for the file system fails without calling `work`. A clip whose source and outputs
        are unchanged since it was finished is skipped; see :mod:`flowpipe.runner.done_cache`.
    overwrite
        Process also the clips whose source and outputs are unchanged.
    over
        Process the clips in place of worker processes with a clip each; such as
        :func:`flowpipe.runner.pool.over_clips_in_threads`.
    noun
        What the run processes, if not clips, in the singular.

    Returns
    -------
    Summary

    Raises
    ------
    RunStoppedError
        The output cannot be written, or the workers of a cluster are gone.
    """
    workers, shard = as_workers(workers), as_shard(shard)
    sizes = {clip.name: _size(clip.path) for clip in clips}
    chosen = shard.of(clips, sizes)
    atomic.remove_stale(out)
    log = None
    failed_clips: list[str] = []
    reasons: Counter[str] = Counter()
    console = Console(stderr=True) if workers.progress else None
    progress = Progress({clip.name: sizes[clip.name] for clip in chosen}, unit, console, noun=noun)
    with contextlib.ExitStack() as stack:
        # Workers that are killed while they process a clip leave temporary files.
        stack.callback(atomic.remove_stale, out)
        if record:
            log = begin_log(out, shard.index, shard.count, {clip.name for clip in chosen})
            path = out / run_status.FOLDER / f"{shard.index}-of-{shard.count}.json"
            recorder = stack.enter_context(Recorder(path, out, progress.snapshot))
        stack.enter_context(progress)
        remaining, refused = _with_valid_names(chosen, out, outputs)
        cache = None
        if outputs and not overwrite:
            cache = DoneCache(out, f"{shard.index}-of-{shard.count}", outputs)
            stack.callback(cache.write)
            remaining = _unfinished(remaining, cache, progress)
        over = over or partial(over_clips, work, workers=workers)
        outcomes = over(remaining, advance=progress.advance)
        for outcome in itertools.chain(refused, outcomes):
            progress.finish(outcome.clip.name, outcome.status, outcome.reason)
            if cache:
                cache.record(outcome)
            if outcome.status == "failed":
                failed_clips.append(outcome.clip.name)
                reasons[outcome.kind or ""] += 1
                if log:
                    log.add(outcome)
            if log:
                recorder.tick()
    summary = Summary(
        **progress.counts,
        out=out,
        failed_clips=tuple(failed_clips),
        failures=log.path if log and reasons else None,
        reasons=dict(reasons),
        noun=noun,
    )
    logger.info(str(summary))
    return summary


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _with_valid_names(
    clips: Sequence[C], out: Path, outputs: Callable[[C], Sequence[Path]] | None
) -> tuple[list[C], list[Outcome[C]]]:
    """Separate the clips whose outputs have names that the file system cannot store."""
    valid: list[C] = []
    refused: list[Outcome[C]] = []
    for clip in clips:
        try:
            if outputs and len(os.fsencode(clip.name)) > _LONG_NAME:
                atomic.check_names(outputs(clip), out)
            valid.append(clip)
        except atomic.NameTooLongError as error:
            refused.append(Outcome(clip, "failed", error.kind, str(error)))
    return valid, refused


def _unfinished(clips: Sequence[C], cache: DoneCache[C], progress: Progress) -> list[C]:
    """Return the clips that the cache does not know as finished; count the others."""
    unfinished = []
    for clip in clips:
        outcome = cache.lookup(clip)
        if outcome is None:
            unfinished.append(clip)
        else:
            progress.finish(clip.name, outcome.status, outcome.reason)
    return unfinished
