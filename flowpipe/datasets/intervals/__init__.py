"""Videos with labelled intervals: the data sets of temporal action detection."""

from flowpipe.datasets.intervals.base import Interval, IntervalSet, covered_frames, frame_labels
from flowpipe.datasets.intervals.load import INTERVAL_SETS, IntervalKind, load_intervals

__all__ = [
    "INTERVAL_SETS",
    "Interval",
    "IntervalKind",
    "IntervalSet",
    "covered_frames",
    "frame_labels",
    "load_intervals",
]
