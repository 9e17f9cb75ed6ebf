"""Read lists of splits, and name the folders of splits and of classifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowpipe.datasets.base import Split
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner.json_files import Json, read_json
from flowpipe.runner.provenance import digest

FINAL = "final"
"""The split that trains on all clips (``--final``), and the folder of its classifier."""
CLASSIFIERS = "classifiers"
"""Folder of the classifiers, beside the scores that evaluated them."""


def read_splits(path: Path) -> tuple[Split, ...]:
    """Read splits from a JSON file.

    Parameters
    ----------
    path
        ``{"splits": [{"name": "1", "train": ["class/clip", ...], "test": [...]}, ...]}``

    Raises
    ------
    FormatError
        The file is not such a list.
    ParameterError
        A clip is in both halves of a split.
    """
    content = read_json(path).get("splits")
    if not isinstance(content, list) or not content:
        raise FormatError(f"{str(path)!r} has no list 'splits'")
    return tuple(parse_split(path, number, entry) for number, entry in enumerate(content, 1))


def parse_split(path: Path, number: int, entry: Any) -> Split:
    """Return a split of a JSON file, the `number`-th from 1.

    Raises
    ------
    FormatError
        It is not an object with the clip names of both halves.
    """
    if not isinstance(entry, dict):
        raise FormatError(f"split {number} of {str(path)!r} is not an object")
    name = entry.get("name", str(number))
    halves = entry.get("train"), entry.get("test")
    fits = isinstance(name, str) and all(
        isinstance(half, list) and all(isinstance(each, str) for each in half) for half in halves
    )
    if not fits:
        raise FormatError(
            f"split {number} of {str(path)!r} must have 'train' and 'test', lists of clip names"
        )
    return Split(name, tuple(entry["train"]), tuple(entry["test"]))


def choose_splits(splits: Sequence[Split], names: Sequence[str], of: str) -> list[Split]:
    """Return the splits of some names, or all where there are none.

    Parameters
    ----------
    splits
        All splits.
    names
        Names of those to return.
    of
        What they are splits of, for errors.

    Raises
    ------
    ParameterError
        There is none of a name.
    """
    known = {split.name: split for split in splits}
    for name in names:
        if name not in known:
            raise ParameterError(
                f"{of} has no split {name!r}; there are {', '.join(map(repr, known))}"
            )
    return [known[name] for name in names] or list(splits)


def split_identity(clips: Iterable[str], split: Split) -> Json:
    """Return digests of the clips of a protocol, and of those that a split trains on.

    Where the first is the same and the second is not, one may train on what the other tests.
    """
    return {"clips": digest(sorted(clips)), "train": digest(sorted(split.train))}


def split_folder(number: int, name: str) -> str:
    """Return the name of the folder of a split, which has a number from 1 in its protocol."""
    return FINAL if name == FINAL else f"{number:02d}-{_safe(name)}"


def folder_of_split(folder: Path, name: str) -> Path | None:
    """Return the folder that :func:`split_folder` names for a split, if it is in a folder."""
    if name == FINAL:
        found = [folder / FINAL]
    else:
        found = [each for each in folder.glob("*-*") if each.name.partition("-")[2] == _safe(name)]
    return found[0] if len(found) == 1 and found[0].is_dir() else None


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)
