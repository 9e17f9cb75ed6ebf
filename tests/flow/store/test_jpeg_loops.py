"""Part of a grey JPEG: the levels are libjpeg's, and what is not simple is left to it."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flowpipe.flow.store.jpeg_loops import MARGIN, decode_columns
from flowpipe.flow.store.jpeg_tables import new_tables
from tests.helpers.clips import shared_data

TABLES = new_tables()


def picture(height: int, width: int, kind: str = "smooth", seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (height, width))
    if kind == "smooth":
        noise = 128 + 3 * (cv2.GaussianBlur(noise, (0, 0), 3) - 128)
    if kind == "extreme":
        noise = np.where(noise > 128, 255.0, 0)
    if kind == "constant":
        noise = np.full_like(noise, 77 + seed)
    return noise.clip(0, 255).astype(np.uint8)


def coded(image: np.ndarray, quality: int = 95, **options) -> bytes:
    """By Pillow, which takes more options than OpenCV."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def by_opencv(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)


def decode(jpeg: bytes, shape: tuple[int, int], blocks=None, tables=TABLES) -> np.ndarray | None:
    """The pixels of whole blocks, or None for what is left to OpenCV."""
    height, width = shape
    top, bottom, left, right = blocks or (0, -(-height // 8), 0, -(-width // 8))
    out = np.zeros(64 * (bottom - top) * (right - left), np.uint8)
    scan = np.empty(len(jpeg) + MARGIN, np.uint8)
    data = np.frombuffer(jpeg, np.uint8)
    blocks = (top, bottom, left, right)
    if not decode_columns(data, 0, len(data), height, width, blocks, scan, tables, out):
        return None
    return out.reshape(8 * (right - left), 8 * (bottom - top)).T


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 100),
    st.sampled_from(["smooth", "noise", "extreme", "constant"]),
    st.booleans(),
    st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_levels_are_those_of_libjpeg(height, width, quality, kind, optimize, seed):
    jpeg = coded(picture(height, width, kind, seed), quality, optimize=optimize)
    decoded = decode(jpeg, (height, width))
    assert np.array_equal(decoded[:height, :width], by_opencv(jpeg))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_part_is_a_part_of_the_whole(data):
    jpeg = cv2.imencode(".jpg", picture(61, 83), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    top, left = data.draw(st.integers(0, 7)), data.draw(st.integers(0, 10))
    bottom, right = data.draw(st.integers(top + 1, 8)), data.draw(st.integers(left + 1, 11))
    whole = np.zeros((64, 88), np.uint8)
    whole[:61, :83] = by_opencv(jpeg)
    part = decode(jpeg, (61, 83), (top, bottom, left, right))
    wanted = whole[8 * top : min(8 * bottom, 61), 8 * left : min(8 * right, 83)]
    assert np.array_equal(part[: wanted.shape[0], : wanted.shape[1]], wanted)


def test_flow_of_another_tool_is_decoded_exactly():
    for path in sorted(shared_data("denseflow-sample").glob("?_0000?.jpg")):
        jpeg = path.read_bytes()
        expected = by_opencv(jpeg)
        decoded = decode(jpeg, expected.shape)
        assert decoded is not None, path
        assert np.array_equal(decoded[: expected.shape[0], : expected.shape[1]], expected)


def without(jpeg: bytes, marker: int) -> bytes:
    """Leave out the segments of a kind."""
    out, place = jpeg[:2], 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] != marker:
            out += jpeg[place:end]
        place = end
    return out + jpeg[place:]


JPEG = coded(picture(40, 56))


@pytest.mark.parametrize(
    "jpeg",
    [
        pytest.param(coded(np.dstack([picture(40, 56)] * 3)), id="colour"),
        pytest.param(coded(picture(40, 56), progressive=True), id="progressive"),
        pytest.param(coded(picture(40, 56), restart_marker_blocks=4), id="restart intervals"),
        pytest.param(coded(picture(40, 48)), id="another width"),
        pytest.param(coded(picture(48, 56)), id="another height"),
        pytest.param(cv2.imencode(".png", picture(40, 56))[1].tobytes(), id="png"),
        pytest.param(without(JPEG, 0xC4), id="no Huffman tables"),
        pytest.param(without(JPEG, 0xDB), id="no quantisation"),
        pytest.param(without(JPEG, 0xC0), id="no frame"),
        pytest.param(JPEG[:-2], id="no end"),
        pytest.param(JPEG[: len(JPEG) // 2], id="half"),
        pytest.param(JPEG[: len(JPEG) // 2] + b"\xff\xd9", id="half, with an end"),
        pytest.param(JPEG[:3], id="3 bytes"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_not_simple_is_refused(jpeg):
    """The tables of the picture before are not taken for one that has none."""
    assert decode(JPEG, (40, 56)) is not None
    assert decode(jpeg, (40, 56)) is None


def test_tables_follow_the_pictures():
    """Pictures with tables of their own, in turns, with one decoder."""
    tables = new_tables()
    images = [picture(40, 56, kind) for kind in ("smooth", "noise", "extreme")]
    jpegs = [coded(image, 80 + 5 * k, optimize=True) for k, image in enumerate(images)]
    for _ in range(2):
        for jpeg in jpegs:
            assert np.array_equal(decode(jpeg, (40, 56), tables=tables), by_opencv(jpeg))


@given(st.lists(st.tuples(st.integers(0, len(JPEG) - 1), st.integers(0, 255)), max_size=8))
@settings(max_examples=400, deadline=None)
def test_damage_stays_within_the_picture(changes):
    """Whatever the bytes are, they are refused or decoded, and later pictures are not affected."""
    damaged = bytearray(JPEG)
    for place, value in changes:
        damaged[place] = value
    decode(bytes(damaged), (40, 56))
    assert np.array_equal(decode(JPEG, (40, 56)), by_opencv(JPEG))
