"""Stored flow of the clips that a list names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow.store import FlowReader, StoredClip, stored_clips


class UnusableClipsError(FlowpipeError):
    """Clips of a list are not there, too short or damaged; the message lists every one."""


def stored_by_name(source: Path, names: Iterable[str]) -> dict[str, StoredClip]:
    """Find clips in a folder of flow.

    A clip is stored under its own name; or under one that differs in upper and lower case only
    (UCF101's ``HandstandPushups`` holds ``v_HandStandPushups_...``, and copies of the set spell
    either like the other); or, in a folder without class folders as dense_flow writes them, under
    the last part of its name. A name that fits more than one clip fits none.

    Parameters
    ----------
    source
        Folder of flow in any layout, or one clip of it.
    names
        Clip names.

    Returns
    -------
    dict
        The clips that are there, by the name that was asked for.

    Raises
    ------
    FormatError
        The folder does not exist, or is a file of another kind.
    """
    exact: dict[str, StoredClip] = {}
    folded: defaultdict[str, list[StoredClip]] = defaultdict(list)
    for clip in stored_clips(source):
        exact[clip.name] = clip
        folded[clip.name.casefold()].append(clip)
    names = list(names)
    last_parts: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        last_parts[_last(name)].add(name)
    found = {}
    for name in names:
        if name in exact:
            found[name] = exact[name]
            continue
        candidates = folded.get(name.casefold(), [])
        if not candidates and len(last_parts[_last(name)]) == 1:
            candidates = folded.get(_last(name), [])
        if len(candidates) == 1:
            found[name] = candidates[0]
    return found


def checked(
    source: Path, names: Sequence[str], length_of: Callable[[FlowReader], int], *, bound: float
) -> list[tuple[StoredClip, int]]:
    """Open every clip once, and have it say how long it is.

    Parameters
    ----------
    source, names
        As for :func:`stored_by_name`.
    length_of
        Number of fields or frames; raises a FlowpipeError for a clip that cannot be used.
    bound
        Of 8-bit flow that does not record it.

    Raises
    ------
    UnusableClipsError
        Lists all clips that are missing or cannot be used, each with its reason.
    """
    there = stored_by_name(source, names)
    clips, reasons = [], []
    for name in names:
        try:
            if name not in there:
                raise FormatError(f"not in {str(source)!r}")
            with FlowReader(there[name], bound=bound) as reader:
                clips.append((there[name], length_of(reader)))
        except (FlowpipeError, OSError) as error:
            reasons.append(f"{name}: {error}")
    if reasons:
        listed = "\n  ".join(reasons)
        raise UnusableClipsError(
            f"{len(reasons)} of {len(names)} clips cannot be used:\n  {listed}\n"
            "extract them, or leave them out of the list"
        )
    return clips


def check_members(reader: FlowReader, *, images: bool = False) -> None:
    """Raise a FormatError unless every field of a clip is there, or every frame."""
    there, kind = reader.names(), reader.layout
    count = reader.meta.n_images if images else len(reader)
    for index in range(count):
        for member in (kind.image_member(index),) if images else kind.flow_members(index):
            if member not in there:
                raise FormatError(f"{str(reader.clip.path)!r} lacks {member!r}")


def _last(name: str) -> str:
    return name.rpartition("/")[2].casefold()
