"""Make thumbnail strips of videos for reports."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flowpipe.errors import FlowpipeError
from flowpipe.io import video

_WIDTH = 160
_QUALITY = 80


def thumbnail_strip(path: Path, count: int = 3) -> bytes | None:
    """Return frames at equal intervals, side by side, as a JPEG.

    Parameters
    ----------
    path
        The video.
    count
        Number of frames, each 160 pixels wide.

    Returns
    -------
    bytes or None
        None if the video does not exist or cannot be read.
    """
    try:
        # Two passes, since the frame counts of containers are often wrong.
        length = sum(1 for _ in video.frames(path, keep_damaged=True))
        wanted = {int((number + 0.5) * length / count) for number in range(count)}
        shown = [
            frame.image
            for index, frame in enumerate(video.frames(path, keep_damaged=True))
            if index in wanted
        ]
    except (FlowpipeError, OSError):
        return None
    height, width = shown[0].shape[:2]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    strip = np.hstack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in shown])
    coded, data = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data.tobytes()) if coded else None
