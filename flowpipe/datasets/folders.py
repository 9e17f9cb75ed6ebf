"""Read sets that are laid out in folders, and refuse to guess what the folders mean."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset, natural_key
from flowpipe.datasets.find import find_clips, folder
from flowpipe.datasets.lists import HALVES, splits_of
from flowpipe.datasets.names import FoundClip, clip_names
from flowpipe.errors import FormatError

_SPLIT_FOLDER = re.compile(
    rf"(?:(?:videos?|clips?|frames|rawframes|rgb|flow)[_-])?(?P<use>{'|'.join(HALVES)})(?:[_-]?\d+)?",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"(?:actor|participant|patient|performer|person|speaker|subject|subj|sub|user|volunteer|s|p)"
    r"[_-]?\d+",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[a-z]{0,6}[_-]?\d+", re.IGNORECASE)


def class_folders(root: Path) -> Dataset:
    """Read ``root/<class>/<clip>``: the name of the folder is the label.

    Parameters
    ----------
    root
        The folder of the class folders. A class may have sub-folders; a folder without any clip is
        no class.

    Returns
    -------
    Dataset
        Named like the folder, classes in natural order (``2`` before ``10``), no groups, no splits.

    Raises
    ------
    FormatError
        A clip lies outside the class folders, there is none at all, or two folders differ in
        nothing but case or white space.
    """
    found = _in_folders(root, depth=1, layout="<class>")
    names = clip_names(found)
    clips = tuple(
        Clip(entry.path, name, label=_parts(entry)[0])
        for entry, name in zip(found, names, strict=True)
    )
    return Dataset(root.resolve().name, clips, _classes(clips))


def split_folders(root: Path) -> Dataset:
    """Read ``root/<train, test or val>/<class>/<clip>``.

    Returns
    -------
    Dataset
        As :func:`class_folders`; the split ``folders`` is training against test clips,
        ``folders-val`` training against validation clips. No splits if there is but one folder.

    Raises
    ------
    FormatError
        A folder has another name than those of splits, or a clip lies in no class folder.
    """
    found = _in_folders(root, depth=2, layout="<train, test or val>/<class>")
    clips, uses = [], []
    for entry, name in zip(found, clip_names(found), strict=True):
        split, label, *_ = _parts(entry)
        use = split_of_folder(split)
        if use is None:
            raise FormatError(
                f"the folder {split!r} of {str(root)!r} should be called train, test or val"
            )
        clips.append(Clip(entry.path, name, label))
        uses.append((name, use))
    several = len({use for _, use in uses}) > 1
    splits = splits_of("folders", uses) if several else []
    return Dataset(root.resolve().name, tuple(clips), _classes(clips), tuple(splits))


def subject_folders(root: Path) -> Dataset:
    """Read ``root/<subject>/<class>/<clip>``: the subject is the group.

    Returns
    -------
    Dataset
        As :func:`class_folders`, with groups.

    Raises
    ------
    FormatError
        A clip does not lie in a class folder in a subject's folder.
    """
    found = _in_folders(root, depth=2, layout="<subject>/<class>")
    clips = tuple(
        Clip(entry.path, name, label=_parts(entry)[1], group=_parts(entry)[0])
        for entry, name in zip(found, clip_names(found), strict=True)
    )
    return Dataset(root.resolve().name, clips, _classes(clips))


def split_of_folder(name: str) -> str | None:
    """Return ``train``, ``test`` or ``val`` if a folder is called like a part of a split."""
    match = _SPLIT_FOLDER.fullmatch(name)
    return HALVES[match["use"].lower()] if match else None


def has_split_folders(root: Path, found: Sequence[FoundClip]) -> bool:
    """Return whether all clips lie in class folders in folders called train, test or val.

    Raises
    ------
    FormatError
        Such folders hold clips directly, so that they could be classes as well.
    """
    tops = {_parts(entry)[0] for entry in found if _parts(entry)}
    loose = any(not _parts(entry) for entry in found)
    if loose or not tops:
        return False
    others = sorted(top for top in tops if split_of_folder(top) is None)
    if others:
        nested = {_parts(entry)[0] for entry in found if len(_parts(entry)) > 1}
        splits = sorted(nested - set(others))
        if len({split_of_folder(top) for top in splits}) > 1:
            raise FormatError(
                f"the folders {', '.join(splits)} of {str(root)!r} are called like parts of a "
                f"split, but {', '.join(others[:3])} is not; name the kind: --dataset folders "
                "takes all as classes, or move the others out of the folder"
            )
        return False
    direct = next((entry for entry in found if len(_parts(entry)) < 2), None)
    if direct is not None:
        raise FormatError(
            f"{str(direct.path)!r} lies in no class folder, and {_parts(direct)[0]!r} is called "
            "like a part of a split; name the kind: --dataset folders takes "
            f"{', '.join(sorted(tops))} as classes, --dataset csv or tsn reads a list of labels"
        )
    return True


def check_class_folders(root: Path, found: Sequence[FoundClip]) -> bool:
    """Return whether the top folders hold all clips, and can only be classes.

    Raises
    ------
    FormatError
        The folders could be subjects as well.
    """
    below: defaultdict[str, set[str]] = defaultdict(set)
    for entry in found:
        if not (parts := _parts(entry)):
            return False
        below[parts[0]].add(parts[1] if len(parts) > 1 else "")
    subjects = [top for top in below if _SUBJECT.fullmatch(top)]
    if len(subjects) == len(below) > 1:
        raise FormatError(
            f"the folders of {str(root)!r} are called like subjects ({', '.join(subjects[:3])}), "
            "not like classes; name the kind: --dataset folders takes them as classes, --dataset "
            "subject-folders reads <subject>/<class>/<clip>, --dataset csv reads a list of labels"
        )
    inner = [name for names in below.values() for name in names]
    shared = {name for name in inner if name and inner.count(name) > 1}
    if "" not in inner and any(not _NUMBERED.fullmatch(name) for name in shared):
        tops = ", ".join(sorted(below, key=natural_key)[:3])
        seconds = ", ".join(sorted(shared, key=natural_key)[:3])
        raise FormatError(
            f"{str(root)!r} could be <class>/<folder>/<clip> with the classes {tops}, or "
            f"<subject>/<class>/<clip> with the classes {seconds}; name the kind: --dataset "
            "folders or --dataset subject-folders"
        )
    return bool(found)


def _in_folders(root: Path, depth: int, layout: str) -> list[FoundClip]:
    found = find_clips(folder(root))
    for entry in found:
        if len(_parts(entry)) < depth:
            raise FormatError(
                f"{str(entry.path)!r} lies in no class folder; it should be in {root}/{layout}/"
            )
    if not found:
        raise FormatError(f"{str(root)!r} holds no video; they should be in {root}/{layout}/")
    return found


def _parts(entry: FoundClip) -> list[str]:
    """Return the folders of a clip below the root."""
    return entry.name.split("/")[:-1]


def _classes(clips: Sequence[Clip]) -> tuple[str, ...]:
    return tuple(sorted({str(clip.label) for clip in clips}, key=natural_key))
