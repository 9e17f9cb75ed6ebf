"""From what a user names on the command line to clips with safe, distinct names."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.datasets.base import VIDEO_SUFFIXES, Clip
from flowpipe.errors import FormatError, ParameterError

LIST_SUFFIXES = frozenset({".csv", ".list", ".lst", ".txt"})

# Control characters, halves of surrogate pairs (undecodable bytes), and what looks encoded.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")


def discover(inputs: Sequence[str]) -> list[Clip]:
    """Clips from folders, files, globs and list files, in a fixed order.

    Parameters
    ----------
    inputs
        A folder is searched for videos, recursively, through links, and leaving out hidden
        entries; its clips are named by their path from it, without the suffix. A ``.txt``,
        ``.lst``, ``.list`` or ``.csv`` file is a list: a path a line (or ended by NUL), alone,
        with a label, or as TSN's ``path n_frames label``; for CSV the column ``path``. Relative
        paths are looked up from the list's folder, then from the working folder. Anything else is
        taken for a video.

    Returns
    -------
    list of Clip
        Where two would share a name, they keep their suffixes or get folders of their paths
        before it. A path that does not exist is a clip too, and so is a folder that may not be
        listed: it fails when it is opened, as any unreadable video does, and the others go on.

    Raises
    ------
    ParameterError
        Nothing was found, or nothing by a glob.
    FormatError
        A list file cannot be read.
    """
    found = [entry for text in inputs for entry in _expand(text)]
    distinct = list({os.path.abspath(entry.path): entry for entry in found}.values())
    if not distinct:
        raise ParameterError(
            f"no videos in {', '.join(repr(text) for text in inputs) or 'no inputs'}; "
            f"looked for {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    names = _distinct_names(distinct)
    return [Clip(entry.path, safe_name(name)) for entry, name in zip(distinct, names, strict=True)]


def safe_name(name: str) -> str:
    """A clip name that is fit for files, lists and terminals: odd characters become ``%XX``.

    Control characters and undecodable bytes are encoded, and a ``%`` that could be taken for
    such a code, so that different names stay different. Spaces, quotes and letters of any
    script are left alone.
    """
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), name)


def _bytes(char: str) -> bytes:
    undecodable = "\udc80" <= char <= "\udcff"  # as os.fsdecode passes such a byte on
    return char.encode(errors="surrogateescape" if undecodable else "surrogatepass")


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    name: str  # with the suffix


def _expand(text: str) -> Iterator[_Found]:
    path = Path(text)
    there = _exists(path)
    if there and path.is_dir():
        yield from _in_folder(path)
    elif not there and glob.has_magic(text):
        yield from _in_glob(text)
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from _in_list(path)
    else:
        yield _Found(path, path.name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, a folder that may not be entered
        return False


def _in_glob(pattern: str) -> Iterator[_Found]:
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise ParameterError(f"no videos in {pattern!r}: no file has a name like that")
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for match in matches:
        for entry in _expand(match):
            yield replace(entry, name=_relative(entry.path, root) or entry.name)


def _in_folder(root: Path) -> Iterator[_Found]:
    closed: list[OSError] = []
    seen = set()
    for parent, folders, names in os.walk(root, onerror=closed.append, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # linked to twice, or a loop
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *sorted(names)]:
            path = Path(parent, name)
            if path.suffix.lower() not in VIDEO_SUFFIXES or name.startswith("."):
                continue
            if name in folders and any(_in_folder(path)):
                continue  # a folder that is merely called like a video
            yield _Found(path, path.relative_to(root).as_posix())
    for error in closed:
        path = Path(error.filename)
        yield _Found(path, path.relative_to(root.parent if path == root else root).as_posix())


def _in_list(listing: Path) -> Iterator[_Found]:
    for line in _lines(listing):
        path = _locate(line, listing.parent)
        inside = _relative(path, listing.parent) or _relative(path, Path())
        yield _Found(path, inside or path.name)


def _lines(listing: Path) -> list[str]:
    try:
        text = listing.read_bytes().decode(errors="surrogateescape").removeprefix("\ufeff")
    except OSError as error:
        raise FormatError(f"{str(listing)!r} cannot be read: {error.strerror}") from None
    if "\0" in text:
        return [part for part in text.split("\0") if part]
    if listing.suffix.lower() == ".csv":
        table = csv.DictReader(text.splitlines())
        if "path" not in (table.fieldnames or []):
            raise FormatError(
                f"{str(listing)!r} has the columns {table.fieldnames}; one must be 'path'"
            )
        return [row["path"] for row in table if row["path"]]
    return [line.strip() for line in text.split("\n") if line.strip()]


def _locate(line: str, folder: Path) -> Path:
    """The path in a list line, which may be followed by numbers or a label."""
    candidates = [line.rsplit(maxsplit=count)[0] for count in range(3)]
    for candidate in candidates:
        for base in (folder, Path()):
            if _exists(path := base / candidate):
                return path
    trailing = re.fullmatch(r"(.*?)(\s+\d+){1,2}", line)
    return folder / (trailing[1] if trailing else line)


def _relative(path: Path, root: Path) -> str | None:
    relative = os.path.relpath(path, root)
    return None if relative.startswith("..") else Path(relative).as_posix()


def _distinct_names(found: list[_Found]) -> list[str]:
    """Names without suffixes, but for those that would meet another."""
    names = [_without_suffix(entry.name) for entry in found]
    for depth in range(64):
        clashes = _clashes(names)
        if not clashes:
            return names
        for group in clashes:
            full = [_deepened(found[index], depth) for index in group]
            bare = [_without_suffix(name) for name in full]
            better = bare if len(set(bare)) == len(bare) and depth else full
            for index, name in zip(group, better, strict=True):
                names[index] = name
    raise ParameterError(f"clips cannot be told apart by name, such as {found[0].name!r}")


def _clashes(names: list[str]) -> list[list[int]]:
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        by_name[name].append(index)
    groups = [group for group in by_name.values() if len(group) > 1]
    # A clip "a" beside a folder "a" of other clips would be that folder in layouts of folders.
    folders = {str(parent) for name in names for parent in Path(name).parents}
    return groups + [
        group for name, group in by_name.items() if len(group) == 1 and name in folders
    ]


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix else path.as_posix()


def _deepened(entry: _Found, depth: int) -> str:
    parts = Path(os.path.abspath(entry.path)).parts[1:]
    return "/".join(parts[-(len(Path(entry.name).parts) + depth) :])
