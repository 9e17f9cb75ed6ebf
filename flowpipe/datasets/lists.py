"""Sets given by a list file: the lists of TSN and its successors, and CSV.

A path in a list is taken from the set's root, or absolute. A clip is named by its path from the
root; where a list leads out of the root, by its path from the deepest folder that holds them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.datasets.base import VIDEO_SUFFIXES, Clip, Dataset, Split
from flowpipe.datasets.files import folder, lines_of, malformed, names_below, rows_of
from flowpipe.errors import FormatError, ParameterError

_MOST_CLASSES = 100_000  # of a list without names; a larger number is a slip of the pen
_TSN_LINE = "'path n_frames label' or 'path label', the label a class index from 0 or a name"
_CSV_HEADER = "'path,label', and if known 'group' and 'split' (or 'split1', 'split2', ...)"
_HALVES = {
    "train": "train",
    "test": "test",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "": "",
}


@dataclass(frozen=True)
class _Entry:
    source: Path
    number: int
    path: Path
    label: str | None
    group: str | None = None


def tsn_lists(root: Path, lists: Sequence[Path], class_names: Path | None = None) -> Dataset:
    """Read the lists of TSN, TSM, mmaction2 and others: ``path n_frames label`` or ``path label``.

    Fields are split from the right, so that paths may contain spaces. Where a list could be read
    with two columns or with three, the reading that finds more of the files wins, three if equal.

    Parameters
    ----------
    root
        What the paths in the lists start from. A path may lack the suffix of the video.
    lists
        One list, or two: the training list and the test list, which become the split ``lists``.
    class_names
        A file with a class name a line, ``name`` or ``index name``, the index from 0 or 1.
        Without it the classes are called ``0``, ``1``, ... or as the lists call them.

    Returns
    -------
    Dataset
        Named like the first list. Listed videos that are not there are in ``missing()``.

    Raises
    ------
    FormatError
        A line is malformed, or a video is listed twice.
    """
    if len(lists) not in (1, 2):
        raise ParameterError(
            f"lists has {len(lists)} files; give one list, or a training and a test list"
        )
    folder(root)
    parts = [_tsn_entries(root, path) for path in lists]
    entries = [entry for part in parts for entry in part]
    labels = [entry.label or "" for entry in entries]
    if all(re.fullmatch(r"\d+", label) for label in labels):
        classes = _class_names(class_names) if class_names else None
        if classes is None:
            for entry, label in zip(entries, labels, strict=True):
                if len(label) > len(str(_MOST_CLASSES)) or int(label) >= _MOST_CLASSES:
                    right = f"labelled 0 to {_MOST_CLASSES - 1}"
                    raise malformed(entry.source, entry.number, label, right)
            classes = tuple(str(index) for index in range(max(map(int, labels), default=-1) + 1))
        for entry, label in zip(entries, labels, strict=True):
            if int(label) >= len(classes):
                right = f"labelled 0 to {len(classes) - 1}, the classes of {str(class_names)!r}"
                raise malformed(entry.source, entry.number, label, right)
        labels = [classes[int(label)] for label in labels]
    else:
        classes = _class_names(class_names) if class_names else tuple(sorted(set(labels)))
        for entry, label in zip(entries, labels, strict=True):
            if label not in classes:
                raise malformed(entry.source, entry.number, label, f"one of {', '.join(classes)}")
    entries = [
        _Entry(entry.source, entry.number, entry.path, label)
        for entry, label in zip(entries, labels, strict=True)
    ]
    names = _names(root, entries)
    splits: tuple[Split, ...] = ()
    if len(parts) == 2:
        half = len(parts[0])
        splits = (Split("lists", tuple(names[:half]), tuple(names[half:])),)
    return _dataset(lists[0].stem, entries, names, classes, splits)


def csv_list(path: Path, root: Path | None = None) -> Dataset:
    """Read a CSV file with the header ``path,label`` and, in any order, ``group`` and ``split``.

    Parameters
    ----------
    path
        The file. A column ``split`` says ``train``, ``test`` or ``val`` or nothing (not used);
        there may be several, ``split1``, ``split2``, ... Other columns are passed over.
    root
        What the paths start from, by default the folder of the file.

    Returns
    -------
    Dataset
        Named like the file's folder, classes in the order of their names. A column ``split1`` makes
        the split ``split1`` of train and test, and ``split1-val`` of train and val, as it has them.
        A clip without a label has None. Listed videos that are not there are in ``missing()``.

    Raises
    ------
    FormatError
        The header or a row is malformed, or a video is listed twice.
    """
    root = folder(root or path.parent)
    entries: list[_Entry] = []
    uses: dict[str, list[str]] = {}
    for number, row in rows_of(path, ("path", "label"), _CSV_HEADER):
        line = ",".join(row.values())
        if not row["path"] or "\0" in row["path"]:
            raise malformed(path, number, line, "a row with the path of a video")
        video = _find(root, row["path"])
        group = row.get("group") or None
        entries.append(_Entry(path, number, video, row["label"] or None, group))
        for column in row:
            if re.fullmatch(r"split\d*", column):
                use = _HALVES.get(row[column].strip().lower())
                if use is None:
                    right = f"'train', 'test', 'val' or nothing in the column {column!r}"
                    raise malformed(path, number, line, right)
                uses.setdefault(column, []).append(use)
    names = _names(root, entries)
    splits = []
    for column, column_uses in uses.items():
        halves = {
            use: tuple(n for n, u in zip(names, column_uses, strict=True) if u == use)
            for use in ("train", "test", "val")
        }
        if halves["test"] or not halves["val"]:
            splits.append(Split(column, halves["train"], halves["test"]))
        if halves["val"]:
            splits.append(Split(f"{column}-val", halves["train"], halves["val"]))
    classes = tuple(sorted({entry.label for entry in entries if entry.label is not None}))
    return _dataset(path.resolve().parent.name, entries, names, classes, tuple(splits))


def _tsn_entries(root: Path, path: Path) -> list[_Entry]:
    lines = list(lines_of(path))
    twos: list[tuple[str, str]] = []
    threes: list[tuple[str, str]] = []
    for number, line in lines:
        fields = line.rsplit(None, 2)
        if "\0" in line or len(fields) < 2:
            raise malformed(path, number, line, _TSN_LINE)
        head, label = line.rsplit(None, 1)
        twos.append((head, label))
        if len(fields) == 3 and fields[1].isdecimal():
            threes.append((fields[0], fields[2]))
    chosen = twos
    if len(threes) == len(lines):
        found_twos, found_threes = (
            sum(_find(root, text).exists() for text, _ in columns) for columns in (twos, threes)
        )
        if found_threes >= found_twos:
            chosen = threes
    elif threes and len(threes) > len(lines) / 2:
        # mostly three columns: the first line without a frame count is the wrong one
        for number, line in lines:
            fields = line.rsplit(None, 2)
            if len(fields) < 3 or not fields[1].isdecimal():
                raise malformed(path, number, line, "'path n_frames label', as most lines are")
    entries = []
    for (number, line), (text, label) in zip(lines, chosen, strict=True):
        if re.fullmatch(r"[-+]\d+|\d*\.\d+", label):
            raise malformed(path, number, line, _TSN_LINE)
        entries.append(_Entry(path, number, _find(root, text), label))
    return entries


def _class_names(path: Path) -> tuple[str, ...]:
    lines = list(lines_of(path))
    indexed = [re.fullmatch(r"(\d+)[\s,]+(\S.*?)\s*", line) for _, line in lines]
    numbers = [int(match[1]) for match in indexed if match]
    if len(numbers) == len(lines) and numbers in (
        list(range(len(lines))),
        list(range(1, len(lines) + 1)),
    ):
        names = tuple(match[2] for match in indexed if match)
    else:
        names = tuple(line.strip() for _, line in lines)
    if len(set(names)) < len(names) or not names:
        raise FormatError(f"{str(path)!r} should have a different class name on each line")
    return names


def _find(root: Path, text: str) -> Path:
    """Absolute path of a listed video, with the suffix it has on disk where the list gives none."""
    path = Path(os.path.normpath(root.absolute() / text))
    if path.name and path.suffix.lower() not in VIDEO_SUFFIXES and not path.is_file():
        for suffix in sorted(VIDEO_SUFFIXES):
            candidate = path.with_name(path.name + suffix)
            if candidate.is_file():
                return candidate
    return path


def _names(root: Path, entries: Sequence[_Entry]) -> list[str]:
    first: dict[Path, _Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.path, entry)
        if other is not entry and other.source == entry.source:
            raise malformed(
                entry.source,
                entry.number,
                str(entry.path),
                f"listed once; so is line {other.number}",
            )
    base = Path(os.path.normpath(root.absolute()))
    paths = list(first)
    if not all(path.is_relative_to(base) and path != base for path in paths):
        base = Path(os.path.commonpath([path.parent for path in paths]))
    names = dict(zip(paths, names_below(base, paths), strict=True))
    return [names[entry.path] for entry in entries]


def _dataset(
    name: str,
    entries: Sequence[_Entry],
    names: Sequence[str],
    classes: tuple[str, ...],
    splits: tuple[Split, ...],
) -> Dataset:
    clips = [
        Clip(entry.path, clip_name, entry.label, entry.group)
        for entry, clip_name in zip(entries, names, strict=True)
    ]
    there = tuple(clip for clip in clips if clip.path.is_file())
    absent = tuple(clip.name for clip in clips if not clip.path.is_file())
    return Dataset(name, there, classes, splits, absent)
