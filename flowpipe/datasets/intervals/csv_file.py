"""Read labelled intervals from a CSV file.

    path,start,end,label
    daria.avi,0.4,2.8,run

A row is one interval, ``start`` and ``end`` in seconds; or ``start_frame`` and ``end_frame``, in
frames from 0, where ``end_frame`` is the frame after the last. A row with a path alone lists a
video without intervals.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from flowpipe.datasets.base import Clip, Split
from flowpipe.datasets.find import folder
from flowpipe.datasets.intervals.listing import Listing, Row
from flowpipe.datasets.lists import HALVES, listed_names, locate, splits_of
from flowpipe.datasets.text import malformed, readable, rows_of
from flowpipe.errors import FormatError

LIST_NAME = "intervals.csv"
"""The file that is looked for in a folder."""
SECONDS = ("start", "end")
FRAMES = ("start_frame", "end_frame")
_HEADER = (
    "'path,start,end,label' in seconds or 'path,start_frame,end_frame,label' in frames, and if "
    "known 'group', 'split', 'duration' and 'frame_rate'"
)


def csv_intervals(path: Path, videos: Path | None = None) -> Listing:
    """Read a CSV file of intervals.

    Parameters
    ----------
    path
        The file, or the folder of ``intervals.csv``. Columns beside path, times and label:
        ``group``; ``split`` (or ``split1``, ``split2``, ...) with ``train``, ``test``, ``val`` or
        nothing; ``duration`` of the video in seconds; ``frame_rate`` in frames per second. They say
        the same, or nothing, in all rows of a video. Other columns are ignored.
    videos
        What the paths start from, by default the folder of the file.

    Raises
    ------
    FormatError
        The header or a row is malformed.
    """
    path = path / LIST_NAME if path.is_dir() else path
    root = folder(videos or path.parent)
    facts: dict[Path, dict[str, str]] = {}
    rows: list[tuple[int, Path, str, float, float]] = []
    times = SECONDS
    for number, row in rows_of(path, ("path", "label"), _HEADER):
        line = ",".join(row.values())
        times = _times(path, tuple(row))
        if not row["path"] or "\0" in row["path"]:
            raise malformed(path, number, line, "a row with the path of a video")
        clip = locate(root, row["path"])
        _gather(facts.setdefault(clip, {}), row, path, number)
        label = " ".join(readable(row["label"]).split())
        given = [bool(each) for each in (label, row[times[0]], row[times[1]])]
        if all(given):
            start, end = (_number(path, number, line, row[column]) for column in times)
            rows.append((number, clip, label, start, end))
        elif any(given):
            right = "a row with two times and a label, or with none of them for a video without any"
            raise malformed(path, number, line, right)
    names = listed_names(root, list(facts)) if facts else {}
    uses: dict[str, list[tuple[str, str]]] = {}
    for clip, known in facts.items():
        for column in (each for each in known if re.fullmatch(r"split\d*", each)):
            uses.setdefault(column, []).append((names[clip], HALVES[known[column]]))
    splits: list[Split] = []
    for column, halves in uses.items():
        splits += splits_of(column, halves)
    numbers = {
        column: {
            names[clip]: _positive(path, known[column], column, names[clip])
            for clip, known in facts.items()
            if column in known
        }
        for column in ("duration", "frame_rate")
    }
    return Listing(
        path.resolve().parent.name,
        path,
        tuple(Clip(clip, names[clip], None, known.get("group")) for clip, known in facts.items()),
        tuple(
            Row(f"{str(path)!r}, line {number}", names[clip], label, start, end)
            for number, clip, label, start, end in rows
        ),
        tuple(splits),
        numbers["duration"],
        numbers["frame_rate"],
        in_frames=times == FRAMES,
    )


def _times(path: Path, header: tuple[str, ...]) -> tuple[str, str]:
    """Return the names of the columns of the times."""
    found = [pair for pair in (SECONDS, FRAMES) if set(pair) <= set(header)]
    if len(found) != 1:
        wrong = "both" if found else "neither"
        raise FormatError(
            f"{str(path)!r}, line 1: {','.join(header)!r} has {wrong} of 'start,end' and "
            f"'start_frame,end_frame'; the header should be {_HEADER}"
        )
    return found[0]


def _gather(known: dict[str, str], row: dict[str, str], path: Path, number: int) -> None:
    """Add what a row says of its video; raise a FormatError if another row said something else."""
    for column, text in row.items():
        if not text or not re.fullmatch(r"split\d*|group|duration|frame_rate", column):
            continue
        value = readable(text)
        if column.startswith("split"):
            value = value.lower()
            if value not in HALVES:
                right = f"'train', 'test', 'val' or nothing in the column {column!r}"
                raise malformed(path, number, ",".join(row.values()), right)
        if (other := known.setdefault(column, value)) != value:
            right = f"of the {column} {other!r}, as an earlier row of the video"
            raise malformed(path, number, ",".join(row.values()), right)


def _number(path: Path, number: int, line: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise malformed(path, number, line, "a row with numbers for its times") from None


def _positive(path: Path, text: str, column: str, clip: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise FormatError(f"{str(path)!r}: the {column} of {clip!r} is {text!r}; it must be > 0")
    return value
