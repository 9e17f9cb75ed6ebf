"""Kinetics (Kay et al., 2017) and sets published in its way: CSV files of YouTube intervals.

The columns are ``label,youtube_id,time_start,time_end,split``, times in seconds. Downloaders call a
clip ``<youtube_id>_<start>_<end>.mp4`` with both times in six digits, or ``<youtube_id>.mp4``, and
put it into a class folder, a split folder, both or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset, Split, natural_key
from flowpipe.datasets.find import find_clips, folder
from flowpipe.datasets.lists import HALVES
from flowpipe.datasets.names import safe_name, without_suffix
from flowpipe.datasets.text import malformed, read_text, readable, rows_of
from flowpipe.errors import FormatError

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def is_kinetics_csv(path: Path) -> bool:
    """Return whether the header of a CSV file is that of Kinetics."""
    header = {name.strip().lower() for name in read_text(path).partition("\n")[0].split(",")}
    return set(COLUMNS) - {"label"} <= header


def kinetics(root: Path, csv_files: Sequence[Path] = ()) -> Dataset:
    """Read Kinetics, or a part of it.

    Parameters
    ----------
    root
        Holds the videos, in folders or loose.
    csv_files
        The lists; by default all CSV files in the root that have the columns.

    Returns
    -------
    Dataset
        ``kinetics``: clips ``<label>/<youtube_id>_<start>_<end>`` in the order of the lists,
        whatever the file is called; group = YouTube id; classes in the order of their names; the
        splits ``val`` (train against val) and ``test`` (train against test) as the lists have them.
        Rows without a label give clips without one, named under ``unlabelled``.

    Raises
    ------
    FormatError
        There is no list, or a row is malformed or repeated.
    """
    csv_files = csv_files or sorted(
        path for path in folder(root).glob("*.csv") if is_kinetics_csv(path)
    )
    if not csv_files:
        raise FormatError(f"{str(root)!r} has no CSV file with the columns {','.join(COLUMNS)}")
    by_stem: dict[str, list[Path]] = {}
    for entry in find_clips(root):
        by_stem.setdefault(without_suffix(entry.path.name), []).append(entry.path)
    clips, absent, labels = [], [], set()
    uses: dict[str, str] = {}
    for source in csv_files:
        for number, row in rows_of(source, set(COLUMNS) - {"label"}, repr(",".join(COLUMNS))):
            label, name, use = _parse(source, number, row)
            if name in uses:
                raise malformed(source, number, ",".join(row.values()), "a clip not listed before")
            uses[name] = use
            if label is not None:
                labels.add(label)
            stem = name.rpartition("/")[2]
            found = by_stem.get(stem) or by_stem.get(row["youtube_id"])
            if found:
                clips.append(Clip(_choose(found, label), name, label, row["youtube_id"]))
            else:
                absent.append(Clip(root / f"{name}.mp4", name, label, row["youtube_id"]))
    train = tuple(name for name, use in uses.items() if use == "train")
    splits = []
    for held_out in ("val", "test"):
        half = tuple(name for name, use in uses.items() if use == held_out)
        if half:
            splits.append(Split(held_out, train, half))
    return Dataset(
        "kinetics",
        tuple(clips),
        tuple(sorted(labels, key=natural_key)),
        tuple(splits),
        tuple(absent),
    )


def _parse(source: Path, number: int, row: dict[str, str]) -> tuple[str | None, str, str]:
    """Return the label, the clip name and the use ('train', 'val', 'test') of a row."""
    line = ",".join(row.values())
    use = HALVES.get(row["split"].lower(), "")
    if use not in ("train", "val", "test"):
        raise malformed(source, number, line, "with the split 'train', 'val' or 'test'")
    try:
        start, end = (round(float(row[column])) for column in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        raise malformed(source, number, line, "with time_start and time_end in seconds") from None
    youtube_id = row["youtube_id"]
    if not youtube_id or "/" in youtube_id or "\0" in line or not 0 <= start < end:
        raise malformed(source, number, line, "with a YouTube id and time_start before time_end")
    label = readable(row.get("label", "")) or None
    place = (label or "unlabelled").replace("/", "_")
    if place in (".", ".."):
        raise malformed(source, number, line, "with the name of a class as label")
    return label, safe_name(f"{place}/{youtube_id}_{start:06d}_{end:06d}"), use


def _choose(paths: Sequence[Path], label: str | None) -> Path:
    """Return that of equally named files which is in the folder of the label, if one is."""
    wanted = {label, (label or "").replace(" ", "_")}
    return next((path for path in paths if path.parent.name in wanted), paths[0])
