"""What is read back is what was written, through one layout or through two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpipe.errors import ParameterError
from flowpipe.flow import quantize
from flowpipe.flow.store import (
    LAYOUTS,
    FlowReader,
    StoredClip,
    convert,
    layout,
    stored_clips,
    verify,
)
from flowpipe.flow.store import writer as writer_module
from tests.helpers.clips import contents, frames, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

EIGHT_BIT = ("zip", "frames", "denseflow", "tsfusion")
FLOAT = ("npy", "flo", "kitti-png", "h5")
LEVEL = 40 / 255
"""Pixels, at a bound of 20."""

FLOWS = smooth_flow(3)
IMAGES = frames(4)


def read(clip: StoredClip, **options) -> np.ndarray:
    with FlowReader(clip, **options) as reader:
        return np.stack([reader.flow(index) for index in range(len(reader))])


def levels(clip: StoredClip) -> np.ndarray:
    with FlowReader(clip) as reader:
        return np.stack([reader.levels(index) for index in range(len(reader))])


def one(folder) -> StoredClip:
    (clip,) = stored_clips(folder)
    return clip


@pytest.mark.parametrize("name", EIGHT_BIT)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(x=st.floats(-19.9, 19.9), y=st.floats(-19.9, 19.9), bound=st.sampled_from([20.0, 32.0]))
def test_even_flow_comes_back_from_8_bit_within_half_a_level(tmp_path, name, x, y, bound):
    flows = np.empty((1, 2, 16, 24), np.float32)
    flows[:, 0], flows[:, 1] = x, y
    clip = store_clip(tmp_path, name, flows, bound=bound)
    unbiased = quantize.from_uint8(levels(clip), bound, zero=127.5)
    assert np.abs(unbiased - flows).max() <= bound / 255 + 1e-5
    # The field's own decoding, about 128, is half a level further down.
    assert np.abs(read(clip) + bound / 255 - flows).max() <= bound / 255 + 1e-5


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_smooth_flow_comes_back_from_8_bit_within_the_jpegs_error(tmp_path, name):
    coded = quantize.to_uint8(FLOWS, 20.0).astype(int)
    difference = np.abs(levels(store_clip(tmp_path, name, FLOWS, bound=20.0)).astype(int) - coded)
    assert difference.max() <= 6
    assert difference.mean() < 1


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_still_pixels_come_back_as_exactly_zero_and_the_bounds_saturate(tmp_path, name):
    flows = np.zeros((3, 2, 16, 16), np.float32)
    flows[1], flows[2] = 50, -50
    clip = store_clip(tmp_path, name, flows, bound=20.0)
    assert [np.unique(field).tolist() for field in levels(clip)] == [[128], [255], [0]]
    assert (read(clip)[0] == 0).all()


@pytest.mark.parametrize(
    ("name", "dtype"), [("flo", "float32"), ("npy", "float32"), ("h5", "float32")]
)
def test_float32_layouts_are_exact(tmp_path, name, dtype):
    flows = smooth_flow(2, largest=1e5)
    np.testing.assert_array_equal(read(store_clip(tmp_path, name, flows, dtype=dtype)), flows)


@pytest.mark.parametrize("name", ["npy", "h5"])
def test_float16_layouts_round_to_half_precision(tmp_path, name):
    clip = store_clip(tmp_path, name, FLOWS, dtype="float16")
    np.testing.assert_array_equal(read(clip), FLOWS.astype(np.float16).astype(np.float32))
    with FlowReader(clip) as reader:
        assert reader.meta.dtype == "float16"


def test_kitti_png_holds_64ths_of_a_pixel_up_to_511(tmp_path):
    flows = smooth_flow(2, largest=500)
    # float32 holds numbers about 2^15 to 1/256
    tolerance = (1 / 2 + 1 / 256) / 64
    np.testing.assert_allclose(
        read(store_clip(tmp_path, "kitti-png", flows)), flows, atol=tolerance
    )
    with pytest.raises(ParameterError, match="flow reaches 600 px"):
        store_clip(tmp_path, "kitti-png", np.full((1, 2, 16, 16), 600, np.float32))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if layout(name).image])
def test_frames_come_back(tmp_path, name):
    clip = store_clip(tmp_path, name, FLOWS, images=IMAGES, quality=95)
    with FlowReader(clip) as reader:
        assert reader.meta.n_images == 4
        for index, image in enumerate(IMAGES):
            assert np.abs(reader.image(index).astype(int) - image).mean() < 3
        with pytest.raises(IndexError, match="has 4 of these; asked for 4"):
            reader.image(4)


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_every_layout_converts_into_every_other(tmp_path, first, second):
    """An extra hop costs at most the coarser of the two codings."""
    before = store_clip(tmp_path / "1", first, FLOWS, clip="c/a", images=IMAGES, bound=20.0)
    meta = convert(before, tmp_path / "2", second)
    after = one(tmp_path / "2")
    with FlowReader(before) as old, FlowReader(after) as new:
        kind = layout(second)
        assert new.meta == meta
        assert (meta.layout, meta.index_base, meta.n_flows, meta.n_frames) == (
            second,
            kind.base,
            3,
            4,
        )
        assert meta.n_images == (4 if layout(first).image and kind.image else 0)
        for index in range(meta.n_images):
            assert new.image_jpeg(index) == old.image_jpeg(index)
        for index in range(3):
            if first in EIGHT_BIT and second in EIGHT_BIT:
                assert new.jpegs(index) == old.jpegs(index)
            elif second in EIGHT_BIT:
                coded = quantize.to_uint8(old.flow(index), 20.0).astype(int)
                assert np.abs(new.levels(index) - coded).mean() < 1
            else:
                tolerance = 1 / 64 if "kitti-png" in (first, second) else 0
                np.testing.assert_allclose(new.flow(index), old.flow(index), atol=tolerance)
    assert verify(after) is None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("between", FLOAT)
@pytest.mark.parametrize("bound", [20.0, 7.0, 32.0])
def test_8_bit_to_float_and_back_gives_the_same_levels(
    tmp_path, between, dtype, bound, monkeypatch
):
    """Compared before they are coded again: JPEG is what may change them."""
    steps = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(2, axis=1)
    flows = quantize.from_uint8(steps, bound, zero=127.5)
    original = store_clip(tmp_path / "1", "zip", flows, bound=bound, quality=100)
    convert(original, tmp_path / "2", between, dtype=dtype)

    coded = []
    encode = writer_module.codecs.encode_jpeg

    def listening(image, quality):
        coded.append(image)
        return encode(image, quality)

    monkeypatch.setattr(writer_module.codecs, "encode_jpeg", listening)
    meta = convert(one(tmp_path / "2"), tmp_path / "3", "frames")
    assert meta.bound == bound
    np.testing.assert_array_equal(np.stack(coded), levels(original)[0])


def test_the_bound_is_changed_on_request(tmp_path):
    store_clip(tmp_path / "1", "zip", np.full((1, 2, 16, 16), 5, np.float32), bound=20.0)
    meta = convert(one(tmp_path / "1"), tmp_path / "2", "frames", bound=10.0)
    assert meta.bound == 10
    assert np.unique(levels(one(tmp_path / "2"))) == quantize.to_uint8(np.array([5.0]), 10.0)


@pytest.mark.parametrize("step", [3, -2])
def test_the_step_and_the_description_go_along(tmp_path, step):
    source = {"path": "../videos/a.avi", "bytes": 7, "sha256": "00"}
    clip = store_clip(tmp_path / "1", "zip", FLOWS, step=step, source=source)
    for name in ("denseflow", "h5", "tsfusion"):
        convert(clip, tmp_path / "deep" / name, name)
        with FlowReader(one(tmp_path / "deep" / name)) as reader:
            assert reader.meta.step == step
            assert reader.meta.source == {**source, "path": "../../videos/a.avi"}
            assert reader.video.resolve() == (tmp_path / "videos/a.avi").resolve()


def test_conversion_is_repeatable(tmp_path):
    clip = store_clip(tmp_path / "1", "npy", FLOWS)
    for folder in ("2", "3"):
        convert(clip, tmp_path / folder, "frames")
    assert contents(tmp_path / "2") == contents(tmp_path / "3")
