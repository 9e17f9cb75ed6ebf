"""Find the tables of trajectories of a set's clips, and read rows of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.datasets.match import match_clips
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.io.source import source_status
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import Table
from flowpipe.trajectories.work import TABLE_SUFFIX, why_no_trajectories

Rows = NDArray[np.float32]

_BLOCK = 16384
"""Rows that are read at a time."""
POSITIONS = slice(7, 10)
"""Columns of ``info``: x, y and t as fractions of width, height and duration."""


@dataclass(frozen=True, slots=True)
class ClipTable:
    """A clip and its table.

    Attributes
    ----------
    name, path
        Name of the clip, and path of the table.
    rows
        Number of rows.
    length
        Number of frames of the video.
    source
        SHA-256 of the video that the table was made from.
    size
        Width and height of the frames, in pixels.
    video
        Path of the video.
    parameters
        Parameters of the trajectories.
    widest
        Number of columns of the widest descriptor.
    """

    name: str
    path: Path
    rows: int
    length: int
    source: str
    size: tuple[int, int]
    video: Path
    parameters: TrajectoryParameters
    widest: int

    @property
    def why_empty(self) -> str:
        """Return why the table has no rows."""
        return why_no_trajectories(self.parameters, self.length)


def find_tables(clips: Sequence[Clip], folder: Path) -> tuple[dict[str, ClipTable], dict[str, str]]:
    """Find the table of each clip; see :mod:`flowpipe.datasets.match` for the rule.

    Parameters
    ----------
    clips
        Clips of a labelled set.
    folder
        Folder of ``extract-trajectories``.

    Returns
    -------
    dict, dict
        By clip name: the tables, and why there is none.
    """
    paths = {
        path.relative_to(folder).as_posix().removesuffix(TABLE_SUFFIX): path
        for path in folder.rglob(f"*{TABLE_SUFFIX}")
    }
    found, missing = match_clips(clips, paths, folder)
    tables = {}
    for clip in clips:
        if clip.name in found:
            try:
                tables[clip.name] = _read(clip, paths[found[clip.name]], folder)
            except FlowpipeError as error:
                missing[clip.name] = str(error)
    return tables, missing


def read_sample(
    tables: Mapping[str, ClipTable], chosen: Mapping[str, NDArray[np.int64]], field: str
) -> Rows:
    """Read one field of chosen rows of clips, one clip after the other."""
    samples = []
    for name, rows in chosen.items():
        if len(rows):
            with Table(tables[name].path) as table:
                whole = len(rows) == len(table)
                samples.append(table.read(slice(None) if whole else rows, (field,))[field])
    return np.concatenate(samples) if samples else np.empty((0, 1), np.float32)


def read_blocks(path: Path, fields: Sequence[str]) -> Iterator[tuple[dict[str, Rows], Rows]]:
    """Read a table in blocks of rows: fields, and positions as pyramids take them."""
    with Table(path) as table:
        for first in range(0, len(table), _BLOCK):
            rows = table.read(slice(first, first + _BLOCK), ("info", *fields))
            yield rows, rows["info"][:, POSITIONS]


def track_points(path: Path, rows: NDArray[np.int64]) -> tuple[Rows, NDArray[np.int64]]:
    """Return the courses of trajectories of a table, and the frame in which each ends.

    A table stores the mean of the points and the steps between them. Steps of improved
    trajectories are without the motion of the camera, and so are these courses.

    Parameters
    ----------
    path
        The table.
    rows
        (n,) the rows.

    Returns
    -------
    (n, L + 1, 2) float32, (n,) int64
        x and y in pixels of the frames, oldest point first; numbers of frames, from 0.
    """
    with Table(path) as table:
        found = table.read(rows, ("info", "trajectory"))
    info = found["info"]
    length = found["trajectory"].shape[1] // 2  # there may be no rows
    steps = found["trajectory"].reshape(len(rows), length, 2) * info[:, 5, None, None]
    points = np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, axis=1)], axis=1)
    points += info[:, None, 1:3] - points.mean(axis=1, keepdims=True)
    return points, info[:, 0].astype(np.int64)


def _read(clip: Clip, path: Path, folder: Path) -> ClipTable:
    with Table(path) as table:
        about = table.attributes
        try:
            source = json.loads(about["source"])
            sha256 = str(source["sha256"])
            size = int(about["width"]), int(about["height"])
            length = int(about["length"])
        except (KeyError, TypeError, ValueError):
            raise FormatError(
                f"{str(path)!r} does not say which video it was made from; extract it again"
            ) from None
        if source_status(source, clip.path, folder, clip.name) == "changed":
            raise FormatError(
                f"{str(clip.path)!r} has changed since its trajectories were made; extract it again"
            )
        return ClipTable(
            clip.name,
            path,
            len(table),
            length,
            sha256,
            size,
            clip.path,
            table.parameters,
            table.widest,
        )
