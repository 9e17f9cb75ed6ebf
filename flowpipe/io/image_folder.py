"""Read a folder of images, as Jester and HMDB51 are distributed, as the frames of one clip."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Suffixes of the frames in a folder of frames, in lower case."""

_FLOW_IMAGE = re.compile(r"(?:flow[_-]?(?:[xyuv][_-]?)?|[xyuv][_-]?)\d*", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; False where that may not be known."""
    try:
        return path.is_dir()
    except OSError:
        return False


def frame_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images directly in a folder, in natural order.

    Images that are flow by their names, such as ``flow_x_00001.jpg``, and hidden files are left
    out. Where there are images of several suffixes, those of the most frequent one are returned.
    """
    files = [
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and not _FLOW_IMAGE.fullmatch(path.stem)
    ]
    suffixes = Counter(path.suffix.lower() for path in sorted(files))
    if len(suffixes) > 1:
        suffix = suffixes.most_common(1)[0][0]
        files = [path for path in files if path.suffix.lower() == suffix]
    return sorted(files, key=lambda path: _natural(path.name))


def missing_numbers(files: list[Path]) -> int:
    """Return how many numbers are missing between those of the first and the last image.

    The number of an image is the last one in its name. Names that differ in more than it, or that
    all leave out the same numbers, tell nothing: 0.
    """
    parts = [_DIGITS.split(path.stem) for path in files]
    if len(files) < 2 or any(len(part) < 3 for part in parts):
        return 0
    if len({(*part[:-2], part[-1]) for part in parts}) > 1:
        return 0
    steps = np.diff([int(part[-2]) for part in parts])
    usual = int(steps.min())
    if usual < 1 or np.any(steps % usual):
        return 0
    return int((steps // usual - 1).sum())


def images(files: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield images as (H, W, 3) uint8, BGR.

    Raises
    ------
    FormatError
        An image cannot be decoded, or has another size than the first.
    """
    import cv2

    size = None
    for path in files:
        data = np.fromfile(path, np.uint8)
        image = None if not data.size else cv2.imdecode(data, cv2.IMREAD_COLOR)
        if image is None:
            raise FormatError(f"{str(path)!r} is not an image that can be decoded")
        shape = image.shape[1], image.shape[0]
        size = size or shape
        if shape != size:
            raise FormatError(
                f"{str(path)!r} is {shape[0]}x{shape[1]}, but {files[0].name!r} is "
                f"{size[0]}x{size[1]}; the frames of a clip must have one size"
            )
        yield np.asarray(image, np.uint8)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = _DIGITS.split(name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], name
