from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import codecs

FIELDS = arrays.arrays(
    np.float32,
    st.tuples(st.just(2), st.integers(1, 7), st.integers(1, 7)),
    elements=st.floats(width=32),
)


def _field(height=5, width=7, bound=30.0):
    return np.random.default_rng(0).uniform(-bound, bound, (2, height, width)).astype(np.float32)


# --- .flo --------------------------------------------------------------------------------------


@given(FIELDS)
def test_flo_is_exact(flow):
    back = codecs.decode_flo(codecs.encode_flo(flow), "a.flo")
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, flow)


def test_flo_bytes():
    flow = np.array([[[1, 2]], [[-3, 0.5]]], np.float32)  # x, then y, of two pixels
    assert codecs.encode_flo(flow) == b"PIEH" + struct.pack("<ii4f", 2, 1, 1, -3, 2, 0.5)


def test_flo_is_read_by_opencv(tmp_path):
    path = tmp_path / "a.flo"
    path.write_bytes(codecs.encode_flo(_field()))
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(path)).transpose(2, 0, 1), _field())


def test_flo_of_opencv_is_read(tmp_path):
    path = tmp_path / "a.flo"
    assert cv2.writeOpticalFlow(str(path), np.ascontiguousarray(_field().transpose(1, 2, 0)))
    np.testing.assert_array_equal(codecs.decode_flo(path.read_bytes(), "a.flo"), _field())


def test_flo_of_middlebury(test_data):
    path = test_data / "middlebury/RubberWhale/flow10.flo"
    flow = codecs.decode_flo(path.read_bytes(), path.name)
    np.testing.assert_array_equal(flow, cv2.readOpticalFlow(str(path)).transpose(2, 0, 1))
    assert flow.shape == (2, 388, 584)
    unknown = np.abs(flow).max(0) > 1e9
    assert 0 < unknown.mean() < 0.02
    assert np.abs(flow[:, ~unknown]).max() < 10
    assert codecs.encode_flo(flow) == path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:11], "11 bytes, too few"),
        (lambda data: b"", "0 bytes, too few"),
        (lambda data: b"HEIP" + data[4:], "begins with b'HEIP'"),
        (lambda data: data[:-1], "has 291 bytes; 7x5 needs 292"),
        (lambda data: data + b"\0", "has 293 bytes; 7x5 needs 292"),
        (lambda data: data[:4] + struct.pack("<ii", -7, -5) + data[12:], "claims to be -7x-5"),
        (lambda data: data[:4] + struct.pack("<ii", 0, 5) + data[12:], "claims to be 0x5"),
        (lambda data: data[:4] + struct.pack("<ii", 1 << 30, 1 << 30), "claims to be 1073741824x"),
    ],
)
def test_damaged_flo(damage, reason):
    with pytest.raises(FormatError, match=reason) as caught:
        codecs.decode_flo(damage(codecs.encode_flo(_field())), "clip/flow_00001.flo")
    assert "'clip/flow_00001.flo'" in str(caught.value)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_flow_or_a_format_error(data, tagged):
    data = b"PIEH" + data if tagged else data
    try:
        flow = codecs.decode_flo(data, "a.flo")
    except FormatError:
        return
    assert codecs.encode_flo(flow) == data


# --- KITTI -------------------------------------------------------------------------------------


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.just(2), st.integers(1, 7), st.integers(1, 7)),
        elements=st.floats(-511, 511, width=32),
    )
)
def test_kitti_png_is_within_half_a_64th(flow):
    back = codecs.decode_kitti(codecs.encode_kitti(flow), "a.png")
    assert back.dtype == np.float32
    assert np.all(np.abs(back - flow) <= 0.5 / 64)


def test_kitti_png_by_the_rules_of_its_development_kit():
    # u = (red - 2^15) / 64, v = (green - 2^15) / 64, valid = blue; OpenCV reads BGR.
    flow = np.array([[[1.5, -511]], [[-0.25, 511]]], np.float32)
    coded = cv2.imdecode(np.frombuffer(codecs.encode_kitti(flow), np.uint8), cv2.IMREAD_UNCHANGED)
    assert coded.dtype == np.uint16
    assert coded.tolist() == [[[1, 32768 - 16, 32768 + 96], [1, 32768 + 32704, 32768 - 32704]]]


def test_invalid_pixels_of_kitti_are_not_a_number():
    coded = np.full((2, 2, 3), 1 << 15, np.uint16)
    coded[..., 0] = [[1, 0], [1, 1]]
    data = cv2.imencode(".png", coded)[1].tobytes()
    flow = codecs.decode_kitti(data, "a.png")
    assert np.isnan(flow[:, 0, 1]).all()
    assert np.count_nonzero(np.isnan(flow)) == 2
    assert np.nansum(np.abs(flow)) == 0


@pytest.mark.parametrize("value", [511.1, -600.0, np.inf, np.nan])
def test_kitti_png_cannot_hold_everything(value):
    flow = _field()
    flow[1, 2, 3] = value
    with pytest.raises(ParameterError, match=r"flow reaches .* px; a KITTI PNG holds up to 511 px"):
        codecs.encode_kitti(flow)


@pytest.mark.parametrize("image", [np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4), np.uint16)])
def test_another_png_is_not_kitti_flow(image):
    data = cv2.imencode(".png", image)[1].tobytes()
    with pytest.raises(FormatError, match=r"'a\.png' is .*; KITTI flow is 16 bit, 3 channels"):
        codecs.decode_kitti(data, "a.png")


# --- pictures ----------------------------------------------------------------------------------


def test_jpeg_of_a_flow_component():
    x = np.linspace(0, 255, 64).astype(np.uint8)
    levels = np.tile(x, (48, 1))
    data = codecs.encode_jpeg(levels)
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    assert b"\xff\xc0" in data  # baseline
    assert np.abs(codecs.decode_grey(data, "a.jpg").astype(int) - levels).max() <= 4
    assert len(codecs.encode_jpeg(levels, 50)) < len(data)


def test_still_flow_survives_jpeg_exactly():
    still = np.full((48, 64), 128, np.uint8)
    np.testing.assert_array_equal(codecs.decode_grey(codecs.encode_jpeg(still), "a.jpg"), still)


def test_png_is_exact():
    colours = np.random.default_rng(1).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    np.testing.assert_array_equal(codecs.decode_bgr(codecs.encode_png(colours), "a.png"), colours)
    grey = colours[..., 0]
    np.testing.assert_array_equal(codecs.decode_grey(codecs.encode_png(grey), "a.png"), grey)


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_has_a_range(quality):
    with pytest.raises(
        ParameterError, match=f"quality is {quality}; it must be at least 1 and at most 100"
    ):
        codecs.encode_jpeg(np.zeros((8, 8), np.uint8), quality)


@pytest.mark.parametrize("decode", [codecs.decode_grey, codecs.decode_bgr, codecs.decode_kitti])
@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30]
)
def test_what_is_not_a_picture(decode, data):
    with pytest.raises(FormatError, match=r"'clip/a\.jpg' (is not an image|cannot be decoded)"):
        decode(data, "clip/a.jpg")


def test_a_picture_that_cannot_be_coded():
    with pytest.raises(ParameterError, match="cannot be coded"):
        codecs.encode_jpeg(np.zeros((0, 8), np.uint8))
