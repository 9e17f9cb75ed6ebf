"""A few frames of a video side by side, small enough for a page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flowpipe.errors import FlowpipeError
from flowpipe.io import video

_WIDTH = 160
_QUALITY = 80


def thumbnail_strip(path: Path, count: int = 3) -> bytes | None:
    """Frames at equal distances, side by side, as a JPEG.

    Parameters
    ----------
    path
        The video.
    count
        Frames; each is 160 pixels wide.

    Returns
    -------
    bytes or None
        None where the video is gone or cannot be read.
    """
    try:
        # Two passes: containers are often wrong about how many frames they hold.
        length = sum(1 for _ in video.frames(path))
        wanted = {int((number + 0.5) * length / count) for number in range(count)}
        shown = [frame.image for index, frame in enumerate(video.frames(path)) if index in wanted]
    except (FlowpipeError, OSError):
        return None
    height, width = shown[0].shape[:2]
    size = (_WIDTH, max(1, round(_WIDTH * height / width)))
    strip = np.hstack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in shown])
    coded, data = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data.tobytes()) if coded else None
