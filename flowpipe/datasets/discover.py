"""Turn what a user names on the command line into clips with safe, distinct names."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flowpipe.datasets.base import VIDEO_SUFFIXES, Clip
from flowpipe.datasets.find import find_frame_folders, find_videos, holds_frames
from flowpipe.datasets.lists import readings, without_comment
from flowpipe.datasets.names import FoundClip, clip_names
from flowpipe.datasets.text import existing, lines_of, read_text, readable, rows_of
from flowpipe.errors import ParameterError
from flowpipe.runner.provenance import is_output, read_stage

logger = logging.getLogger(__name__)

LIST_SUFFIXES = frozenset({".csv", ".list", ".lst", ".txt"})


def discover(inputs: Sequence[str]) -> list[Clip]:
    """Find the clips in folders, files, globs and list files, in a fixed order.

    Parameters
    ----------
    inputs
        A folder is searched for videos, recursively and through links; where it holds no video, for
        folders of frames. Hidden entries and folders with outputs of flowpipe are left out. Clips
        are named by their path from the folder, without the suffix. A folder that directly holds
        frames is a clip. A ``.txt``, ``.lst``, ``.list`` or ``.csv`` file is a list: a path a line
        (or ended by NUL), alone, with a label, or as TSN's ``path n_frames label``; for CSV the
        column ``path``. Relative paths are looked up from the list's folder, then from the working
        folder. Anything else is taken for a video.

    Returns
    -------
    list of Clip
        Where two would share a name, they keep their suffixes or get folders of their paths
        before it. A path that does not exist is a clip too, and so is a folder that may not be
        listed: it fails when it is opened, as any unreadable video does.

    Raises
    ------
    ParameterError
        Nothing was found, or nothing by a glob.
    FormatError
        A list file cannot be read.
    """
    several = len(inputs) > 1
    found = [entry for text in inputs for entry in _expand(text, skip_outputs=several)]
    distinct = list({os.path.abspath(entry.path): entry for entry in found}.values())
    if not distinct:
        raise ParameterError(
            f"no videos in {', '.join(repr(text) for text in inputs) or 'no inputs'}; "
            f"looked for {' '.join(sorted(VIDEO_SUFFIXES))}, and for folders of frames"
        )
    names = clip_names(distinct)
    return [Clip(entry.path, name) for entry, name in zip(distinct, names, strict=True)]


def _expand(text: str, *, skip_outputs: bool) -> Iterator[FoundClip]:
    path = Path(text)
    there = _exists(path)
    if there and path.is_dir():
        yield from _in_folder(path, skip_outputs=skip_outputs)
    elif not there and glob.has_magic(text):
        yield from _in_glob(text)
    elif path.suffix.lower() in LIST_SUFFIXES:
        yield from _in_list(path)
    else:
        yield FoundClip(path, path.name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long a name, a folder that may not be entered
        return False


def _in_glob(pattern: str) -> Iterator[FoundClip]:
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise ParameterError(f"no videos in {pattern!r}: no file has a name like that")
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    for match in matches:
        parents = Path(match).relative_to(root).parents[:-1]
        if not any(is_output(root / parent) for parent in parents):
            for entry in _expand(match, skip_outputs=True):
                yield replace(entry, name=_relative(entry.path, root) or entry.name)


def _in_folder(root: Path, *, skip_outputs: bool) -> Iterator[FoundClip]:
    if is_output(root):
        if skip_outputs:
            logger.warning(f"{str(root)!r} holds outputs of flowpipe; it is not searched")
            return
        if (read_stage(root) or {}).get("stage") == "view":
            raise ParameterError(f"{str(root)!r} holds pictures of flow, and no videos to process")
    unreadable: list[OSError] = []
    videos = find_videos(root, unreadable)
    yield from videos
    for error in unreadable:
        path = Path(error.filename)
        yield FoundClip(path, path.relative_to(root.parent if path == root else root).as_posix())
    if not videos and not unreadable:
        if holds_frames(root):
            yield FoundClip(root, root.absolute().name)
        yield from (entry for entry in find_frame_folders(root) if holds_frames(entry.path))


def _in_list(listing: Path) -> Iterator[FoundClip]:
    for path in _listed(listing):
        inside = _relative(path, listing.parent) or _relative(path, Path())
        yield FoundClip(path, inside or path.name)


def _listed(listing: Path) -> Iterator[Path]:
    bases = (listing.parent, Path())
    if listing.suffix.lower() == ".csv":
        for _, row in rows_of(listing, ("path",), "with the column 'path'"):
            if row["path"]:
                yield existing(bases, [row["path"]]) or listing.parent / readable(row["path"])
        return
    text = read_text(listing)
    if "\0" in text:
        for name in filter(None, text.split("\0")):
            yield existing(bases, [name]) or listing.parent / name
        return
    for _, line in lines_of(listing):
        yield _located(line.strip(), bases)


def _located(line: str, bases: Sequence[Path]) -> Path:
    """Return the path in a list line, which may be followed by numbers or a label."""
    for text in dict.fromkeys((line, without_comment(line))):
        paths = [text, *(columns[0] for columns in readings(text).values())]
        if found := existing(bases, paths):
            return found
    ways = readings(line)
    for reading in ("quoted", "path words"):
        if reading in ways:
            return bases[0] / readable(ways[reading][0])
    trailing = re.fullmatch(r"(.*?)(\s+\d+){1,2}", line)
    return bases[0] / readable(trailing[1] if trailing else line)


def _relative(path: Path, root: Path) -> str | None:
    relative = os.path.relpath(path, root)
    return None if relative.startswith("..") else Path(relative).as_posix()
