"""What is processed: clips, labelled sets of them, and the splits that papers report on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError, ParameterError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v",
    ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogg", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""Suffixes of videos, in lower case."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Clip:
    """Hold one video, or folder of frames, and what is known of it.

    Attributes
    ----------
    path
        The video file.
    name
        Names every output of the clip: parts separated by ``/``, no suffix, relative, without
        ``.`` and ``..`` parts, unique in its set. Usually ``<class>/<stem>``.
    label
        Class name, or None where it is unknown.
    group
        Clips that must not be split between training and test (same scene, actor, sequence).
    """

    path: Path
    name: str
    label: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if not self.name or any(part in ("", ".", "..") for part in parts) or "\0" in self.name:
            raise ParameterError(
                f"clip name {self.name!r} of {str(self.path)!r} must be a relative path "
                "without empty, '.' or '..' parts"
            )


@dataclass(frozen=True, slots=True)
class Split:
    """Divide a set into training and test clips, by clip name.

    Attributes
    ----------
    name
        Such as ``split1``.
    train, test
        Names of the clips.
    validation
        The test clips are for choosing parameters; papers do not report on them.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    validation: bool = False

    def __post_init__(self) -> None:
        both = set(self.train) & set(self.test)
        if both:
            raise ParameterError(
                f"split {self.name!r} has {len(both)} clips in both halves, such as {min(both)!r}"
            )


@dataclass(frozen=True)
class Dataset:
    """Hold a labelled set of clips.

    Attributes
    ----------
    name
        Short name, such as ``ucf101``.
    clips
        The clips that are on disk, in the same order on every machine; names are unique.
    classes
        Class names; the position is the class index. In the set's own order, or in natural order
        (``2`` before ``10``) where it has none.
    splits
        The official splits, empty where the set has none. They may name clips that are not on
        disk; :meth:`missing` lists those.
    absent
        Clips that a list names and that are not on disk, as far as their labels are known.
    kind
        Entry of :data:`flowpipe.datasets.DATASETS` that read the set.
    notes
        What the user should know of the set, one sentence each.
    """

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    absent: tuple[Clip, ...] = ()
    kind: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, Clip] = {}
        for clip in (*self.clips, *self.absent):
            if clip.name in seen:
                raise ParameterError(
                    f"{str(seen[clip.name].path)!r} and {str(clip.path)!r} share "
                    f"the clip name {clip.name!r}"
                )
            seen[clip.name] = clip
        unknown = {clip.label for clip in seen.values() if clip.label is not None}
        unknown -= set(self.classes)
        if unknown:
            raise ParameterError(
                f"labels {sorted(unknown)} are not among the classes of {self.name!r}"
            )
        refuse_similar(self.classes, f"the classes of {self.name!r}")

    def missing(self) -> tuple[str, ...]:
        """Return the names of clips that a list or a split names and that are not on disk."""
        present = {clip.name for clip in self.clips}
        named = {name for split in self.splits for name in (*split.train, *split.test)}
        return tuple(sorted(named.union(clip.name for clip in self.absent) - present))

    def with_absent(self, names: Sequence[str]) -> Dataset:
        """Return the set with some absent clips among its clips, since only outputs are needed."""
        chosen = set(names)
        found = tuple(clip for clip in self.absent if clip.name in chosen)
        left = tuple(clip for clip in self.absent if clip.name not in chosen)
        return replace(self, clips=(*self.clips, *found), absent=left)

    def describe(self) -> str:
        """Return one line: what the set is taken for, its clips, classes, groups and splits."""
        groups = {clip.group for clip in self.clips if clip.group is not None}
        parts = [counted(len(self.clips), "clip"), _listed(self.classes, "class", "classes")]
        parts.append(_listed(sorted(groups, key=natural_key), "group", "groups"))
        parts += [f"{s.name} ({len(s.train)} training, {len(s.test)} test)" for s in self.splits]
        if not self.splits:
            parts.append("no official splits")
        if missing := self.missing():
            parts.append(_listed(missing, "missing clip", "missing clips"))
        kind = f", read as {self.kind}" if self.kind and self.kind != self.name else ""
        return f"{self.name}{kind}: {', '.join(parts)}"

    def description(self) -> dict[str, Any]:
        """Return :meth:`describe` as JSON, for the record of a stage."""
        counts = Counter(clip.label for clip in self.clips)
        return {
            "name": self.name,
            "kind": self.kind,
            "clips": len(self.clips),
            "classes": {label: counts[label] for label in self.classes},
            "groups": len({clip.group for clip in self.clips if clip.group is not None}),
            "splits": {s.name: [len(s.train), len(s.test)] for s in self.splits},
            "missing": len(self.missing()),
            "notes": list(self.notes),
        }


def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key by which ``2`` comes before ``10``, without regard to case."""
    parts = re.split(r"(\d+)", text.casefold())
    return [(1, int(p), "") if p.isdecimal() else (2, 0, p) for p in parts if p], text


def refuse_similar(labels: Sequence[str], where: str) -> None:
    """Raise a FormatError if two labels differ in nothing but case or white space."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(" ".join(label.casefold().split()), label)
        if other != label:
            raise FormatError(
                f"{where}: {other!r} and {label!r} differ in nothing but case or white space; "
                "write them alike if they are one class"
            )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, ``1 clip`` or ``2 clips``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _listed(names: Sequence[str], noun: str, plural: str) -> str:
    if not names:
        return f"no {plural}"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{counted(len(names), noun, plural)} ({', '.join(names[:_SHOWN])}{more})"
