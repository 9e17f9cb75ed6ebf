"""HMDB51 (Kuehne et al., 2011): 6766 clips, 51 classes, three official splits.

Each class and split has a list ``<class>_test_split<k>.txt`` of all clips of the class with an id:
1 is training (70 clips), 2 is test (30 clips), 0 is neither. The name of a file is
``<source>_<class>_<five attributes>_<number>.avi``. Clips of a class from one source film are never
in both halves, but another class may have its clips of the film in the other half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.find import find_clips, folder
from flowpipe.datasets.names import FoundClip, safe_name, without_suffix
from flowpipe.datasets.text import lines_of, malformed
from flowpipe.errors import FormatError, ParameterError

PATTERN = re.compile(r".+_[a-z]+_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+", re.DOTALL)
"""Name of a clip without suffix."""

_LIST = re.compile(r"(?P<label>.+)_test_split(?P<split>\d+)\.txt")


def detect(root: Path, found: Sequence[FoundClip]) -> bool:
    """Return whether all clips are named like those of HMDB51, in folders of their classes."""
    if not found or not all(PATTERN.fullmatch(without_suffix(each.path.name)) for each in found):
        return False
    for each in found:
        label = each.path.parent.name
        if f"_{label}_" not in each.path.name:
            raise FormatError(
                f"{str(each.path)!r} is named like a clip of HMDB51, but not of the class of its "
                f"folder, {label!r}; name the kind: --dataset folders goes by the folders"
            )
    return True


def lists_folder(root: Path) -> Path | None:
    """Return the folder of the official lists in or beside a folder of videos, None if none is."""
    names = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
    places = [root]
    for parent in (root, root.parent):
        places += [parent / name for name in names]
        places.append(parent / "test_train_splits" / "testTrainMulti_7030_splits")
    return next((place for place in places if any(place.glob("*_test_split*.txt"))), None)


def hmdb51(root: Path, lists: Path | None = None) -> Dataset:
    """Read HMDB51, or a part of it.

    Parameters
    ----------
    root
        Holds the videos as ``<class>/<clip>.avi``.
    lists
        Folder of the official lists; by default ``testTrainMulti_7030_splits``,
        ``test_train_splits`` or ``splits`` in or beside the root, or the root itself.

    Returns
    -------
    Dataset
        ``hmdb51``: clips ``<class>/<stem>``, group ``<class>/<source film>``, classes in the
        order of their names, splits ``split1`` to ``split3``, or none where there are no
        lists. Clips with the id 0 are in no half of a split.

    Raises
    ------
    FormatError
        A line of a list is malformed, a list lacks, or a video lies in no class folder.
    """
    lists = lists or lists_folder(folder(root))
    ids = _read_lists(folder(lists)) if lists is not None else {}
    splits = tuple(
        Split(
            f"split{number}",
            tuple(name for name, use in uses.items() if use == "1"),
            tuple(name for name, use in uses.items() if use == "2"),
        )
        for number, uses in ids.items()
    )
    clips = []
    for entry in find_clips(root):
        if entry.path.parent == root:
            raise FormatError(
                f"{str(entry.path)!r} lies in no class folder, as every HMDB51 clip does"
            )
        label = entry.path.parent.name
        clips.append(_clip(entry.path, label, without_suffix(entry.path.name)))
    present = {clip.name for clip in clips}
    listed = {name for uses in ids.values() for name in uses}
    absent = []
    for name in sorted(listed - present):
        label, _, stem = name.partition("/")
        absent.append(_clip(root / f"{name}.avi", label, stem))
    labels = {str(clip.label) for clip in (*clips, *absent)}
    return Dataset("hmdb51", tuple(clips), tuple(sorted(labels)), splits, tuple(absent))


def _clip(path: Path, label: str, stem: str) -> Clip:
    source = re.match(rf"(?s)(.+)_{re.escape(label)}_", stem)
    group = f"{label}/{source[1]}" if source else None
    return Clip(path, safe_name(f"{label}/{stem}"), label, group)


def _read_lists(lists: Path) -> dict[int, dict[str, str]]:
    """Return the id of each clip by split number and clip name."""
    found = sorted(
        (int(match["split"]), match["label"], path)
        for path in lists.iterdir()
        if (match := _LIST.fullmatch(path.name))
    )
    if not found:
        raise ParameterError(
            f"{str(lists)!r} has no <class>_test_split1.txt; name the folder that has"
        )
    every = {label for _, label, _ in found}
    ids: dict[int, dict[str, str]] = {}
    for split, label, path in found:
        uses = ids.setdefault(split, {})
        for number, line in lines_of(path):
            file, _, use = line.rstrip().rpartition(" ")
            name = safe_name(f"{label}/{file.strip().removesuffix('.avi')}")
            if not file.strip().endswith(".avi") or use not in ("0", "1", "2") or name in uses:
                right = "'<clip>.avi <id>', a clip not listed before and 0, 1 or 2"
                raise malformed(path, number, line, right)
            uses[name] = use
    for split, uses in ids.items():
        lacking = every - {name.partition("/")[0] for name in uses}
        if lacking:
            raise FormatError(
                f"{str(lists)!r} lacks {min(lacking)}_test_split{split}.txt, or it lists no clip"
            )
    return ids
