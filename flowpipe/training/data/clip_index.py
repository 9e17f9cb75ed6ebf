"""Stored flow of the clips that a list names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from flowpipe.datasets.base import Clip
from flowpipe.datasets.match import match_clips
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow.store import FlowReader, StoredClip, no_flow, stored_clips


class UnusableClipsError(FlowpipeError):
    """Clips of a list are not there, too short or damaged; the message lists every one.

    Parameters
    ----------
    reasons
        Why each cannot be used, by clip name.
    total
        Number of clips in the list.
    """

    def __init__(self, reasons: Mapping[str, str], total: int) -> None:
        listed = "\n  ".join(f"{name}: {reason}" for name, reason in reasons.items())
        super().__init__(
            f"{len(reasons)} of {total} clips cannot be used:\n  {listed}\n"
            "extract them, remove them from the list, or ask to leave out unusable clips "
            "(--leave-out-unusable)"
        )
        self.reasons = dict(reasons)


def stored_by_name(
    source: Path, clips: Iterable[Clip | str], *, frames_only: bool = False
) -> tuple[dict[str, StoredClip], dict[str, str]]:
    """Find clips in a folder of flow; see :mod:`flowpipe.datasets.match` for the rule.

    Parameters
    ----------
    source
        Folder of flow in any layout, or one clip of it.
    clips
        Clips of a data set, or their names.
    frames_only
        Find folders of RGB frames without flow, too.

    Returns
    -------
    found, missing : dict
        By the name that was asked for: the clips, and why there is none.

    Raises
    ------
    FormatError
        The folder does not exist, is a file of another kind, or holds no clip at all.
    """
    stored = {clip.name: clip for clip in stored_clips(source, frames_only=frames_only)}
    if not stored:
        raise FormatError(no_flow(source))
    found, missing = match_clips(clips, stored, source)
    return {name: stored[output] for name, output in found.items()}, missing


def checked(
    source: Path,
    clips: Sequence[Clip | str],
    length_of: Callable[[FlowReader], int],
    open_clip: Callable[[StoredClip], FlowReader],
    *,
    frames_only: bool = False,
) -> list[tuple[StoredClip, int]]:
    """Open every clip once, and have it say how long it is.

    Parameters
    ----------
    source, clips, frames_only
        As for :func:`stored_by_name`.
    length_of
        Number of fields or frames; raises a FlowpipeError for a clip that cannot be used.
    open_clip
        Opens stored flow or frames.

    Raises
    ------
    UnusableClipsError
        Lists all clips that are missing or cannot be used, each with its reason.
    """
    there, missing = stored_by_name(source, clips, frames_only=frames_only)
    names = [clip if isinstance(clip, str) else clip.name for clip in clips]
    found, reasons = [], {}
    for name in names:
        try:
            if name not in there:
                raise FormatError(missing[name])
            with open_clip(there[name]) as reader:
                found.append((there[name], length_of(reader)))
        except (FlowpipeError, OSError) as error:
            reasons[name] = str(error)
    if reasons:
        raise UnusableClipsError(reasons, len(names))
    return found


def check_members(reader: FlowReader, *, images: bool = False) -> None:
    """Raise a FormatError unless every field of a clip is there, or every frame."""
    there, kind = reader.names(), reader.layout
    count = reader.meta.n_images if images else len(reader)
    for index in range(count):
        for member in (kind.image_member(index),) if images else kind.flow_members(index):
            if member not in there:
                raise FormatError(f"{str(reader.clip.path)!r} lacks {member!r}")
