"""Draw the synthetic set, in which only motion tells the classes apart.

What is drawn is described in :mod:`flowpipe.datasets.scene`. Each scene - background, shapes,
camera - is rendered once for every class, so that all but the motion is the same in all classes.
A group is a number of scenes, half of them with a camera that pans, shakes and rolls; the
official splits keep groups whole.

The videos are lossless, so that compression does not reveal the motion in single frames.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from flowpipe.datasets.base import Dataset
from flowpipe.datasets.drawn import check_integers, claim_folder, from_options, write_lossless
from flowpipe.datasets.lists import csv_list
from flowpipe.datasets.scene import MOTIONS, Image, Scene
from flowpipe.datasets.table import LIST_NAME, SYNTHETIC_NAME
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner.atomic import write_atomic

DRAWING = 2
"""Raised whenever the same parameters give another set."""

PARAMETERS_NAME = SYNTHETIC_NAME


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Hold the parameters of the synthetic set; it has six classes."""

    n_groups: int = 6
    """Groups, at least 2. Clips of a group are never divided between training and test."""
    clips_per_group: int = 4
    """Clips of each class in a group, with a still and with a moving camera in turn."""
    width: int = 160
    """Width of the frames in pixels, even, at least 48."""
    height: int = 120
    """Height of the frames in pixels, even, at least 48."""
    n_frames: int = 40
    """Frames of a clip, at least 2."""
    fps: int = 25
    """Frames per second."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        lowest = {"n_groups": 2, "width": 48, "height": 48, "n_frames": 2, "seed": 0}
        check_integers(asdict(self), lowest)


@dataclass(frozen=True, slots=True)
class _Take:
    """Hold the class and the scene of one clip."""

    motion: str
    group: int
    number: int

    @property
    def moving(self) -> bool:
        return (self.group + self.number) % 2 == 1

    @property
    def path(self) -> str:
        camera = "moving" if self.moving else "still"
        return f"{self.motion}/g{self.group + 1:02d}_c{self.number + 1:02d}_{camera}.avi"


def write_synthetic(
    root: str | PathLike[str],
    parameters: Synthetic | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: int,
) -> Dataset:
    """Write a small labelled set of videos, in which only motion tells the classes apart.

    Writes ``<class>/g<group>_c<clip>_still.avi`` and ``..._moving.avi``, ``dataset.csv`` with the
    columns ``path,label,group,camera,split1,split2,...``, and ``synthetic.json`` with the
    parameters. Every file is written atomically, and files that exist are kept.

    Parameters
    ----------
    root
        The folder; created if it does not exist.
    parameters
        Size and number of the clips; by default ``Synthetic()``, six groups of 24 clips.
    progress
        Called after each clip with the number of clips that exist, and of all clips.
    **options
        Fields of :class:`~flowpipe.datasets.synthetic.Synthetic`, in place of `parameters`:
        ``n_groups``, ``clips_per_group``, ``width``, ``height``, ``n_frames``, ``fps``, ``seed``.

    Returns
    -------
    Dataset
        As :func:`~flowpipe.datasets.synthetic.read_synthetic` reads it.

    Raises
    ------
    ParameterError
        A parameter is out of range, or the folder holds something else or a set of other
        parameters.

    Examples
    --------
    >>> import flowpipe
    >>> dataset = flowpipe.write_synthetic("synthetic", n_groups=2, clips_per_group=1, n_frames=10)
    >>> len(dataset.clips), dataset.classes[:3]
    (12, ('horizontal', 'orbit', 'spin'))
    """
    parameters = from_options(Synthetic, parameters, options)
    root = Path(root)
    wanted = {"drawing": DRAWING, **asdict(parameters)}
    claim_folder(root, PARAMETERS_NAME, wanted, "synthetic set")
    takes = sorted(_takes(parameters), key=lambda take: (take.group, take.number))
    scene: Scene | None = None
    for done, take in enumerate(takes, start=1):
        if take.motion == takes[0].motion:
            scene = None  # a new one, drawn if a clip of it lacks
        path = root / take.path
        if not path.exists():
            scene = scene or _scene(parameters, take)
            write_lossless(path, _render(parameters, take, scene), parameters.fps, root)
        if progress is not None:
            progress(done, len(takes))
    if not (root / LIST_NAME).exists():
        write_atomic(root / LIST_NAME, _list(parameters).encode(), root)
    return read_synthetic(root)


def read_synthetic(root: Path) -> Dataset:
    """Read a set that :func:`write_synthetic` has made.

    Returns
    -------
    Dataset
        ``synthetic``: clips ``<class>/g<group>_c<clip>_<camera>``, groups ``g01``, ..., classes in
        alphabetical order, and up to three splits, each testing on every third group.
    """
    if not (root / PARAMETERS_NAME).exists() or not (root / LIST_NAME).exists():
        raise FormatError(
            f"{str(root)!r} holds no whole synthetic set: {PARAMETERS_NAME} or {LIST_NAME} is "
            "missing; make it with write_synthetic"
        )
    found = csv_list(root / LIST_NAME)
    return Dataset("synthetic", found.clips, found.classes, found.splits, found.absent)


def render(parameters: Synthetic, path: str) -> Iterator[Image]:
    """Yield the frames of one clip, BGR uint8 (height, width, 3), by its path in the set."""
    take = next((take for take in _takes(parameters) if take.path == path), None)
    if take is None:
        raise ParameterError(f"{path!r} is no clip of {parameters}")
    return _render(parameters, take, _scene(parameters, take))


def _scene(parameters: Synthetic, take: _Take) -> Scene:
    rng = np.random.default_rng([parameters.seed, take.group, take.number])
    return Scene.draw(rng, (parameters.height, parameters.width), moving=take.moving)


def _render(parameters: Synthetic, take: _Take, scene: Scene) -> Iterator[Image]:
    motion = list(MOTIONS).index(take.motion)
    rng = np.random.default_rng([parameters.seed, take.group, take.number, 1 + motion])
    return scene.render(rng, take.motion, parameters.n_frames)


def _takes(parameters: Synthetic) -> Iterator[_Take]:
    for motion in MOTIONS:
        for group in range(parameters.n_groups):
            for number in range(parameters.clips_per_group):
                yield _Take(motion, group, number)


def _list(parameters: Synthetic) -> str:
    n_splits = min(3, parameters.n_groups)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    splits = [f"split{split + 1}" for split in range(n_splits)]
    writer.writerow(["path", "label", "group", "camera", *splits])
    for take in _takes(parameters):
        uses = ["test" if take.group % n_splits == split else "train" for split in range(n_splits)]
        camera = "moving" if take.moving else "still"
        writer.writerow([take.path, take.motion, f"g{take.group + 1:02d}", camera, *uses])
    return out.getvalue()
