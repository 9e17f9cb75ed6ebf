"""The tables of trajectories of a set's clips: which there are, and what each was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.io.source import source_status
from flowpipe.trajectories.stage import TABLE_SUFFIX
from flowpipe.trajectories.table import Table

Rows = NDArray[np.float32]

_BLOCK = 16384
"""Rows of a clip that are read at a time."""
_POSITIONS = slice(7, 10)
"""Columns of ``info``: x, y and t as parts of width, height and duration."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A clip and its table.

    Attributes
    ----------
    name, path
        Of the clip, and of the table.
    rows
        In the table.
    source
        SHA-256 of the video that it was made from.
    size
        Width and height of the frames, in pixels.
    video
        Where the video is.
    """

    name: str
    path: Path
    rows: int
    source: str
    size: tuple[int, int]
    video: Path


def survey(
    clips: Sequence[Clip], folder: Path, root: Path | None = None
) -> tuple[dict[str, Tracked], dict[str, str]]:
    """Look at the table of each clip.

    Parameters
    ----------
    clips
        Of a labelled set.
    folder
        Of ``extract-trajectories``. A table is named as its clip is, or by the path of its video.
    root
        The folder that this path starts from.

    Returns
    -------
    dict, dict
        By clip name: what is there, and why the others are not.
    """
    there, lacking = {}, {}
    for clip in clips:
        path = folder / f"{clip.name}{TABLE_SUFFIX}"
        if not path.exists() and root is not None and clip.path.is_relative_to(root):
            path = folder / clip.path.relative_to(root).with_suffix(TABLE_SUFFIX)
        try:
            there[clip.name] = _look(clip, path, folder)
        except FileNotFoundError:
            lacking[clip.name] = f"{str(folder)!r} has no trajectories of it"
        except FlowpipeError as error:
            lacking[clip.name] = str(error)
    return there, lacking


def without_rows(tables: Mapping[str, Tracked]) -> list[str]:
    """Return the names of the clips that have a table without any trajectory, in order.

    Such clips are too short for a track, or nothing moves in them: they have no descriptors that
    could be encoded, which is known before the work begins.
    """
    return [name for name, tracked in tables.items() if not tracked.rows]


def sample(
    tables: Mapping[str, Tracked], chosen: Mapping[str, NDArray[np.int64]], field: str
) -> Rows:
    """Chosen rows of clips, one after the other, of one field."""
    parts = []
    for name, rows in chosen.items():
        if len(rows):
            with Table(tables[name].path) as table:
                whole = len(rows) == len(table)
                parts.append(table.read(slice(None) if whole else rows, (field,))[field])
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def blocks(path: Path, fields: Sequence[str]) -> Iterator[tuple[dict[str, Rows], Rows]]:
    """Rows of a table in blocks: fields, and positions as pyramids take them."""
    with Table(path) as table:
        for first in range(0, len(table), _BLOCK):
            found = table.read(slice(first, first + _BLOCK), ("info", *fields))
            yield found, found["info"][:, _POSITIONS]


def _look(clip: Clip, path: Path, folder: Path) -> Tracked:
    with Table(path) as table:
        found = table.attributes
        try:
            source = json.loads(found["source"])
            whole = str(source["sha256"])
            size = int(found["width"]), int(found["height"])
        except (KeyError, TypeError, ValueError):
            raise FormatError(
                f"{str(path)!r} does not say which video it was made from; extract it again"
            ) from None
        if source_status(source, clip.path, folder, clip.name) == "changed":
            raise FormatError(
                f"{str(clip.path)!r} has changed since its trajectories were made; extract it again"
            )
        return Tracked(clip.name, path, len(table), whole, size, clip.path)
