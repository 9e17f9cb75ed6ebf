"""Small videos of a moving texture, and what can be wrong with one."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SMALL_BLOCKS = {"x264-params": "keyint=5:threads=1", "preset": "ultrafast"}


def texture(height: int, width: int, seed: int = 0) -> Image:
    """Smooth grey noise that fills the range: flow is well defined everywhere on it."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))


def moving(
    n: int, height: int = 48, width: int = 64, *, dx: int = 2, dy: int = 1, seed: int = 0
) -> list[Image]:
    """``n`` grey frames of a texture that moves by (dx, dy) pixels a frame."""
    room_y, room_x = abs(dy) * n, abs(dx) * n
    whole = texture(height + room_y, width + room_x, seed)
    frames = []
    for index in range(n):
        top = room_y - dy * index if dy > 0 else -dy * index
        left = room_x - dx * index if dx > 0 else -dx * index
        frames.append(np.ascontiguousarray(whole[top : top + height, left : left + width]))
    return frames


def coloured(grey: Image) -> Image:
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_JET))


def write(
    path: Path,
    frames: Iterable[Image] | None = None,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times: Sequence[float] | None = None,
    format: str | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Write grey or BGR frames as a video.

    Parameters
    ----------
    times
        Presentation times in seconds, in place of the constant rate; whole milliseconds.
    format
        Container, where the suffix does not say it.
    options, muxer
        Of the encoder and of the container.
    """
    frames = [coloured(frame) if frame.ndim == 2 else frame for frame in frames or moving(12)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if options is None:
        options = SMALL_BLOCKS if codec == "libx264" else {}
    with (
        path.open("wb") as file,
        av.open(file, "w", format=format or _container(path), options=muxer or {}) as container,
    ):
        stream: Any = container.add_stream(codec, rate=1000 if times else rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.thread_count = 1
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="bgr24")
            if times:
                picture.pts, picture.time_base = round(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path, *, picture: Image | None = None) -> Path:
    """Half a second of a tone; with ``picture``, a cover as music files carry it."""
    with path.open("wb") as file, av.open(file, "w", format=_container(path)) as container:
        stream: Any = container.add_stream("aac" if path.suffix != ".mp3" else "mp3", rate=16000)
        cover: Any = None
        if picture is not None:
            cover = container.add_stream("mjpeg", rate=1)
            cover.height, cover.width = picture.shape[:2]
            cover.pix_fmt = "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
        tone = np.sin(np.arange(8000) * 2 * math.pi * 440 / 16000).astype(np.float32)
        block = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        block.sample_rate, block.pts = 16000, 0
        if cover is not None:
            container.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(cover.encode(None))
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


def with_sound(path: Path, frames: list[Image]) -> Path:
    """A video with a sound track beside it."""
    with path.open("wb") as file, av.open(file, "w", format=_container(path)) as container:
        sound: Any = container.add_stream("aac", rate=16000)
        stream: Any = container.add_stream("libx264", rate=25, options=SMALL_BLOCKS)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        silence = np.zeros((1, 640 * len(frames)), np.float32)
        block = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        block.sample_rate, block.pts = 16000, 0
        container.mux(sound.encode(block))
        container.mux(sound.encode(None))
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(coloured(frame), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def rotated(source: Path, path: Path, degrees: int) -> Path:
    """Copy an mp4 with the display matrix of a camera held at ``degrees``, clockwise."""
    data = bytearray(source.read_bytes())
    cosine = round(math.cos(math.radians(degrees)))
    sine = round(math.sin(math.radians(degrees)))
    matrix = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 14)
    coded = b"".join(struct.pack(">i", n << 16) for n in matrix[:8]) + struct.pack(">i", 1 << 30)
    header = data.index(b"tkhd") + 4
    assert data[header] == 0, "a version 0 header is expected"
    data[header + 40 : header + 76] = coded
    path.write_bytes(data)
    return path


def box(data: bytes, kind: bytes) -> tuple[int, int]:
    """Begin and end of a top-level box of an mp4."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == kind:
            return position, position + size
        position += size
    raise AssertionError(f"no {kind!r} box")


def _container(path: Path) -> str:
    return {".mkv": "matroska", ".ts": "mpegts", ".m4a": "mp4"}.get(
        path.suffix, path.suffix.removeprefix(".")
    )
