"""Find the videos that a list of intervals calls by their names alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from flowpipe.datasets.base import Clip, Split, counted
from flowpipe.datasets.find import find_clips
from flowpipe.datasets.names import safe_name, without_suffix
from flowpipe.errors import FormatError

_PREFIX = "v_"
"""ActivityNet's downloader puts it before the names of the lists."""


def named_clips(root: Path, names: Iterable[str]) -> tuple[tuple[Clip, ...], list[str]]:
    """Return a clip for each name, called like it, and notes.

    Parameters
    ----------
    root
        The folder below which a video (or a folder of frames) is called like it, with or without
        ActivityNet's ``v_`` before it. A clip that is not there has the path that it should have.
    names
        Different names of videos.

    Raises
    ------
    FormatError
        A name is not one that a file can have.
    """
    by_stem: defaultdict[str, list[Path]] = defaultdict(list)
    for entry in find_clips(root):
        by_stem[without_suffix(entry.path.name)].append(entry.path)
    clips, several = [], []
    for name in names:
        stem = name.rpartition("/")[2]
        found = by_stem.get(stem) or by_stem.get(_PREFIX + stem) or []
        if len(found) > 1:
            several.append(name)
        if {"", ".", ".."} & set(name.split("/")):
            raise FormatError(f"{name!r} is no name of a video; it should be a file name")
        path = found[0] if len(found) == 1 else root / f"{safe_name(name)}.mp4"
        clips.append(Clip(path, safe_name(name)))
    notes = []
    if several:
        what = counted(len(several), "name fits", "names fit")
        notes.append(f"{what} several videos below {str(root)!r} each, such as {several[0]!r}")
    return tuple(clips), notes


def splits_of_subsets(uses: Iterable[tuple[str, str]]) -> tuple[Split, ...]:
    """Return the splits on which papers report, of clips in ``train``, ``val`` and ``test``.

    ``validation`` trains on the training and tests on the validation videos, as for ActivityNet.
    ``test`` trains on the training and tests on the test videos, or, where there are no training
    videos, trains on the validation videos, as for THUMOS'14.
    """
    halves: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, use in uses:
        if use in halves:
            halves[use].append(name)
    train, val, test = (tuple(half) for half in halves.values())
    splits = []
    if test and (train or val):
        splits.append(Split("test", train or val, test))
    if train and val:
        splits.append(Split("validation", train, val, validation=bool(test)))
    return tuple(splits)
