"""Read videos with labelled intervals, by the kind of the file that lists them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from os import PathLike
from pathlib import Path

from flowpipe.datasets.find import folder
from flowpipe.datasets.intervals import csv_file, thumos14
from flowpipe.datasets.intervals.base import IntervalSet
from flowpipe.datasets.intervals.listing import FrameRates, Listing, assemble
from flowpipe.datasets.load import AUTO
from flowpipe.errors import FormatError, ParameterError

logger = logging.getLogger(__name__)

AnyPath = str | PathLike[str]


@dataclass(frozen=True, slots=True)
class IntervalKind:
    """Describe a kind of files of labelled intervals.

    Attributes
    ----------
    title
        What it is, in prose.
    home
        Its reader, as ``module:function``. It takes the file or folder, and the folder of the
        videos or None, and returns a :class:`~flowpipe.datasets.intervals.listing.Listing`.
    detect
        Whether a file or folder is of this kind. The first entry of the table that says so is
        taken.
    published
        Where it is published.
    """

    title: str
    home: str
    detect: Callable[[Path], bool]
    published: str = ""

    def read(self, path: Path, videos: Path | None) -> Listing:
        """Read a file of this kind."""
        module, _, name = self.home.partition(":")
        reader: Callable[[Path, Path | None], Listing] = getattr(import_module(module), name)
        return reader(path, videos)


INTERVAL_SETS: dict[str, IntervalKind] = {
    "csv": IntervalKind(
        "a CSV file with the header path,start,end,label",
        "flowpipe.datasets.intervals.csv_file:csv_intervals",
        lambda path: path.suffix.lower() == ".csv" or (path / csv_file.LIST_NAME).is_file(),
    ),
    "activitynet": IntervalKind(
        "a JSON file in the form of ActivityNet",
        "flowpipe.datasets.intervals.activitynet:activitynet",
        lambda path: path.suffix.lower() == ".json",
        "Caba Heilbron et al., CVPR 2015",
    ),
    "thumos14": IntervalKind(
        "the folder of the annotations of THUMOS'14, <Class>_val.txt and <Class>_test.txt",
        "flowpipe.datasets.intervals.thumos14:thumos14",
        thumos14.is_thumos14,
        "Jiang et al., THUMOS challenge, 2014",
    ),
}
"""Kinds of files of labelled intervals, by the names that a user types."""


def load_intervals(
    path: AnyPath,
    videos: AnyPath | None = None,
    kind: str = AUTO,
    *,
    frame_rates: FrameRates = None,
    stored: Iterable[str] | None = None,
) -> IntervalSet:
    r"""Read a set of videos with labelled intervals.

    What the set is taken for, and what is odd about it, is logged. Intervals that are reversed,
    negative, empty or not finite are errors, which are listed. What lies after the end of a video
    is cut off, repeated intervals are kept once, overlapping ones of a class are kept, and the
    notes say so. Intervals labelled ``Ambiguous`` are kept apart: their frames do not count.

    Parameters
    ----------
    path
        The CSV or JSON file, or the folder that holds it.
    videos
        The folder of the videos, by default that of the file.
    kind
        A name in :data:`flowpipe.datasets.intervals.INTERVAL_SETS`, or ``auto``.
    frame_rates
        Frames per second, of all videos or by clip name, for a file in frames; by default those
        that the file or the videos give.
    stored
        Names of the outputs of a stage, such as features, which are enough where videos are gone.

    Returns
    -------
    IntervalSet
        Videos that are not on disk are in ``absent``.

    Raises
    ------
    FormatError
        The file is malformed, or none of its videos is on disk and `stored` is None.
    ParameterError
        The kind is unknown, a folder does not exist, or `frame_rates` is given for seconds.

    Examples
    --------
    >>> import flowpipe, pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> (root / "a.avi").touch()
    >>> _ = (root / "intervals.csv").write_text("path,start,end,label\na.avi,0.4,2.8,run\n")
    >>> found = flowpipe.load_intervals(root)
    >>> found.classes, found.intervals
    (('run',), {'a': (Interval(start=0.4, end=2.8, label='run'),)})
    """
    path = Path(path)
    kinds = (AUTO, *INTERVAL_SETS)
    if kind not in kinds:
        raise ParameterError(f"intervals kind is {kind!r}; it must be one of {', '.join(kinds)}")
    if not path.exists():
        raise ParameterError(f"{str(path)!r} does not exist; name the file of the intervals")
    if kind == AUTO:
        kind = detect(path)
    listing = INTERVAL_SETS[kind].read(path, None if videos is None else folder(Path(videos)))
    found = replace(assemble(listing, frame_rates, stored), kind=kind)
    logger.info(found.describe())
    for note in found.notes:
        logger.warning(note)
    return found


def detect(path: Path) -> str:
    """Tell the kind of a file or folder of intervals.

    Raises
    ------
    FormatError
        It is none that is known.
    """
    for kind, entry in INTERVAL_SETS.items():
        if entry.detect(path):
            return kind
    known = "; ".join(f"{name}: {entry.title}" for name, entry in INTERVAL_SETS.items())
    raise FormatError(f"{str(path)!r} is none of the kinds of intervals: {known}")
