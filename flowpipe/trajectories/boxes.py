"""Boxes of people, in the released iDT program's text: a line a frame, ``frame x1 y1 x2 y2 score``.

A line may hold any number of boxes after its frame number. The released program goes by the number
of the line instead; here the frame number counts, so lines may be missing or in any order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError

_PER_BOX = 5
_LARGEST = 1 << 26  # bytes; a box file of hours of video is far smaller


def read_boxes(path: Path) -> dict[int, NDArray[np.float32]]:
    """Read a box file.

    Returns
    -------
    dict
        By frame number from 0: (n, 5) float32 x1, y1, x2, y2, score, in pixels.

    Raises
    ------
    FormatError
        The file cannot be read, or a line is not of that form; file and line are named.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise FormatError(f"{str(path)!r} has {path.stat().st_size} bytes; no box file does")
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise FormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    boxes: dict[int, NDArray[np.float32]] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            frame = int(words[0])
            values = np.array([float(word) for word in words[1:]], np.float32)
        except ValueError:
            frame, values = -1, np.empty(0, np.float32)
        if frame < 0 or len(values) % _PER_BOX or not np.isfinite(values).all():
            raise FormatError(
                f"{str(path)!r} line {number}: {line[:80]!r} is not a frame number followed by "
                "x1 y1 x2 y2 score for each box"
            )
        boxes[frame] = values.reshape(-1, _PER_BOX)
    return boxes
