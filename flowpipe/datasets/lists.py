"""Read sets that a list file gives: the lists of TSN and its successors, and CSV.

A path in a list is taken from the set's root, or is absolute. A clip is named by its path from the
root; where a list leads out of the root, by its path from the deepest folder that holds them all.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.datasets.base import (
    VIDEO_SUFFIXES,
    Clip,
    Dataset,
    Split,
    natural_key,
    refuse_similar,
)
from flowpipe.datasets.find import folder
from flowpipe.datasets.names import FoundClip, clip_names
from flowpipe.datasets.text import existing, lines_of, malformed, readable, rows_of
from flowpipe.errors import FormatError, ParameterError

_MOST_CLASSES = 100_000  # of a list without names; a larger number is a slip of the pen
_TSN_LINE = "'path n_frames label' or 'path label', the label a class index from 0 or a name"
_CSV_HEADER = "'path,label', and if known 'group' and 'split' (or 'split1', 'split2', ...)"
HALVES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
}
"""What people call the parts of a split."""

_QUOTED = re.compile(r"""\s*(["'])(?P<path>.+?)\1\s*(?P<rest>.*)""", re.DOTALL)
_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))
_VIDEO_FIRST = re.compile(rf"(?P<path>.+?(?:{_SUFFIX}))(?:\s+(?P<rest>.*))?", re.I | re.DOTALL)
_TRAILING_COMMENT = re.compile(r"(?P<line>.*\S)\s+(?:#|//)\s.*", re.DOTALL)

Columns = tuple[str, str]
"""Path and label of a line."""


@dataclass(frozen=True)
class _Entry:
    source: Path
    number: int
    path: Path
    label: str | None
    group: str | None = None


def tsn_lists(root: Path, lists: Sequence[Path], class_names: Path | None = None) -> Dataset:
    """Read the lists of TSN, TSM, mmaction2 and others: ``path n_frames label`` or ``path label``.

    A path is a video or a folder of frames and may contain spaces; a label may have several words,
    and either may be quoted. Where a list can be read in several ways, the one that finds most of
    the files is taken.

    Parameters
    ----------
    root
        What the paths in the lists start from. A path may lack the suffix of the video.
    lists
        One list, or two: the training list and the test list, which become the split ``lists``.
    class_names
        A file with a class name a line, ``name`` or ``index name``, the index from 0 or 1. By
        default ``classInd.txt``, ``class_names.txt``, ``classes.txt`` or ``labels.txt`` beside the
        first list, if it has a name for every label. Without it the classes are called ``0``,
        ``1``, ... or as the lists call them. Labels count from 0; from 1 if the names do and the
        last label is their number.

    Returns
    -------
    Dataset
        Named like the first list. Listed clips that are not on disk are in ``absent``.

    Raises
    ------
    FormatError
        A line is malformed, or a clip is listed twice.
    """
    if len(lists) not in (1, 2):
        raise ParameterError(
            f"lists has {len(lists)} files; give one list, or a training and a test list"
        )
    folder(root)
    halves = [_tsn_entries(root, path) for path in lists]
    entries = [entry for half in halves for entry in half]
    beside = class_names or _class_names_beside(lists[0], [entry.label or "" for entry in entries])
    entries, classes = _with_classes(entries, beside)
    names = _names(root, entries)
    splits: tuple[Split, ...] = ()
    if len(halves) == 2:
        first = len(halves[0])
        splits = (Split("lists", tuple(names[:first]), tuple(names[first:])),)
    dataset = _dataset(lists[0].stem, entries, names, classes, splits)
    notes = [f"the names of the classes are those of {str(beside)!r}"] if beside else []
    used = Counter(entry.label for entry in entries)
    if classes and not used[classes[0]] and classes[0] == "0":
        notes.append("no clip has the label 0: labels count from 0, these begin at 1")
    return replace(dataset, notes=tuple(notes))


def csv_list(path: Path, root: Path | None = None) -> Dataset:
    """Read a CSV file with the header ``path,label`` and, in any order, ``group`` and ``split``.

    Parameters
    ----------
    path
        The file. A column ``split`` says ``train``, ``test`` or ``val`` or nothing (not used);
        there may be several, ``split1``, ``split2``, ... Other columns are ignored.
    root
        What the paths start from, by default the folder of the file.

    Returns
    -------
    Dataset
        Named like the file's folder, classes in natural order. A column ``split1`` makes the split
        ``split1`` of train and test, and ``split1-val`` of train and val. A clip without a label
        has None. Listed clips that are not on disk are in ``absent``.

    Raises
    ------
    FormatError
        The header or a row is malformed, a clip is listed twice, or two classes differ in nothing
        but case or white space.
    """
    root = folder(root or path.parent)
    entries: list[_Entry] = []
    uses: dict[str, list[str]] = {}
    for number, row in rows_of(path, ("path", "label"), _CSV_HEADER):
        line = ",".join(row.values())
        if not row["path"] or "\0" in row["path"]:
            raise malformed(path, number, line, "a row with the path of a video")
        label = " ".join(readable(row["label"]).split(" ")) or None
        group = readable(row.get("group", "")) or None
        entries.append(_Entry(path, number, locate(root, row["path"]), label, group))
        for column in row:
            if re.fullmatch(r"split\d*", column):
                text = row[column].lower()
                if text and text not in HALVES:
                    right = f"'train', 'test', 'val' or nothing in the column {column!r}"
                    raise malformed(path, number, line, right)
                uses.setdefault(column, []).append(HALVES.get(text, ""))
    names = _names(root, entries)
    splits: list[Split] = []
    for column, column_uses in uses.items():
        splits += splits_of(column, zip(names, column_uses, strict=True))
    classes = _natural({entry.label for entry in entries if entry.label is not None}, path)
    return _dataset(path.resolve().parent.name, entries, names, classes, tuple(splits))


def splits_of(name: str, uses: Sequence[Columns] | zip[Columns]) -> list[Split]:
    """Return the splits that the uses ``train``, ``test`` and ``val`` of clips make.

    Training against test clips, and ``<name>-val``: training against validation clips.
    """
    halves: dict[str, list[str]] = {"train": [], "test": [], "val": []}
    for clip, use in uses:
        if use:
            halves[use].append(clip)
    train, test, val = (tuple(half) for half in halves.values())
    splits = []
    if test or not val:
        splits.append(Split(name, train, test))
    if val:
        splits.append(Split(f"{name}-val", train, val, validation=bool(test)))
    return splits


def readings(line: str) -> dict[str, Columns]:
    """Return the path and the label of a line in each of the ways in which it can be read."""
    if quoted := _QUOTED.fullmatch(line):
        words = quoted["rest"].split(None, 1)
        label = words[1] if len(words) == 2 and words[0].isdecimal() else quoted["rest"]
        return {"quoted": (quoted["path"], _unquoted(label))}
    found: dict[str, Columns] = {}
    fields = line.rsplit(None, 2)
    if len(fields) == 3 and fields[1].isdecimal():
        found["path n_frames label"] = fields[0], _unquoted(fields[2])
    if len(fields) > 1:
        path, label = line.rsplit(None, 1)
        found["path label"] = path, _unquoted(label)
    if (video := _VIDEO_FIRST.fullmatch(line)) and video["rest"]:
        frames = re.fullmatch(r"\d+\s+(\S.*)", video["rest"], re.DOTALL)
        found["path words"] = video["path"], _unquoted(video["rest"].strip())
        if frames:
            found["path n_frames words"] = video["path"], _unquoted(frames[1].strip())
    return found


def without_comment(line: str) -> str:
    """Return a line without a comment at its end, ``# ...`` or ``// ...``."""
    comment = _TRAILING_COMMENT.fullmatch(line)
    return comment["line"] if comment else line


def _unquoted(label: str) -> str:
    label = label.strip()
    return label[1:-1] if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'" else label


def _tsn_entries(root: Path, path: Path) -> list[_Entry]:
    lines = list(lines_of(path))
    ways = []
    for number, line in lines:
        bare = without_comment(line)
        if bare != line and existing([root], [columns[0] for columns in readings(bare).values()]):
            line = bare
        ways.append(readings(line))
        if "\0" in line or not ways[-1]:
            raise malformed(path, number, line, _TSN_LINE)
    quoted = [way.pop("quoted", None) for way in ways]
    plain = [index for index, way in enumerate(ways) if quoted[index] is None]
    chosen = _chosen_reading(root, path, [lines[i] for i in plain], [ways[i] for i in plain])
    for index, chosen_columns in zip(plain, chosen, strict=True):
        quoted[index] = chosen_columns
    entries = []
    for (number, line), columns in zip(lines, quoted, strict=True):
        assert columns is not None
        text, label = columns
        if not label or re.fullmatch(r"[-+]\d+|\d*\.\d+", label):
            raise malformed(path, number, line, _TSN_LINE)
        entries.append(_Entry(path, number, locate(root, text), readable(label)))
    return entries


def _chosen_reading(
    root: Path, path: Path, lines: Sequence[tuple[int, str]], ways: Sequence[dict[str, Columns]]
) -> list[Columns]:
    """Read all lines in the one way that finds most files, or most paths that end like videos."""
    if not lines:
        return []
    threes = sum("path n_frames label" in way for way in ways)
    complete = [
        reading
        for reading in (
            "path n_frames label",
            "path label",
            "path n_frames words",
            "path words",
        )
        if all(reading in way for way in ways)
    ]

    def worth(reading: str) -> tuple[int, int]:
        paths = [way[reading][0] for way in ways]
        there = sum(existing([root], [text]) is not None for text in paths)
        return there, sum(text.lower().endswith(tuple(VIDEO_SUFFIXES)) for text in paths)

    if threes < len(lines) and threes > len(lines) / 2:
        # mostly three columns: the first line without a frame count is the wrong one
        for (number, line), way in zip(lines, ways, strict=True):
            if "path n_frames label" not in way:
                raise malformed(path, number, line, "'path n_frames label', as most lines are")
    if not complete:
        number, line = lines[0]
        raise malformed(path, number, line, _TSN_LINE)
    best = max(complete, key=worth)
    return [way[best] for way in ways]


def _class_names_beside(path: Path, labels: Sequence[str]) -> Path | None:
    """Return the file of class names beside a list of numbers, if it has one for each number."""
    if not labels or not all(re.fullmatch(r"\d{1,6}", label) for label in labels):
        return None
    for name in ("classInd.txt", "class_names.txt", "classes.txt", "labels.txt"):
        beside = path.with_name(name)
        if beside != path and beside.is_file():
            most = max(map(int, labels)) + (min(map(int, labels)) == 0)
            return beside if len(read_class_names(beside)[0]) >= most else None
    return None


def _with_classes(
    entries: Sequence[_Entry], class_names: Path | None
) -> tuple[list[_Entry], tuple[str, ...]]:
    """Return the entries with class names for their labels, and the classes."""
    labels = [entry.label or "" for entry in entries]
    classes, from_one = read_class_names(class_names) if class_names else (None, False)
    if all(re.fullmatch(r"\d+", label) for label in labels):
        if classes and from_one and {"0", str(len(classes))} & {*labels} == {str(len(classes))}:
            labels = [str(int(label) - 1) for label in labels]
        for entry, label in zip(entries, labels, strict=True):
            most = len(classes) if classes else _MOST_CLASSES
            if len(label) > len(str(_MOST_CLASSES)) or int(label) >= most:
                right = f"labelled 0 to {most - 1}"
                right += f", the classes of {str(class_names)!r}" if classes else ""
                raise malformed(entry.source, entry.number, label, right)
        if classes is None:
            classes = tuple(str(index) for index in range(max(map(int, labels), default=-1) + 1))
        labels = [classes[int(label)] for label in labels]
    elif classes is None:
        classes = _natural(set(labels), entries[0].source)
    else:
        for entry, label in zip(entries, labels, strict=True):
            if label not in classes:
                raise malformed(entry.source, entry.number, label, f"one of {', '.join(classes)}")
    return [replace(e, label=label) for e, label in zip(entries, labels, strict=True)], classes


def read_class_names(path: Path) -> tuple[tuple[str, ...], bool]:
    """Read the names of classes, ``name`` or ``index name`` a line, the index from 0 or 1.

    Returns
    -------
    tuple of str, bool
        The names, and whether the indices begin at 1.
    """
    lines = [line for _, line in lines_of(path)]
    indexed = [re.fullmatch(r"(\d+)[\s,]+(\S.*?)\s*", line) for line in lines]
    numbers = [int(match[1]) for match in indexed if match]
    if len(numbers) == len(lines) and numbers in (
        list(range(len(lines))),
        list(range(1, len(lines) + 1)),
    ):
        names = tuple(readable(match[2]) for match in indexed if match)
    else:
        names = tuple(readable(line.strip()) for line in lines)
    if len(set(names)) < len(names) or not names:
        raise FormatError(f"{str(path)!r} should have a different class name on each line")
    return names, numbers[:1] == [1]


def _natural(labels: set[str], source: Path) -> tuple[str, ...]:
    classes = tuple(sorted(labels, key=natural_key))
    refuse_similar(classes, repr(str(source)))
    return classes


def locate(root: Path, text: str) -> Path:
    """Return the absolute path of a listed clip, as it is called on disk if it is there."""
    base = root.absolute()
    found = existing([base], [text]) or base / readable(text).replace("\\", "/")
    return Path(os.path.normpath(found))


def _names(root: Path, entries: Sequence[_Entry]) -> list[str]:
    first: dict[Path, _Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.path, entry)
        if other is not entry and other.source == entry.source:
            right = f"listed once; so is line {other.number}"
            raise malformed(entry.source, entry.number, str(entry.path), right)
    names = listed_names(root, list(first))
    return [names[entry.path] for entry in entries]


def listed_names(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Return the clip names of different absolute paths, by their paths from the root.

    Where one leads out of the root, by the paths from the deepest folder that holds them all.
    """
    base = Path(os.path.normpath(root.absolute()))
    if not all(path.is_relative_to(base) and path != base for path in paths):
        base = Path(os.path.commonpath([path.parent for path in paths]))
    found = [FoundClip(path, path.relative_to(base).as_posix()) for path in paths]
    return dict(zip(paths, clip_names(found), strict=True))


def _dataset(
    name: str,
    entries: Sequence[_Entry],
    names: Sequence[str],
    classes: tuple[str, ...],
    splits: tuple[Split, ...],
) -> Dataset:
    clips: dict[bool, list[Clip]] = {True: [], False: []}
    for entry, clip_name in zip(entries, names, strict=True):
        clips[is_there(entry.path)].append(Clip(entry.path, clip_name, entry.label, entry.group))
    return Dataset(name, tuple(clips[True]), classes, splits, tuple(clips[False]))


def is_there(path: Path) -> bool:
    """Return whether a path exists; one that may not be looked at does not."""
    try:
        return path.exists()
    except OSError:
        return False
