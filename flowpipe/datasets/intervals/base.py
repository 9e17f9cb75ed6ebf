"""Labelled intervals of videos, and the labels that they give to frames."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip, Split, counted, refuse_similar
from flowpipe.errors import FormatError, ParameterError, check_range

TOLERANCE = 1.0
"""Seconds by which annotators and containers disagree on where a video ends."""
_SHOWN = 5
_MOST_FRAMES = 2**40

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold one labelled part of a video.

    Attributes
    ----------
    start, end
        In seconds from the start of the video, ``0 <= start < end``; the end is not part of it.
    label
        Class name.

    Raises
    ------
    ParameterError
        The times are not finite, negative, or not in this order.
    """

    start: float
    end: float
    label: str

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.end < math.inf):
            raise ParameterError(
                f"the interval of {self.label!r} from {self.start} to {self.end} must begin at 0 s "
                "or later, and end after that"
            )


Intervals = tuple[Interval, ...]


@dataclass(frozen=True)
class IntervalSet:
    """Hold videos with labelled intervals.

    Attributes
    ----------
    name
        Short name, such as ``thumos14``.
    clips
        The videos that are on disk. Their labels are None; a group is not to be divided between
        training and test.
    intervals
        By clip name, in the order of their starts; ``()`` for a video without any. Absent videos
        have theirs too.
    classes
        Class names; the position is the class index. The background has none: where a classifier
        scores it, it comes last, at ``len(classes)``.
    splits
        The official splits, empty where the set has none. They may name absent videos.
    notes
        What the user should know of the set, one sentence each.
    ambiguous
        Intervals by clip name whose frames are neither trained on nor counted, THUMOS'
        ``Ambiguous``; only videos that have some.
    absent
        Videos that the file lists and that are not on disk.
    durations
        Seconds by clip name, as far as they are known.
    kind
        Entry of :data:`flowpipe.datasets.intervals.INTERVAL_SETS` that read the set.
    """

    name: str
    clips: tuple[Clip, ...]
    intervals: Mapping[str, Intervals]
    classes: tuple[str, ...]
    splits: tuple[Split, ...] = ()
    notes: tuple[str, ...] = ()
    ambiguous: Mapping[str, Intervals] = field(default_factory=dict)
    absent: tuple[Clip, ...] = ()
    durations: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""

    def __post_init__(self) -> None:
        names = [clip.name for clip in (*self.clips, *self.absent)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ParameterError(f"two videos share the clip name {twice[0]!r}")
        if set(self.intervals) != set(names) or not set(self.ambiguous) <= set(names):
            differ = set(self.intervals).union(self.ambiguous).symmetric_difference(names)
            raise ParameterError(
                f"every video needs intervals, if only (), and no other; {min(differ)!r} differs"
            )
        unknown = {each.label for part in self.intervals.values() for each in part}
        if unknown := unknown - set(self.classes):
            raise ParameterError(
                f"labels {sorted(unknown)} are not among the classes of {self.name!r}"
            )
        refuse_similar(self.classes, f"the classes of {self.name!r}")

    def within(self, durations: Mapping[str, float]) -> IntervalSet:
        """Return the set with intervals clipped to the ends of their videos, and the notes on it.

        Parameters
        ----------
        durations
            Seconds by clip name, of the videos that are known, measured by what is to be used:
            decoded frames, stored flow or features.

        Returns
        -------
        IntervalSet
            What lies past the end of a video is gone. Intervals that end less than a second past
            it are clipped, as containers and annotators differ by that much; if it is more, the
            video is named as shorter than its intervals.

        Raises
        ------
        FormatError
            More than half of the intervals begin past the ends of their videos: the times are not
            in seconds, or belong to other videos.
        """
        kept: dict[str, Intervals] = {}
        slightly, shorter, beyond, known = 0, [], [], 0
        for name, intervals in self.intervals.items():
            end = durations.get(name, math.inf)
            known += len(intervals) if end < math.inf else 0
            beyond += [
                f"{each.start:g} to {each.end:g} s of {name!r}, which lasts {end:.2f} s"
                for each in intervals
                if each.start >= end
            ]
            slightly += sum(end < each.end <= end + TOLERANCE for each in intervals)
            last = max((each.end for each in intervals), default=0.0)
            if last > end + TOLERANCE:
                shorter.append(f"{name!r} ({end:.2f} s, intervals up to {last:.2f} s)")
            kept[name] = _clipped(intervals, end)
        if len(beyond) > max(known / 2, 1):
            raise FormatError(
                f"{len(beyond)} of {known} intervals of {self.name!r} begin after the end of their "
                f"videos, such as {beyond[0]}; times should be in seconds from the start of the "
                "video (in a CSV file, frames go into the columns start_frame and end_frame), and "
                "the videos those that were labelled"
            )
        notes = list(self.notes)
        if slightly:
            notes.append(
                f"{counted(slightly, 'interval ends', 'intervals end')} up to {TOLERANCE:g} s "
                "after the video: clipped"
            )
        if shorter:
            more = f" and {len(shorter) - _SHOWN} more" if len(shorter) > _SHOWN else ""
            notes.append(
                f"{counted(len(shorter), 'video is', 'videos are')} shorter than the intervals "
                f"say, which are clipped: {', '.join(shorter[:_SHOWN])}{more}"
            )
        ambiguous = {
            name: _clipped(intervals, durations.get(name, math.inf))
            for name, intervals in self.ambiguous.items()
        }
        return replace(
            self,
            intervals=kept,
            ambiguous={name: part for name, part in ambiguous.items() if part},
            durations={**self.durations, **durations},
            notes=tuple(notes),
        )

    def describe(self) -> str:
        """Return one line: what the set is taken for, its videos, intervals, classes and splits."""
        counts = [sum(map(len, part.values())) for part in (self.intervals, self.ambiguous)]
        parts = [
            counted(len(self.clips), "video"),
            counted(counts[0], "interval"),
            counted(len(self.classes), "class", "classes"),
        ]
        if counts[1]:
            parts.append(counted(counts[1], "ambiguous interval"))
        groups = {clip.group for clip in self.clips if clip.group is not None}
        if groups:
            parts.append(counted(len(groups), "group"))
        parts += [f"{s.name} ({len(s.train)} training, {len(s.test)} test)" for s in self.splits]
        if self.absent:
            parts.append(f"{counted(len(self.absent), 'missing video')}")
        kind = f", read as {self.kind}" if self.kind and self.kind != self.name else ""
        return f"{self.name}{kind}: {', '.join(parts)}"

    def description(self) -> dict[str, Any]:
        """Return what the set was taken for as JSON, for the record of a stage."""
        counts = Counter(each.label for part in self.intervals.values() for each in part)
        return {
            "name": self.name,
            "kind": self.kind,
            "clips": len(self.clips),
            "intervals": {label: counts[label] for label in self.classes},
            "ambiguous": sum(map(len, self.ambiguous.values())),
            "groups": len({clip.group for clip in self.clips if clip.group is not None}),
            "splits": {s.name: [len(s.train), len(s.test)] for s in self.splits},
            "missing": len(self.absent),
            "notes": list(self.notes),
        }


def frame_labels(
    intervals: Sequence[Interval], classes: Sequence[str], frames: int, frame_rate: float
) -> Mask:
    """Return which classes each frame of a video has.

    A frame is shown for ``1 / frame_rate`` seconds; it has the labels of the intervals that hold
    the middle of that time, ``(t + 0.5) / frame_rate`` for frame t. So an interval from
    ``a / frame_rate`` to ``b / frame_rate`` labels exactly the frames a to b - 1.

    Parameters
    ----------
    intervals
        The intervals of the video; they may overlap.
    classes
        Class names.
    frames
        Number of frames, or of feature vectors.
    frame_rate
        Frames, or feature vectors, per second.

    Returns
    -------
    (frames, classes) bool
        A row without True is background. What lies past the last frame is left out.

    Raises
    ------
    ParameterError
        A label is not among the classes, or a number is out of range.

    Examples
    --------
    >>> from flowpipe.datasets.intervals import Interval, frame_labels
    >>> frame_labels([Interval(0.4, 0.8, "run")], ("jump", "run"), 5, 5.0).astype(int)
    array([[0, 0],
           [0, 0],
           [0, 1],
           [0, 1],
           [0, 0]])
    """
    check_range("frames", frames, 0, _MOST_FRAMES)
    check_range("frame_rate", frame_rate, 0, 1e9, open_low=True)
    labels = np.zeros((frames, len(classes)), bool)
    index = {label: number for number, label in enumerate(classes)}
    for each in intervals:
        if each.label not in index:
            raise ParameterError(f"label {each.label!r} is not among the classes {tuple(classes)}")
        labels[_frames(each, frames, frame_rate), index[each.label]] = True
    return labels


def covered_frames(intervals: Sequence[Interval], frames: int, frame_rate: float) -> Mask:
    """Return which frames of a video lie in any of the intervals, whatever their labels; (frames,).

    The rule is that of :func:`frame_labels`; for ambiguous intervals, for example.
    """
    check_range("frames", frames, 0, _MOST_FRAMES)
    check_range("frame_rate", frame_rate, 0, 1e9, open_low=True)
    covered = np.zeros(frames, bool)
    for each in intervals:
        covered[_frames(each, frames, frame_rate)] = True
    return covered


def _frames(interval: Interval, frames: int, frame_rate: float) -> slice:
    first, stop = (
        math.ceil(min(time * frame_rate - 0.5, float(frames)))
        for time in (interval.start, interval.end)
    )
    return slice(max(first, 0), max(stop, 0))


def _clipped(intervals: Intervals, end: float) -> Intervals:
    return tuple(
        each if each.end <= end else replace(each, end=end)
        for each in intervals
        if each.start < end
    )
