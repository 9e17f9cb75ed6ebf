"""Draw untrimmed synthetic videos: the motions of the synthetic set, one after another.

In a video each class occurs once, in a random order. Before, between and after them nothing moves
but, in every second video, the camera. It pans and shakes, but neither rolls nor zooms, so that
little of its motion is left once the mean flow is subtracted. A motion begins in the pose in which
the one before has ended, so that nothing jumps and a single frame says neither which class it
belongs to nor whether anything moves; an interval from frame a to frame b is exactly where frame t
differs in pose from frame t + 1. Scenes and motions are those of :mod:`flowpipe.datasets.scene`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from flowpipe.datasets.drawn import check_integers, claim_folder, from_options, write_lossless
from flowpipe.datasets.intervals.base import IntervalSet
from flowpipe.datasets.intervals.csv_file import LIST_NAME
from flowpipe.datasets.intervals.load import load_intervals
from flowpipe.datasets.scene import (
    AMPLITUDES,
    MOTIONS,
    SHORT_SIDE,
    Image,
    Scene,
    Swing,
    draw_swings,
)
from flowpipe.errors import ParameterError
from flowpipe.runner.atomic import write_atomic

DRAWING = 2
"""Raised whenever the same parameters give another set."""
PARAMETERS_NAME = "untrimmed.json"

Pose = dict[str, float]


@dataclass(frozen=True, slots=True)
class Untrimmed:
    """Hold the parameters of the untrimmed synthetic set; it has six classes."""

    n_groups: int = 6
    """Groups, at least 2. Videos of a group are never divided between training and test."""
    videos_per_group: int = 2
    """Videos of a group, with a still and with a moving camera in turn."""
    width: int = 160
    """Width of the frames in pixels, even, at least 48."""
    height: int = 120
    """Height of the frames in pixels, even, at least 48."""
    min_frames: int = 40
    """Frames of the shortest motion, at least 2."""
    max_frames: int = 80
    """Frames of the longest motion."""
    min_gap: int = 20
    """Frames of the shortest time without motion."""
    max_gap: int = 50
    """Frames of the longest time without motion."""
    fps: int = 25
    """Frames per second."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        lowest = {"n_groups": 2, "width": 48, "height": 48, "min_frames": 2, "seed": 0}
        check_integers(asdict(self), lowest)
        for low, high in (("min_frames", "max_frames"), ("min_gap", "max_gap")):
            if getattr(self, high) < getattr(self, low):
                raise ParameterError(
                    f"{high} is {getattr(self, high)}; it must be at least {low}, "
                    f"{getattr(self, low)}"
                )


@dataclass(frozen=True, slots=True)
class Part:
    """Hold one motion of a video: its class, and its first frame and that after its last."""

    label: str
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Video:
    """Hold what one video shows; the random numbers that draw it continue in `rng`."""

    group: int
    number: int
    parts: tuple[Part, ...]
    n_frames: int
    rng: np.random.Generator

    @property
    def moving(self) -> bool:
        return (self.group + self.number) % 2 == 1

    @property
    def camera(self) -> str:
        return "moving" if self.moving else "still"

    @property
    def path(self) -> str:
        return f"g{self.group + 1:02d}_v{self.number + 1:02d}_{self.camera}.avi"


def write_untrimmed(
    root: str | PathLike[str],
    parameters: Untrimmed | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: int,
) -> IntervalSet:
    """Write a small set of untrimmed videos with exact intervals, for detection.

    Writes ``g<group>_v<video>_still.avi`` and ``..._moving.avi``, ``intervals.csv`` with the
    columns ``path,start,end,label,group,camera,split1,split2,...``, and ``untrimmed.json`` with the
    parameters. Every file is written atomically, and files that exist are kept.

    Parameters
    ----------
    root
        The folder; created if it does not exist.
    parameters
        Size and number of the videos; by default ``Untrimmed()``: 12 videos of some 600 frames.
    progress
        Called after each video with the number of videos that exist, and of all videos.
    **options
        Fields of :class:`~flowpipe.datasets.untrimmed.Untrimmed`, in place of `parameters`.

    Returns
    -------
    IntervalSet
        As :func:`flowpipe.load_intervals` reads it: groups ``g01``, ..., and up to three splits,
        each testing on every third group.

    Raises
    ------
    ParameterError
        A parameter is out of range, or the folder holds something else or a set of other
        parameters.

    Examples
    --------
    >>> import flowpipe
    >>> short = {"min_frames": 4, "max_frames": 6, "min_gap": 2, "max_gap": 3}
    >>> found = flowpipe.write_untrimmed("motions", n_groups=2, videos_per_group=1, **short)
    >>> len(found.clips), found.classes[:3]
    (2, ('horizontal', 'orbit', 'spin'))
    """
    parameters = from_options(Untrimmed, parameters, options)
    root = Path(root)
    wanted = {"drawing": DRAWING, **asdict(parameters)}
    claim_folder(root, PARAMETERS_NAME, wanted, "synthetic untrimmed set")
    videos = list(_videos(parameters))
    for done, video in enumerate(videos, start=1):
        path = root / video.path
        if not path.exists():
            write_lossless(path, _render(parameters, video), parameters.fps, root)
        if progress is not None:
            progress(done, len(videos))
    if not (root / LIST_NAME).exists():
        write_atomic(root / LIST_NAME, _list(parameters, videos).encode(), root)
    return load_intervals(root)


def _videos(parameters: Untrimmed) -> Iterator[_Video]:
    for group in range(parameters.n_groups):
        for number in range(parameters.videos_per_group):
            rng = np.random.default_rng([parameters.seed, group, number, 0])
            labels = [str(label) for label in rng.permutation(list(MOTIONS))]
            gaps = rng.integers(parameters.min_gap, parameters.max_gap + 1, len(labels) + 1)
            lengths = rng.integers(parameters.min_frames, parameters.max_frames + 1, len(labels))
            parts, now = [], 0
            for label, gap, length in zip(labels, gaps.tolist(), lengths.tolist(), strict=False):
                parts.append(Part(label, now + gap, now + gap + length))
                now = parts[-1].stop
            yield _Video(group, number, tuple(parts), now + int(gaps[-1]), rng)


def _render(parameters: Untrimmed, video: _Video) -> Iterator[Image]:
    """Yield the frames, BGR uint8 (height, width, 3)."""
    size = (parameters.height, parameters.width)
    scene = Scene.draw(video.rng, size, moving=video.moving)
    if video.moving:
        steady = Swing(0.0, 1.0, 0.0)
        scene = replace(scene, camera=(*scene.camera[:4], steady, steady))
    scale = min(size) / SHORT_SIDE
    courses = [_poses(video, scale) for _ in scene.shapes]
    for t in range(video.n_frames):
        yield scene.frame(t, [course[t] for course in courses])


def _poses(video: _Video, scale: float) -> list[Pose]:
    """Return the pose of one shape in each frame."""
    phases = video.rng.uniform(0, 2 * math.pi, len(AMPLITUDES))
    pose = {
        name: amplitude * math.sin(phase) * (scale if name in ("x", "y") else 1)
        for (name, amplitude), phase in zip(AMPLITUDES.items(), phases, strict=True)
    }
    poses: list[Pose] = []
    for part in video.parts:
        poses += [pose] * (part.first - len(poses))
        swings, offsets = _continued(video.rng, part.label, scale, pose)
        for t in range(part.stop - part.first + 1):
            pose = {name: offsets[name] + swing.at(t) for name, swing in swings.items()}
            poses.append(pose)
    return poses + [pose] * (video.n_frames - len(poses))


def _continued(
    rng: np.random.Generator, motion: str, scale: float, pose: Mapping[str, float]
) -> tuple[dict[str, Swing], Pose]:
    """Return swings that begin in a pose, and the middle of each: 0 where that can be."""
    swings = draw_swings(rng, motion, scale)
    for name, swing in swings.items():
        phase = math.asin(max(-1.0, min(1.0, pose[name] / swing.amplitude)))
        if rng.uniform() < 0.5:
            phase = math.pi - phase
        swings[name] = replace(swing, phase=phase)
    if motion == "orbit":  # on the circle, where it is next to the pose
        x, y = swings["x"], swings["y"]
        turn = math.copysign(1.0, rng.uniform(-1, 1))
        phase = math.atan2(pose["x"], turn * pose["y"])
        swings["x"] = replace(x, phase=phase)
        swings["y"] = replace(y, phase=phase + turn * math.pi / 2)
    return swings, {name: pose[name] - swing.at(0) for name, swing in swings.items()}


def _list(parameters: Untrimmed, videos: list[_Video]) -> str:
    n_splits = min(3, parameters.n_groups)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    splits = [f"split{split + 1}" for split in range(n_splits)]
    writer.writerow(["path", "start", "end", "label", "group", "camera", *splits])
    for video in videos:
        uses = ["test" if video.group % n_splits == split else "train" for split in range(n_splits)]
        for part in video.parts:
            times = (part.first / parameters.fps, part.stop / parameters.fps)
            group = f"g{video.group + 1:02d}"
            writer.writerow([video.path, *times, part.label, group, video.camera, *uses])
    return out.getvalue()
