"""What is processed: clips, labelled sets of them, and the splits that papers report on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import ParameterError

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v",
    ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg",
    ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
"""What the name of a video ends in, in lower case."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One video and what is known of it.

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
    """One division of a set into training and test clips, by clip name."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        both = set(self.train) & set(self.test)
        if both:
            raise ParameterError(
                f"split {self.name!r} has {len(both)} clips in both halves, such as {min(both)!r}"
            )


@dataclass(frozen=True)
class Dataset:
    """A labelled set of clips.

    Attributes
    ----------
    name
        Short name, such as ``ucf101``.
    clips
        In a fixed order, the same on every machine; names are unique.
    classes
        Class names in the set's own order: the position is the class index.
    splits
        The official splits, empty where the set has none. They may name clips that are not on
        disk; :meth:`missing` lists those.
    absent
        Names of clips that the set's list has and the disk has not, splits or no splits.
    """

    name: str
    clips: tuple[Clip, ...]
    classes: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ()
    absent: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, Clip] = {}
        for clip in self.clips:
            if clip.name in seen:
                raise ParameterError(
                    f"{str(seen[clip.name].path)!r} and {str(clip.path)!r} share "
                    f"the clip name {clip.name!r}"
                )
            seen[clip.name] = clip
        unknown = {clip.label for clip in self.clips if clip.label is not None} - set(self.classes)
        if unknown:
            raise ParameterError(
                f"labels {sorted(unknown)} are not among the classes of {self.name!r}"
            )

    def missing(self) -> tuple[str, ...]:
        """Clip names that a list or a split speaks of and that are not in the set, sorted."""
        present = {clip.name for clip in self.clips}
        named = {name for split in self.splits for name in (*split.train, *split.test)}
        return tuple(sorted(named.union(self.absent) - present))
