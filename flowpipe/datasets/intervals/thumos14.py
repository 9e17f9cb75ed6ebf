"""Read the annotations of THUMOS'14 (Jiang et al., 2014) as its authors publish them.

    annotation/<Class>_val.txt, <Class>_test.txt, Ambiguous_val.txt, Ambiguous_test.txt

A line is ``video_validation_0000690 8.4 12.2``, in seconds. Detectors are trained on the validation
videos, since the training videos (UCF101) are trimmed, and tested on the test videos.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowpipe.datasets.find import folder
from flowpipe.datasets.intervals.listing import Listing, Row
from flowpipe.datasets.intervals.named import named_clips, splits_of_subsets
from flowpipe.datasets.names import safe_name
from flowpipe.datasets.text import lines_of, malformed
from flowpipe.errors import FormatError

_FILE = re.compile(r"(?P<label>[^._].*)_(?P<use>val|test)\.txt")
_RIGHT = "'<video> <start> <end>', both times in seconds"


def thumos14(path: Path, videos: Path | None = None) -> Listing:
    """Read the folder of the annotations of THUMOS'14.

    Parameters
    ----------
    path
        Holds the files, at any depth: both archives may be unpacked in it.
    videos
        The folder of the videos, by default the same.

    Returns
    -------
    Listing
        ``thumos14``, with the split ``test``: trained on the validation and tested on the test
        videos. Videos without an annotation are not part of it.

    Raises
    ------
    FormatError
        A line is malformed, a file is there twice, or a video is in both halves.
    """
    rows: list[Row] = []
    uses: dict[str, str] = {}
    seen: dict[str, Path] = {}
    for file in _files(path):
        match = _FILE.fullmatch(file.name)
        assert match is not None
        if (other := seen.setdefault(file.name, file)) is not file:
            raise FormatError(f"{str(other)!r} and {str(file)!r} have the same name; keep one")
        for number, line in lines_of(file):
            fields = line.split()
            try:
                name, start, end = fields[0], *map(float, fields[1:])
            except ValueError:
                raise malformed(file, number, line, _RIGHT) from None
            if uses.setdefault(name, match["use"]) != match["use"]:
                raise malformed(file, number, line, f"of a video that is not in {uses[name]!r}")
            where = f"{str(file)!r}, line {number}"
            rows.append(Row(where, safe_name(name), match["label"], start, end))
    clips, notes = named_clips(folder(videos or path), uses)
    splits = splits_of_subsets((safe_name(name), use) for name, use in uses.items())
    return Listing("thumos14", path, clips, tuple(rows), splits, notes=tuple(notes))


def is_thumos14(path: Path) -> bool:
    """Return whether a folder holds a file of annotations, by its name and first line."""
    return path.is_dir() and any(
        re.fullmatch(r"\S+(\s+[\d.]+){2}", line)
        for file in _files(path)
        for _, line in list(lines_of(file))[:1]
    )


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*.txt") if _FILE.fullmatch(file.name))
