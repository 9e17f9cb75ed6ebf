"""One flow field or one picture to bytes and back: JPEG, Middlebury ``.flo``, KITTI PNG."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError, check_range

_FLO_MAGIC = 202021.25  # spells "PIEH" as a little-endian float
_LARGEST = 1 << 27  # pixels; a header that claims more is damaged
_KITTI_SCALE = 64.0
_KITTI_ZERO = 1 << 15
KITTI_BOUND = 511.0
"""Displacements that a KITTI PNG can hold, in pixels either way."""


def encode_jpeg(image: NDArray[np.uint8], quality: int = 95) -> bytes:
    """JPEG of a grey (H, W) or BGR (H, W, 3) image, baseline, at quality 1 to 100."""
    check_range("quality", quality, 1, 100)
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG of a grey (H, W) or BGR (H, W, 3) image."""
    return _encode(".png", image, [])


def decode_grey(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return (H, W) uint8 image from a JPEG or PNG; ``name`` is for the FormatError."""
    return _decode(data, name, cv2.IMREAD_GRAYSCALE)


def decode_bgr(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 BGR image from a JPEG or PNG; ``name`` is for the FormatError."""
    return _decode(data, name, cv2.IMREAD_COLOR)


def encode_flo(flow: NDArray[np.float32]) -> bytes:
    """Middlebury ``.flo`` of a (2, H, W) flow in pixels: exact."""
    height, width = flow.shape[1:]
    head = struct.pack("<fii", _FLO_MAGIC, width, height)
    return head + flow.transpose(1, 2, 0).astype("<f4").tobytes()


def decode_flo(data: bytes, name: str) -> NDArray[np.float32]:
    """Return (2, H, W) float32 pixels from a Middlebury ``.flo``; unknown flow stays above 1e9.

    Raises
    ------
    FormatError
        Wrong tag, or a size that the data does not have. ``name`` is named.
    """
    if len(data) < 12:
        raise FormatError(f"{name!r} has {len(data)} bytes, too few for a .flo header")
    magic, width, height = struct.unpack_from("<fii", data)
    if magic != _FLO_MAGIC:
        raise FormatError(f"{name!r} begins with {data[:4]!r}, not with the .flo tag b'PIEH'")
    if width < 1 or height < 1 or width * height > _LARGEST:
        raise FormatError(f"{name!r} claims to be {width}x{height}")
    expected = 12 + 8 * width * height
    if len(data) != expected:
        raise FormatError(f"{name!r} has {len(data)} bytes; {width}x{height} needs {expected}")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)


def encode_kitti(flow: NDArray[np.float32]) -> bytes:
    """KITTI's 16-bit PNG of a (2, H, W) flow: 1/64 px, all pixels marked valid.

    Raises
    ------
    ParameterError
        A displacement is beyond what the format holds, 511 px.
    """
    largest = float(np.max(np.abs(flow), initial=0.0))
    if not largest <= KITTI_BOUND:
        raise ParameterError(
            f"flow reaches {largest:g} px; a KITTI PNG holds up to {KITTI_BOUND:g} px"
        )
    coded = (np.rint(flow * _KITTI_SCALE) + _KITTI_ZERO).astype(np.uint16)
    # OpenCV writes BGR: the file's red is x, its green y, its blue the validity.
    return _encode(".png", np.dstack([np.ones_like(coded[0]), coded[1], coded[0]]), [])


def decode_kitti(data: bytes, name: str) -> NDArray[np.float32]:
    """Return (2, H, W) float32 pixels from a KITTI flow PNG; invalid pixels are not-a-number."""
    coded = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if coded.dtype != np.uint16 or coded.ndim != 3 or coded.shape[2] != 3:
        raise FormatError(
            f"{name!r} is {coded.dtype} of shape {coded.shape}; KITTI flow is 16 bit, 3 channels"
        )
    flow = (coded[..., 2:0:-1].transpose(2, 0, 1).astype(np.float32) - _KITTI_ZERO) / _KITTI_SCALE
    flow[:, coded[..., 0] == 0] = np.nan
    return np.ascontiguousarray(flow, np.float32)


def _encode(suffix: str, image: NDArray[np.generic], options: list[int]) -> bytes:
    try:
        done, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        done = False
    if not done:
        raise ParameterError(f"an image of {image.dtype} {image.shape} cannot be coded {suffix}")
    return bytes(data)


def _decode(data: bytes, name: str, flags: int) -> NDArray[np.uint8]:
    # OpenCV asks for the memory before it sees that there is no picture to fill it.
    width, height = _png_size(data) or _jpeg_size(data) or (0, 0)
    if width * height > _LARGEST:
        raise FormatError(f"{name!r} claims to be {width}x{height}")
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise FormatError(f"{name!r} cannot be decoded: {error.err}") from None
    if image is None:
        raise FormatError(f"{name!r} is not an image ({len(data)} bytes)")
    return np.asarray(image)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) of a JPEG or PNG by its header; None if it has none."""
    return _png_size(data) or _jpeg_size(data)


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the first frame header, after any segments of other kinds."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 9 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
