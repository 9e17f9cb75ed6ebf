"""UCF101 (Soomro, Zamir and Shah, 2012): 13 320 clips, 101 classes, three official splits.

Clips are called ``v_<Class>_g<group>_c<clip>.avi``. One class has two spellings: the lists and the
folder say ``HandstandPushups``, the files ``v_HandStandPushups_...``, and copies of the set changed
one or the other. Clips are therefore looked up without regard to case, in whatever folder they
are, and named as the lists name them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.by_name import clips_named
from flowpipe.datasets.facts import load_facts
from flowpipe.datasets.find import folder
from flowpipe.datasets.text import lines_of, malformed
from flowpipe.errors import FormatError, ParameterError

PATTERN = re.compile(r"v_(?P<label>[A-Za-z]+)_g(?P<group>\d+)_c(?P<clip>\d+)")
EXAMPLE = "v_Archery_g01_c01.avi"

_TRAIN_LINE = "'<Class>/v_<Class>_gNN_cNN.avi <class number>'"
_TEST_LINE = "'<Class>/v_<Class>_gNN_cNN.avi'"


def lists_folder(root: Path) -> Path | None:
    """Return the folder of the official lists in or beside a folder of videos, None if none is."""
    places = (root / "ucfTrainTestlist", root, root.parent / "ucfTrainTestlist")
    return next((place for place in places if any(place.glob("trainlist*.txt"))), None)


def ucf101(root: Path, lists: Path | None = None) -> Dataset:
    """Read UCF101, or a part of it.

    Parameters
    ----------
    root
        Holds the videos, in class folders or loose, or holds ``UCF-101`` which does.
    lists
        Folder of ``classInd.txt``, ``trainlistNN.txt`` and ``testlistNN.txt``; by default
        ``ucfTrainTestlist`` in or beside the root, or the root itself.

    Returns
    -------
    Dataset
        ``ucf101``: clips ``<Class>/v_<Class>_gNN_cNN``, group ``gNN``, classes in the official
        order, splits ``split1`` to ``split3``, or none where there are no lists.

    Raises
    ------
    FormatError
        A line of a list is malformed, or a video is not named as this set names its videos.
    """
    lists = lists or lists_folder(folder(root))
    classes = tuple(load_facts("ucf101").classes)
    splits: tuple[Split, ...] = ()
    if lists is not None:
        classes, splits = _read_lists(folder(lists))
    listed = {
        name.rpartition("/")[2].casefold(): name
        for split in splits
        for name in (*split.train, *split.test)
    }
    by_case = {label.casefold(): label for label in classes}
    videos = root / "UCF-101" if (root / "UCF-101").is_dir() else root
    clips = []
    for path, match in clips_named(videos, PATTERN, EXAMPLE):
        label = by_case.get(match["label"].casefold())
        if label is None:
            raise FormatError(
                f"{str(path)!r} is of the class {match['label']!r}, "
                f"which is none of the {len(classes)} classes of UCF101"
            )
        name = listed.get(path.stem.casefold(), f"{label}/{path.stem}")
        clips.append(Clip(path, name, label, f"g{int(match['group']):02d}"))
    clips.sort(key=lambda clip: clip.name)
    absent = tuple(
        Clip(videos / f"{name}.avi", name, name.partition("/")[0], _group(name))
        for name in sorted(set(listed.values()) - {clip.name for clip in clips})
    )
    return Dataset("ucf101", tuple(clips), classes, splits, absent)


def _group(name: str) -> str:
    match = PATTERN.fullmatch(name.rpartition("/")[2])
    assert match is not None  # the lists were checked
    return f"g{int(match['group']):02d}"


def _read_lists(lists: Path) -> tuple[tuple[str, ...], tuple[Split, ...]]:
    classes = _read_classes(lists / "classInd.txt")
    numbers = sorted(
        match[1]
        for path in lists.iterdir()
        if (match := re.fullmatch(r"(?:train|test)list(\d+)\.txt", path.name))
        and path.name.startswith("train")
    )
    splits = []
    for number in numbers:
        train = tuple(_read_list(lists / f"trainlist{number}.txt", classes, numbered=True))
        test = tuple(_read_list(lists / f"testlist{number}.txt", classes, numbered=False))
        splits.append(Split(f"split{int(number)}", train, test))
    if not splits:
        raise ParameterError(f"{str(lists)!r} has no trainlist01.txt; name the folder that has")
    return classes, tuple(splits)


def _read_classes(path: Path) -> tuple[str, ...]:
    classes: list[str] = []
    for number, line in lines_of(path):
        fields = line.split()
        if len(fields) != 2 or fields[0] != str(len(classes) + 1) or fields[1] in classes:
            raise malformed(path, number, line, f"'{len(classes) + 1} <a class not named before>'")
        classes.append(fields[1])
    return tuple(classes)


def _read_list(path: Path, classes: tuple[str, ...], *, numbered: bool) -> Iterator[str]:
    right = _TRAIN_LINE if numbered else _TEST_LINE
    for number, line in lines_of(path):
        listed, _, class_number = line.strip().partition(" ")
        label, slash, file = listed.partition("/")
        match = PATTERN.fullmatch(file.removesuffix(".avi"))
        if not slash or match is None or label.casefold() != match["label"].casefold():
            raise malformed(path, number, line, right)
        if label not in classes:
            raise malformed(path, number, line, f"a clip of a class in {path.parent}/classInd.txt")
        if (numbered or class_number) and class_number.strip() != str(classes.index(label) + 1):
            raise malformed(path, number, line, f"{listed} {classes.index(label) + 1}")
        yield f"{label}/{match[0]}"
