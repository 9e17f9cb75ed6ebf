"""Draw labels over frames: names of classes with a bar each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_LEAST_HEIGHT = 240
"""Smaller frames are enlarged, so that the text can be read."""
_BAR = (70, 190, 240)
_FIRST, _REST = (255, 255, 255), (190, 190, 190)
_SHADE = 0.35
"""Brightness of the frame behind the labels."""


def enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame that is at least 240 rows high, enlarged by a whole number if need be."""
    factor = magnification(frame.shape[0])
    if factor == 1:
        return frame
    return np.asarray(cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))


def magnification(height: int) -> int:
    """Return the whole number by which :func:`enlarged` enlarges frames of a height."""
    return max(1, -(-_LEAST_HEIGHT // height))


def draw_labels(
    frame: NDArray[np.uint8], labels: Sequence[tuple[str, str, float]]
) -> NDArray[np.uint8]:
    """Draw labels in the upper left corner of a copy of a frame.

    Parameters
    ----------
    frame
        (h, w, 3) uint8 BGR; not modified.
    labels
        From top to bottom: a name, a number as text, and the length of its bar, 0 to 1.

    Returns
    -------
    (h, w, 3) uint8 BGR
    """
    height, width = frame.shape[:2]
    line = max(12, height // 16)
    font = _font(round(line * 0.8))
    panel_width = min(width, round(line * 12))
    panel_height = min(height, line * len(labels) + line // 2)
    picture = frame.copy()
    corner = picture[:panel_height, :panel_width]
    panel = Image.fromarray(np.ascontiguousarray((corner * _SHADE).astype(np.uint8)[..., ::-1]))
    draw = ImageDraw.Draw(panel)
    margin = line // 4
    for number, (name, value, share) in enumerate(labels):
        top = margin + number * line
        color = _REST if number else _FIRST
        length = round((panel_width - 2 * margin) * min(max(share, 0.0), 1.0))
        bar = max(1, line // 10)
        draw.rectangle([margin, top + line - bar - 1, margin + length, top + line - 2], _BAR)
        room = panel_width - 3 * margin - font.getlength(value)
        draw.text((margin, top), _shortened(name, font, room), color, font)
        right = panel_width - margin - font.getlength(value)
        draw.text((right, top), value, color, font)
    corner[:] = np.asarray(panel)[..., ::-1]
    return picture


def _shortened(name: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    shown = name
    while len(shown) > 1 and font.getlength(shown) > room:
        shown = f"{shown.rstrip('…')[:-1]}…"
    return shown


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib brings this font along; it has the letters of most languages.
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
