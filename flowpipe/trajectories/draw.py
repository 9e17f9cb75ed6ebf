"""Draw tracks over a frame: their course, their age, and which only follow the camera."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Plane

_HEAD = (0, 0, 255)
_WARPED_OUT = (255, 255, 255)
_SUBPIXEL = 4


def draw_tracks(
    frame: NDArray[np.uint8],
    tracks: Sequence[Plane],
    warped_out: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw tracks over a copy of a frame.

    Parameters
    ----------
    frame
        (h, w, 3) uint8 BGR; not modified.
    tracks
        Each (n, 2) float32 x, y in pixels of the frame, oldest point first.
    warped_out
        Tracks that only follow the camera, drawn in white.

    Returns
    -------
    (h, w, 3) uint8 BGR. Old points are blue, new ones green; a red dot marks the current point.
    """
    picture = frame.copy()
    marks = [False] * len(tracks) if warped_out is None else warped_out
    # tracks that do not follow the camera on top
    for points, out in sorted(zip(tracks, marks, strict=True), key=lambda pair: not pair[1]):
        places = np.rint(points * 2**_SUBPIXEL).astype(int).tolist()
        steps = max(len(places) - 1, 1)
        for k in range(len(places) - 1):
            age = round(255 * (k + 1) / steps)
            color = _WARPED_OUT if out else (255 - age, age, 0)
            cv2.line(picture, places[k], places[k + 1], color, 1, cv2.LINE_AA, _SUBPIXEL)
        if not out:
            cv2.circle(picture, places[-1], 1 << _SUBPIXEL, _HEAD, -1, cv2.LINE_AA, _SUBPIXEL)
    return picture
