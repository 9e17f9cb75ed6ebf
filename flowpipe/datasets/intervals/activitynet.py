"""Read labelled intervals from JSON in the form of ActivityNet (Caba Heilbron et al., CVPR 2015).

    {"database": {"<video>": {
        "subset": "training", "duration": 82.7,
        "annotations": [{"segment": [6.9, 19.4], "label": "Drinking coffee"}]}}}

ActivityNet, HACS and FineAction are published in it, and ActionFormer's and OpenTAD's copies of the
annotations of THUMOS'14.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from flowpipe.datasets.base import counted
from flowpipe.datasets.find import folder
from flowpipe.datasets.intervals.listing import Listing, Row
from flowpipe.datasets.intervals.named import named_clips, splits_of_subsets
from flowpipe.datasets.lists import HALVES
from flowpipe.datasets.names import safe_name
from flowpipe.datasets.text import readable
from flowpipe.errors import FormatError
from flowpipe.runner.json_files import read_json

_FORM = (
    '{"database": {"<video>": {"subset": "training", "duration": seconds, "annotations": '
    '[{"segment": [start, end], "label": "<class>"}]}}}'
)


def activitynet(path: Path, videos: Path | None = None) -> Listing:
    """Read a JSON file of intervals.

    Parameters
    ----------
    path
        The file. Times are in seconds; other keys than those above are ignored.
    videos
        The folder below which the videos are called like in the file, by default the file's.

    Returns
    -------
    Listing
        Named like the file. Videos of a test subset of which no video has an interval, as
        ActivityNet's, are left out: their intervals are not published.

    Raises
    ------
    FormatError
        The file is no JSON of this form; the message says where.
    """
    database = read_json(path).get("database")
    if not isinstance(database, dict):
        raise FormatError(f"{str(path)!r} has no object 'database'; the file should be {_FORM}")
    rows: dict[str, list[Row]] = {}
    durations: dict[str, float] = {}
    uses: dict[str, str] = {}
    unknown: dict[str, int] = {}
    for name, entry in database.items():
        where = f"{str(path)!r}, database[{name!r}]"
        if not isinstance(entry, dict):
            raise FormatError(f"{where} is {_short(entry)}; the file should be {_FORM}")
        rows[name] = _rows(where, safe_name(name), entry.get("annotations", []))
        if "duration" in entry:
            durations[safe_name(name)] = _duration(where, entry["duration"])
        subset = entry.get("subset")
        uses[name] = HALVES.get(str(subset).lower(), "")
        if subset is not None and not uses[name]:
            unknown[str(subset)] = unknown.get(str(subset), 0) + 1
    notes = [
        f"{counted(count, 'video is', 'videos are')} in the subset {subset!r}, which is none of "
        "training, validation and testing, and so in no split"
        for subset, count in unknown.items()
    ]
    unlabelled = [name for name, use in uses.items() if use == "test"]
    if unlabelled and len(unlabelled) < len(uses) and not any(rows[name] for name in unlabelled):
        notes.append(
            f"{counted(len(unlabelled), 'test video')} without intervals in the file: left out"
        )
        rows = {name: part for name, part in rows.items() if uses[name] != "test"}
    clips, more = named_clips(folder(videos or path.parent), rows)
    return Listing(
        path.stem,
        path,
        clips,
        tuple(row for part in rows.values() for row in part),
        splits_of_subsets((safe_name(name), uses[name]) for name in rows),
        durations,
        notes=(*notes, *more),
    )


def _rows(where: str, clip: str, annotations: object) -> list[Row]:
    if not isinstance(annotations, list):
        raise FormatError(f"{where}.annotations is {_short(annotations)}; it should be a list")
    rows = []
    for number, each in enumerate(annotations):
        here = f"{where}.annotations[{number}]"
        label = each.get("label") if isinstance(each, dict) else None
        segment = each.get("segment") if isinstance(each, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise FormatError(f"{here} is {_short(each)}; it should have a label")
        if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_number, segment)):
            right = "its segment should be [start, end] in seconds"
            raise FormatError(f"{here} is {_short(each)}; {right}")
        start, end = map(_float, segment)
        rows.append(Row(here, clip, " ".join(readable(label).split()), start, end))
    return rows


def _duration(where: str, value: object) -> float:
    duration = _float(value) if _is_number(value) else math.nan
    if not 0 < duration < math.inf:
        raise FormatError(f"{where}.duration is {_short(value)}; it should be seconds above 0")
    return duration


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
