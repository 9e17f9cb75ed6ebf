"""An mp4 written picture by picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

_DEFAULT_FPS = 25
_TICK = Fraction(1, 60000)
"""Seconds; MPEG-4 has no shorter ones, and pictures of the usual rates take a whole number."""


class VideoWriter:
    """Writes pictures of one size as H.264, or as MPEG-4 where FFmpeg lacks the encoder.

    A context manager. Nothing is atomic here: give it a path that is put in place afterwards.

    Parameters
    ----------
    path
        The file.
    fps
        Pictures a second, of those without a time; 0 takes 25.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        rate = Fraction(fps or _DEFAULT_FPS).limit_denominator(1001)
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = self._container.add_stream(codec, rate=rate)
        self._rate = rate
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _TICK
        self._stream = stream
        self._pictures = 0
        self._start: float | None = None
        self._last = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None and self._pictures:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def add(self, picture: NDArray[np.uint8], time: float | None = None) -> None:
        """Append a picture.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 BGR, of the size of the first; an odd last row or column is left out.
        time
            When it is shown, in seconds on any clock; the first is shown at once. By default, and
            where a time is not later than the one before, a picture's length after that.
        """
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        if not self._pictures:
            self._stream.height, self._stream.width = even.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
        frame.pts, frame.time_base = self._place(time), _TICK
        self._container.mux(self._stream.encode(frame))
        self._pictures += 1

    def _place(self, time: float | None) -> int:
        """Return the time of the next picture, in ticks."""
        if not self._pictures:
            self._start = time
            return self._last
        ticks = -1
        if time is not None and self._start is not None:
            ticks = round((time - self._start) / _TICK)
        usual = self._last + round(1 / self._rate / _TICK)
        self._last = ticks if ticks > self._last else usual
        return self._last
