"""Bounding boxes of people, whose motion iDT must not take for the camera's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.runner.provenance import digest, sha256


def read_boxes(path: Path) -> dict[int, NDArray[np.float64]]:
    """Read the boxes of a clip, by frame number, from the released program's text format.

    A line has the number of a frame, then ``x1 y1 x2 y2 score`` for each box. That number counts,
    not the number of the line as in the released program; the score is not used.

    Raises
    ------
    FormatError
        The file cannot be read, a line does not have this form, or a frame occurs twice.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    boxes: dict[int, NDArray[np.float64]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            frame, values = int(words[0]), np.array(words[1:], np.float64)
            groups = values.reshape(-1, 5)
        except ValueError as error:
            raise FormatError(
                f"{str(path)!r} line {number} is {line[:80]!r}; it must be a frame number and five "
                "numbers for each box"
            ) from error
        if frame in boxes:
            raise FormatError(f"{str(path)!r} line {number} is the second for frame {frame}")
        boxes[frame] = groups[:, :4]
    return boxes


def boxes_digest(path: Path) -> str:
    """Return 32 hexadecimal digits that identify a box file, or all box files of a folder.

    Raises
    ------
    FormatError
        A file cannot be read.
    """
    files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    try:
        # The names within a folder tell which clip the boxes belong to.
        return digest([[f.relative_to(path).as_posix(), sha256(f)] for f in files])
    except OSError as error:
        raise FormatError(f"{str(path)!r}: boxes cannot be read: {error}") from None


def box_mask(shape: tuple[int, ...], boxes: NDArray[np.floating] | None) -> NDArray[np.uint8]:
    """Return 1 outside the boxes and 0 inside, where boxes cover the pixels within them."""
    mask = np.ones(shape, np.uint8)
    for x1, y1, x2, y2 in [] if boxes is None else np.asarray(boxes)[:, :4]:
        left, top = max(int(np.ceil(x1)), 0), max(int(np.ceil(y1)), 0)
        right, bottom = max(int(np.floor(x2)) + 1, 0), max(int(np.floor(y2)) + 1, 0)
        mask[top:bottom, left:right] = 0
    return mask
