"""Make untrimmed videos of trimmed clips: for each group, its clips one after another.

Sets such as Weizmann, in which every actor does every action in a clip of its own, become streams
with exact intervals, on which detectors can be trained and tested by leaving one actor out.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip, Dataset, natural_key
from flowpipe.datasets.drawn import claim_folder, write_lossless
from flowpipe.datasets.intervals.base import IntervalSet
from flowpipe.datasets.intervals.csv_file import LIST_NAME
from flowpipe.datasets.intervals.load import load_intervals
from flowpipe.datasets.names import safe_name
from flowpipe.errors import FormatError, ParameterError, check_range
from flowpipe.io import video
from flowpipe.runner.atomic import write_atomic

DRAWING = 1
"""Raised whenever the same clips and parameters give other streams."""
PARAMETERS_NAME = "streams.json"

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Stream:
    """Hold the clips of one group, in their order."""

    group: str
    clips: tuple[Clip, ...]

    @property
    def path(self) -> str:
        return f"{safe_name(self.group.replace('/', '_'))}.avi"


def write_streams(
    dataset: Dataset,
    out: str | PathLike[str],
    *,
    gap: int = 0,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> IntervalSet:
    """Write one video for each group of a set, of its clips one after another, with the intervals.

    Writes ``<group>.avi``, lossless, ``intervals.csv`` with the columns ``path,start,end,label,
    group,clip``, and ``streams.json`` with the parameters. Every file is written atomically, and
    videos that exist are kept.

    Parameters
    ----------
    dataset
        Labelled clips with groups, such as of :func:`flowpipe.load_dataset`.
    out
        The folder; created if it does not exist.
    gap
        Frames before, between and after the clips, in which the frame at the seam is repeated: half
        of them show the last frame of one clip, half the first of the next.
    size
        (width, height) of the videos in pixels, even. By default that of the clips, which have to
        have the same size then; an odd last row or column is left out.
    seed
        Of the order of the clips in each video.
    progress
        Called after each video with the number of videos that exist, and of all videos.

    Returns
    -------
    IntervalSet
        As :func:`flowpipe.load_intervals` reads it: groups as in `dataset`, no splits.

    Raises
    ------
    FormatError
        A clip has no label or no group.
    ParameterError
        The clips differ in size and `size` is None, they differ in frame rate, or the folder holds
        something else or other streams.
    VideoError
        A clip cannot be decoded.

    Examples
    --------
    >>> import flowpipe
    >>> dataset = flowpipe.write_synthetic("clips", n_groups=2, clips_per_group=1, n_frames=10)
    >>> streams = flowpipe.write_streams(dataset, "streams")
    >>> [(clip.name, len(streams.intervals[clip.name])) for clip in streams.clips]
    [('g01', 6), ('g02', 6)]
    """
    check_range("gap", gap, 0, 100_000)
    root = Path(out)
    streams = _streams(dataset, seed)
    size, rate = _common(dataset.clips, size)
    wanted = {
        "drawing": DRAWING,
        "gap": gap,
        "size": list(size),
        "frame_rate": str(rate),
        "seed": seed,
        "clips": {stream.group: [clip.name for clip in stream.clips] for stream in streams},
    }
    claim_folder(root, PARAMETERS_NAME, wanted, "set of streams")
    lengths: dict[str, int] = {}
    for done, stream in enumerate(streams, start=1):
        path = root / stream.path
        if path.exists():
            lengths.update(_count_frames(stream))
        else:
            write_lossless(path, _joined(stream, size, gap, lengths), rate, root)
        if progress is not None:
            progress(done, len(streams))
    write_atomic(root / LIST_NAME, _list(streams, lengths, gap, rate).encode(), root)
    return load_intervals(root)


def _streams(dataset: Dataset, seed: int) -> list[_Stream]:
    """Return the clips of each group in a shuffled order, which does not depend on the machine."""
    by_group: dict[str, list[Clip]] = {}
    for clip in dataset.clips:
        if clip.label is None or clip.group is None:
            lacks = "label" if clip.label is None else "group"
            raise FormatError(
                f"{clip.name!r} of {dataset.name!r} has no {lacks}; streams are made of labelled "
                "clips, one for each group"
            )
        by_group.setdefault(clip.group, []).append(clip)
    streams = []
    for group in sorted(by_group, key=natural_key):
        clips = sorted(by_group[group], key=lambda clip: clip.name)
        random.Random(f"{seed}/{group}").shuffle(clips)
        streams.append(_Stream(group, tuple(clips)))
    paths = [stream.path for stream in streams]
    if len(set(paths)) < len(paths):
        raise FormatError(f"two groups of {dataset.name!r} have the same file name: {paths}")
    return streams


def _common(
    clips: Sequence[Clip], size: tuple[int, int] | None
) -> tuple[tuple[int, int], Fraction]:
    """Return the size and the frame rate of the videos."""
    if not clips:
        raise ParameterError("the set has no clip on disk; streams are made of their videos")
    infos = {clip.name: video.probe(clip.path) for clip in clips}
    first, *others = infos.items()
    for name, info in others:
        if size is None and (info.width, info.height) != (first[1].width, first[1].height):
            raise ParameterError(
                f"{first[0]!r} is {first[1].width}x{first[1].height} and {name!r} "
                f"{info.width}x{info.height}; name the size of the streams"
            )
        if abs(info.fps - first[1].fps) > 0.01 * first[1].fps:
            raise ParameterError(
                f"{first[0]!r} has {first[1].fps:g} frames per second and {name!r} {info.fps:g}; "
                "streams are made of clips of one frame rate"
            )
    if size is None:
        size = (first[1].width // 2 * 2, first[1].height // 2 * 2)
    if len(size) != 2 or any(side % 2 or side < 2 for side in size):
        raise ParameterError(f"size is {size}; both must be even, from 2")
    return (size[0], size[1]), Fraction(first[1].fps or 25).limit_denominator(1001)


def _frames(clip: Clip, size: tuple[int, int]) -> Iterator[Image]:
    width, height = size
    for frame in video.frames(clip.path):
        image = frame.image
        if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
            yield np.ascontiguousarray(image[:height, :width])
        else:
            yield np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _joined(
    stream: _Stream, size: tuple[int, int], gap: int, lengths: dict[str, int]
) -> Iterator[Image]:
    """Yield the frames of a stream, and note the length of each clip."""
    last: Image | None = None
    for clip in stream.clips:
        count = 0
        for image in _frames(clip, size):
            if not count:
                repeats = 0 if last is None else gap // 2
                if last is not None:
                    yield from [last] * repeats
                yield from [image] * (gap - repeats)
            yield image
            last = image
            count += 1
        lengths[clip.name] = count
    if last is not None:
        yield from [last] * gap


def _count_frames(stream: _Stream) -> dict[str, int]:
    """Return the number of frames of each clip of a stream that has been written before."""
    return {clip.name: sum(1 for _ in video.frames(clip.path)) for clip in stream.clips}


def _list(streams: Sequence[_Stream], lengths: dict[str, int], gap: int, rate: Fraction) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "start", "end", "label", "group", "clip"])
    for stream in streams:
        now = gap
        for clip in stream.clips:
            end = now + lengths[clip.name]
            times = (float(now / rate), float(end / rate))
            writer.writerow([stream.path, *times, clip.label, stream.group, clip.name])
            now = end + gap
    return out.getvalue()
