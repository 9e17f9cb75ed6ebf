"""Make a set of what a file lists: check the times, find durations, tell what is odd.

The readers of the formats give a :class:`Listing`; what is wrong in one format is wrong in all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.datasets.base import Clip, Split, counted, natural_key
from flowpipe.datasets.intervals.base import Interval, Intervals, IntervalSet
from flowpipe.datasets.lists import is_there
from flowpipe.datasets.match import match_clips
from flowpipe.errors import FlowpipeError, FormatError, ParameterError, check_range
from flowpipe.io.video import probe

AMBIGUOUS = "ambiguous"
"""The label, in any case, of what is neither trained on nor counted."""
_SHOWN = 5

FrameRates = float | Mapping[str, float] | None
"""Frames per second, of all videos or by clip name."""


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one labelled part of a video, as a file gives it.

    Attributes
    ----------
    where
        File and line, for messages.
    clip
        Clip name.
    label
        Class name.
    start, end
        In seconds; or in frames from 0, the end being the frame after the last.
    """

    where: str
    clip: str
    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Listing:
    """Hold what a file lists, unchecked.

    Attributes
    ----------
    name
        Name of the set.
    source
        The file or folder, for messages.
    clips
        All videos, on disk or not.
    rows
        Their labelled parts.
    splits
        The official splits.
    durations, frame_rates
        Seconds, and frames per second, by clip name, as far as the file gives them.
    in_frames
        The rows are in frames.
    notes
        What the user should know, one sentence each.
    """

    name: str
    source: Path
    clips: tuple[Clip, ...]
    rows: tuple[Row, ...]
    splits: tuple[Split, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)
    frame_rates: Mapping[str, float] = field(default_factory=dict)
    in_frames: bool = False
    notes: tuple[str, ...] = ()


def assemble(
    listing: Listing, frame_rates: FrameRates = None, stored: Iterable[str] | None = None
) -> IntervalSet:
    """Return the set that a file lists.

    Parameters
    ----------
    listing
        What the file says.
    frame_rates
        For a file in frames, where the videos do not have it.
    stored
        Names of outputs of a stage, which are enough where videos are gone.

    Raises
    ------
    FormatError
        Times are reversed, negative, not finite or empty; the message lists them. Or none of the
        videos is on disk, and `stored` is None.
    ParameterError
        `frame_rates` is given for a file in seconds.
    """
    if frame_rates is not None and not listing.in_frames:
        raise ParameterError(
            f"frame_rates is given, but the times in {str(listing.source)!r} are in seconds"
        )
    clips, absent = _present(listing, stored)
    durations, rates = _probed(clips)
    durations = {**listing.durations, **durations}
    rates = {**rates, **listing.frame_rates, **_by_clip(frame_rates, listing.clips)}
    rows = [_in_seconds(row, rates) for row in listing.rows] if listing.in_frames else listing.rows
    _check_times(rows)
    kept, notes = _without_repeats(rows)
    intervals: dict[str, list[Interval]] = {clip.name: [] for clip in (*clips, *absent)}
    ambiguous: defaultdict[str, list[Interval]] = defaultdict(list)
    for row in kept:
        part = ambiguous if row.label.casefold() == AMBIGUOUS else intervals
        part[row.clip].append(Interval(row.start, row.end, row.label))
    labels = {each.label for part in intervals.values() for each in part}
    found = IntervalSet(
        listing.name,
        clips,
        {name: _sorted(part) for name, part in intervals.items()},
        tuple(sorted(labels, key=natural_key)),
        listing.splits,
        (*listing.notes, *notes),
        {name: _sorted(part) for name, part in ambiguous.items()},
        absent,
    )
    return found.within(durations)


def _present(
    listing: Listing, stored: Iterable[str] | None
) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """Divide the videos into those that are on disk or have a stored output, and the others."""
    there = {clip.name for clip in listing.clips if is_there(clip.path)}
    if stored is not None:
        there |= set(match_clips(listing.clips, stored, Path())[0])
    elif not there:
        raise FormatError(
            f"none of the {len(listing.clips)} videos of {str(listing.source)!r} is on disk; the "
            f"first should be {str(listing.clips[0].path)!r}; name the folder of the videos"
            if listing.clips
            else f"{str(listing.source)!r} lists no video"
        )
    return (
        tuple(clip for clip in listing.clips if clip.name in there),
        tuple(clip for clip in listing.clips if clip.name not in there),
    )


def _probed(clips: Sequence[Clip]) -> tuple[dict[str, float], dict[str, float]]:
    """Return durations and frame rates by clip name, of the videos whose containers tell."""
    durations, rates = {}, {}
    for clip in clips:
        try:
            info = probe(clip.path)
        except FlowpipeError:  # the stage that decodes it reports the reason
            continue
        if info.fps > 0:
            rates[clip.name] = info.fps
            if info.declared_frames:
                durations[clip.name] = info.declared_frames / info.fps
    return durations, rates


def _by_clip(frame_rates: FrameRates, clips: Sequence[Clip]) -> dict[str, float]:
    if frame_rates is None:
        return {}
    if not isinstance(frame_rates, Mapping):
        frame_rates = dict.fromkeys((clip.name for clip in clips), frame_rates)
    for name, rate in frame_rates.items():
        check_range(f"frame_rates[{name!r}]", rate, 0, 1e6, open_low=True)
    return dict(frame_rates)


def _in_seconds(row: Row, rates: Mapping[str, float]) -> Row:
    rate = rates.get(row.clip)
    if rate is None:
        raise FormatError(
            f"{row.where} is in frames, and the frame rate of {row.clip!r} is not known; put the "
            "video in its place, or give frame_rates or a column frame_rate"
        )
    return Row(row.where, row.clip, row.label, row.start / rate, row.end / rate)


def _check_times(rows: Iterable[Row]) -> None:
    faults = [f"{row.where}: {fault}" for row in rows if (fault := _fault(row.start, row.end))]
    if faults:
        more = f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise FormatError("\n".join(faults[:_SHOWN]) + more)


def _fault(start: float, end: float) -> str:
    """Return what is wrong with the times of an interval, and what would be right."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return f"the interval from {start} to {end} is not finite; both should be times"
    if start < 0:
        return f"the interval from {start:g} to {end:g} begins before the video; 0 is its start"
    if end < start:
        return f"the interval from {start:g} to {end:g} ends before it begins"
    if end == start:
        return f"the interval from {start:g} to {end:g} is empty; it should end after its start"
    return ""


def _without_repeats(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Leave out repeated rows; return the others, and notes on those and on overlaps."""
    kept: dict[tuple[str, str, float, float], Row] = {}
    repeats = []
    for row in rows:
        key = (row.clip, row.label, row.start, row.end)
        if kept.setdefault(key, row) is not row:
            repeats.append(row.where)
    notes = []
    if repeats:
        notes.append(
            f"{counted(len(repeats), 'interval is', 'intervals are')} listed twice, and kept once: "
            f"{_some(repeats)}"
        )
    overlaps = []
    before: dict[tuple[str, str], Row] = {}
    for row in sorted(kept.values(), key=lambda row: row.start):
        other = before.get((row.clip, row.label))
        if other is not None and row.start < other.end:
            overlaps.append(
                f"{row.where} ({row.start:g} to {row.end:g} s) and {other.where} "
                f"({other.start:g} to {other.end:g} s), {row.label!r}"
            )
        if other is None or row.end > other.end:
            before[row.clip, row.label] = row
    if overlaps:
        notes.append(
            f"{counted(len(overlaps), 'interval overlaps', 'intervals overlap')} another one of "
            f"the same class (all are kept): {_some(overlaps)}"
        )
    return list(kept.values()), notes


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more


def _sorted(intervals: Iterable[Interval]) -> Intervals:
    return tuple(sorted(intervals, key=lambda each: (each.start, each.end, each.label)))
