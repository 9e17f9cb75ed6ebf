"""Steps of a video: stored features, each at the frame that is the present for it.

A feature of the window [t, t + length) belongs to its last frame, which is the present: nothing
later is in it. Features of several folders, such as those of two streams, are joined: the windows
of one may end later than those of the other, and then the others' newest window that has ended is
taken. What lies before the first present has no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.match import match_clips
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.features.layouts import (
    LAYOUTS,
    StoredFeatures,
    load_features,
    read_record,
    stored_features,
)
from flowpipe.training.features.stage import Windows

_SHORTEST_RATE, _HIGHEST_RATE = 0.01, 10000.0
_LONGEST = 100_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Frames at which the features of one folder are due.

    Attributes
    ----------
    length, stride
        Of the windows, in flow fields or frames.
    after
        Frames from the first to the last that one field, difference or frame is made of.
    """

    length: int
    stride: int
    after: int

    @property
    def first(self) -> int:
        """The present of the first window, as a frame from 0."""
        return self.length - 1 + self.after

    def windows(self, frames: int) -> int:
        """Return the number of windows of a clip of so many frames."""
        count = max(frames - self.after, 1)
        return len(Windows(self.length, self.stride).starts(count, frames))


@dataclass(frozen=True, slots=True)
class Steps:
    """Joined features of a video.

    Attributes
    ----------
    name
        Of the video.
    features
        (T, F) float32.
    present
        (T,) int64, the last frame that each step has seen, from 0.
    frames
        Number of frames of the video.
    frame_rate
        Frames a second.
    stride
        Frames from step to step.
    """

    name: str
    features: NDArray[np.float32]
    present: NDArray[np.int64]
    frames: int
    frame_rate: float
    stride: int

    def times(self) -> NDArray[np.float64]:
        """Return (T, 2) seconds: when each step begins and ends to be the newest."""
        ends = np.append(self.present[1:], min(self.present[-1] + self.stride, self.frames))
        return np.stack([self.present, ends], axis=1) / self.frame_rate


@dataclass(frozen=True)
class FeatureFolder:
    """A folder of ``features``.

    Attributes
    ----------
    path
        The folder.
    record
        Its stage.
    timing
        When its features are due.
    clips
        The features by the name of the clip.
    """

    path: Path
    record: Json
    timing: Timing
    clips: Mapping[str, StoredFeatures] = field(repr=False)


def open_features(folders: Sequence[str | PathLike[str]]) -> list[FeatureFolder]:
    """Open folders whose features are joined.

    Raises
    ------
    ParameterError
        A folder holds no features, or those of windows that reach beyond the present; or their
        strides differ.
    """
    if not folders:
        raise ParameterError("no features are given; name folders of flowpipe features")
    opened = [_open(Path(folder)) for folder in folders]
    first = opened[0]
    for other in opened[1:]:
        if other.timing.stride != first.timing.stride:
            raise ParameterError(
                f"{str(other.path)!r} has a feature every {other.timing.stride} frames, and "
                f"{str(first.path)!r} every {first.timing.stride}; joined features need the same "
                "stride"
            )
    return opened


def timing_of(record: Json, where: str) -> Timing:
    """Return when the features that a stage describes are due.

    Raises
    ------
    ParameterError
        They are not features of windows that end at the present.
    """
    layout = record.get("layout")
    if record.get("stage") != "features" or not isinstance(layout, str) or layout not in LAYOUTS:
        raise ParameterError(f"{where!r} holds no features; make them with features")
    if "maps" in record:
        raise ParameterError(f"{where!r} holds maps of a layer; detectors take features of windows")
    if LAYOUTS[layout].per_frame:
        raise ParameterError(
            f"{where!r} has layout {layout}, whose windows reach beyond the present; "
            "make the features in layout npy"
        )
    values = [record.get("length"), record.get("stride"), _after(record)]
    length, stride, after = (each if isinstance(each, int) else -1 for each in values)
    if not (1 <= length <= _LONGEST and 1 <= stride <= _LONGEST and 0 <= after <= _LONGEST):
        raise ParameterError(f"{where!r} does not say which windows its features are of")
    return Timing(length, stride, after)


def _after(record: Json) -> int:
    """Return the frames from the first to the last of one field, difference or frame."""
    network = record.get("network")
    if not isinstance(network, dict):  # trajectories end with their window
        return 0
    clip = network.get("clip")
    modality = clip.get("modality") if isinstance(clip, dict) else None
    if modality in ("rgb", "rgb-diff"):
        return int(modality == "rgb-diff")
    source = record.get("source")
    while isinstance(source, dict):
        if isinstance(source.get("step"), int):
            return abs(source["step"])
        source = source.get("flow")  # of which warped flow was made
    return 1


def _open(folder: Path) -> FeatureFolder:
    record = provenance.read_stage(folder) if folder.is_dir() else None
    timing = timing_of(record or {}, str(folder))
    clips = {}
    for stored in stored_features(folder):
        name = (read_record(stored.record) or {}).get("clip")
        if isinstance(name, str):
            clips[name] = stored
    if not clips:
        raise ParameterError(f"{str(folder)!r} holds no features of any clip; run features again")
    return FeatureFolder(folder, record or {}, timing, clips)


def read_steps(
    folders: Sequence[FeatureFolder], names: Sequence[str]
) -> tuple[dict[str, Steps], dict[str, str]]:
    """Read the joined features of videos.

    Returns
    -------
    found, missing : dict
        By name: the steps; and why there are none.
    """
    where = [match_clips(names, each.clips, each.path) for each in folders]
    missing = {name: reason for _, reasons in where for name, reason in reasons.items()}
    found = {}
    for name in names:
        if name in missing:
            continue
        parts = []
        try:
            for folder, (own, _) in zip(folders, where, strict=True):
                parts.append(_part(folder, own[name]))
            found[name] = join(name, parts, [each.timing for each in folders])
        except (FormatError, OSError) as error:
            missing[name] = str(error)
    return found, missing


@dataclass(frozen=True, slots=True)
class Part:
    """Features of a video in one folder.

    Attributes
    ----------
    path
        The array.
    features
        (windows, F) float32.
    frames
        Number of frames of the video.
    frame_rate
        Frames a second.
    """

    path: Path
    features: NDArray[np.float32]
    frames: int
    frame_rate: float


def _part(folder: FeatureFolder, clip: str) -> Part:
    stored = folder.clips[clip]
    record = read_record(stored.record) or {}
    features = load_features(stored.path)
    if LAYOUTS[folder.record["layout"]].features_first:
        features = np.ascontiguousarray(features.T)
    where = str(stored.path)
    for name in ("length", "stride"):
        if record.get(name) != folder.record[name]:
            raise FormatError(
                f"{where!r} has {name} {record.get(name)}; the folder has {folder.record[name]}"
            )
    frames = _number(record, "frames", where)
    rate = record.get("fps")
    if not isinstance(rate, int | float) or not _SHORTEST_RATE <= rate <= _HIGHEST_RATE:
        raise FormatError(
            f"{where!r} has frame rate {rate!r}; intervals in seconds need that of the video: "
            "extract flow or frames from the video itself"
        )
    expected = folder.timing.windows(frames)
    if len(features) != expected:
        raise FormatError(
            f"{where!r} has {len(features)} features; {frames} frames have {expected} windows of "
            f"{folder.timing.length} every {folder.timing.stride}"
        )
    return Part(stored.path, features, frames, float(rate))


def _number(record: Json, name: str, where: str) -> int:
    value: Any = record.get(name)
    if not isinstance(value, int) or value < 1:
        raise FormatError(f"{where!r} has {name} {value!r}; it must be 1 or more")
    return value


def join(name: str, parts: Sequence[Part], timings: Sequence[Timing]) -> Steps:
    """Join the features of a video.

    Parameters
    ----------
    name
        Of the video.
    parts, timings
        Features of each folder, and when they are due.

    Raises
    ------
    FormatError
        They are of videos of different lengths.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.frames != first.frames or abs(other.frame_rate - first.frame_rate) > 1e-3:
            raise FormatError(
                f"{str(other.path)!r} is of {other.frames} frames at {other.frame_rate:g} a "
                f"second, and {str(first.path)!r} of {first.frames} at {first.frame_rate:g}"
            )
    stride = timings[0].stride
    starts = offsets(timings)
    count = min(len(part.features) - start for part, start in zip(parts, starts, strict=True))
    count = max(count, 1)
    # Of a video that is too short, the windows that there are end with its last frame.
    rows = [
        part.features[np.minimum(start + np.arange(count), len(part.features) - 1)]
        for part, start in zip(parts, starts, strict=True)
    ]
    present = max(timing.first for timing in timings) + stride * np.arange(count)
    present = np.minimum(present, first.frames - 1)
    features = np.concatenate(rows, axis=1)
    return Steps(name, features, present, first.frames, first.frame_rate, stride)


def offsets(timings: Sequence[Timing]) -> list[int]:
    """Return the window of each folder that belongs to the first step of all: the newest one."""
    first = max(timing.first for timing in timings)
    return [(first - timing.first) // timing.stride for timing in timings]
