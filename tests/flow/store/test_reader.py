"""Finding clips, and reading what others wrote."""

from __future__ import annotations

import json
import re
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow import quantize
from flowpipe.flow.store import (
    LAYOUTS,
    FlowReader,
    StoredClip,
    codecs,
    convert,
    stored_clips,
    verify,
)
from flowpipe.training.data.stacks import read_stack
from tests.helpers.clips import frames, shared_data, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(3)


def write_jpegs(folder, *templates, numbers, value=140):
    folder.mkdir(parents=True, exist_ok=True)
    for template in templates:
        for number in numbers:
            image = np.full((16, 24), value + number, np.uint8)
            (folder / (template % number)).write_bytes(codecs.encode_jpeg(image))


@pytest.mark.parametrize("name", LAYOUTS)
def test_clips_are_found_by_name(tmp_path, name):
    for clip in ("b/a", "b/c d", "a"):
        store_clip(tmp_path, name, FLOWS, clip=clip)
    assert sorted(clip.name for clip in stored_clips(tmp_path)) == ["a", "b/a", "b/c d"]
    for clip in stored_clips(tmp_path):
        with FlowReader(clip) as reader:
            assert reader.meta.clip == clip.name
            assert reader.described


@pytest.mark.parametrize(
    ("name", "path"), [("zip", "b/a.zip"), ("npy", "b/a.npy"), ("h5", "b/a.h5"), ("flo", "b/a")]
)
def test_one_clip_is_opened_by_its_own_path(tmp_path, name, path, monkeypatch):
    out = tmp_path / "out"
    store_clip(out, name, FLOWS, clip="b/a", source={"path": "../videos/b/a.avi"})
    with FlowReader(out / path) as reader:
        assert len(reader) == 3
        assert reader.video.resolve() == tmp_path.resolve() / "videos/b/a.avi"
    if name == "flo":
        monkeypatch.chdir(out / path)
        (clip,) = stored_clips(out / path / "../a")
        assert clip.name == "a"


@pytest.mark.parametrize("name", LAYOUTS)
def test_levels_of_every_layout(tmp_path, name):
    store_clip(tmp_path, name, FLOWS)
    for bound in (20.0, 10.0):
        with FlowReader(next(stored_clips(tmp_path)), bound=bound) as reader:
            got = reader.levels(1).astype(int)
            if reader.layout.coding == "jpeg":  # as they are stored
                with FlowReader(next(stored_clips(tmp_path))) as plain:
                    assert np.array_equal(got, plain.levels(1))
            else:  # a KITTI PNG rounds to 1/64 px
                off = np.abs(got - quantize.to_uint8(FLOWS[1], bound))
                assert off.max() <= (name == "kitti-png")


def test_decoding_without_bias(tmp_path):
    store_clip(tmp_path / "zip", "zip", FLOWS)
    convert(next(stored_clips(tmp_path / "zip")), tmp_path / "npy", "npy")
    for name in ("zip", "npy"):
        with FlowReader(next(stored_clips(tmp_path / name))) as reader:
            usual, unbiased = reader.flow(0), reader.flow(0, zero=127.5)
        np.testing.assert_allclose(unbiased - usual, 20 / 255, atol=1e-5)
    store_clip(tmp_path / "exact", "npy", FLOWS)  # nothing was coded, nothing is shifted
    with FlowReader(next(stored_clips(tmp_path / "exact"))) as reader:
        assert np.array_equal(reader.flow(0, zero=127.5), FLOWS[0])


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("frames", "k/a/flow_x_00002.jpg"),
        ("tsfusion", "u/k/a/frame000002.jpg"),
        ("flo", "k/a/flow_00002.flo"),
        ("kitti-png", "k/a/flow_00002.png"),
    ],
)
def test_a_damaged_file_is_named_with_its_folder(tmp_path, name, place):
    store_clip(tmp_path, name, FLOWS, clip="k/a")
    (tmp_path / place).write_bytes(b"nothing of the kind")
    with (
        FlowReader(next(stored_clips(tmp_path))) as reader,
        pytest.raises(FormatError, match=re.escape(f"'{tmp_path / place}' ")),
    ):
        reader.flow(1)


def test_a_path_that_holds_no_one_clip_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"notes.txt' is not a flow file"):
        FlowReader(tmp_path / "notes.txt")
    with pytest.raises(FormatError, match=r"none' does not exist"):
        FlowReader(tmp_path / "none")
    with pytest.raises(FormatError, match="holds 0 clips"):
        FlowReader(tmp_path)
    assert list(stored_clips(tmp_path)) == []


def test_class_folders_called_u_and_v_are_not_taken_for_tsfusion(tmp_path):
    for clip in ("u/a", "v/a"):
        store_clip(tmp_path, "frames", FLOWS, clip=clip)
    assert [clip.name for clip in stored_clips(tmp_path)] == ["u/a", "v/a"]


def test_real_denseflow_output(tmp_path):
    """Read as it is, against a sample that open-mmlab/denseflow wrote (bound 20)."""
    folder = shared_data("denseflow-sample")
    (clip,) = stored_clips(folder)
    with FlowReader(clip, bound=20.0) as reader:
        assert (len(reader), reader.meta.n_images, reader.meta.index_base) == (5, 10, 1)
        assert not reader.described
        assert (reader.meta.width, reader.meta.height) == reader.flow(0).shape[:0:-1]
        levels = codecs.decode_grey((folder / "x_00003.jpg").read_bytes(), "x")
        np.testing.assert_array_equal(reader.levels(2)[0], levels)
        np.testing.assert_allclose(
            reader.flow(2)[0], (levels.astype(np.float64) - 128) * 40 / 255, atol=1e-5
        )
        # Flow of a real scene: mostly still, and centred on zero.
        assert abs(float(np.median(reader.levels(2))) - 128) <= 1
    convert(clip, tmp_path / "out", "frames", bound=20.0)
    name = folder.name
    copied = (tmp_path / "out" / name / "flow_x_00003.jpg").read_bytes()
    assert copied == (folder / "x_00003.jpg").read_bytes()
    assert verify(StoredClip(tmp_path / "out", name, None)) is None


@pytest.mark.parametrize(
    ("templates", "numbers", "step"),
    [
        (("flow_x_%05d.jpg", "flow_y_%05d.jpg"), (1, 2, 3), 1),
        (("flow_x_%05d.jpg", "flow_y_%05d.jpg"), (0, 1, 2), 1),
        (("x_%05d.jpg", "y_%05d.jpg"), (1, 2, 3), 1),
        (("flow_x_p2_%05d.jpg", "flow_y_p2_%05d.jpg"), (0, 1, 2), 2),
        (("flow_x_m3_%05d.jpg", "flow_y_m3_%05d.jpg"), (0, 1, 2), -3),
    ],
)
def test_jpeg_folders_of_other_tools(tmp_path, templates, numbers, step):
    folder = tmp_path / "in/class/clip"
    write_jpegs(folder, *templates, numbers=numbers)
    (clip,) = stored_clips(tmp_path / "in")
    assert clip.name == "class/clip"
    with FlowReader(clip, bound=32.0) as reader:
        meta = reader.meta
        assert (len(reader), meta.index_base, meta.step) == (3, numbers[0], step)
        assert (meta.width, meta.height, meta.bound) == (24, 16, 32.0)
        assert meta.n_frames == 3 + abs(step)
        expected = (140 + numbers[2] - 128) * 64 / 255
        np.testing.assert_allclose(reader.flow(2), expected, rtol=1e-6)
    converted = convert(clip, tmp_path / "out", "denseflow", bound=32.0)
    assert (converted.step, converted.index_base) == (step, 0)
    assert verify(next(stored_clips(tmp_path / "out"))) is None


def test_two_stream_fusion_tree(tmp_path):
    write_jpegs(tmp_path / "u/v_A", "frame%06d.jpg", numbers=(1, 2), value=130)
    write_jpegs(tmp_path / "v/v_A", "frame%06d.jpg", numbers=(1, 2), value=120)
    (clip,) = stored_clips(tmp_path)
    assert (clip.name, clip.layout) == ("v_A", "tsfusion")
    with FlowReader(clip) as reader:
        assert [float(plane.mean()) for plane in reader.levels(1)] == [132, 122]
        assert not reader.described


@pytest.mark.parametrize(("infix", "step"), [("", 1), ("p2_", 2), ("m1_", -1)])
def test_h5_of_denseflow(tmp_path, infix, step):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for number, flow in enumerate(FLOWS):
            file[f"flow_x_{infix}{number:05d}"], file[f"flow_y_{infix}{number:05d}"] = flow
    (clip,) = stored_clips(tmp_path)
    with FlowReader(clip) as reader:
        assert (len(reader), reader.meta.step) == (3, step)
        np.testing.assert_array_equal(reader.flow(2), FLOWS[2])


def test_bare_npy(tmp_path):
    np.save(tmp_path / "v.npy", FLOWS.astype(np.float64))
    (clip,) = stored_clips(tmp_path)
    with FlowReader(clip) as reader:
        assert (len(reader), reader.meta.width, reader.described) == (3, 48, False)
        np.testing.assert_array_equal(reader.flow(1), FLOWS[1])


def test_flo_of_middlebury(tmp_path):
    folder = shared_data("middlebury", "Dimetrodon")
    shutil.copy(folder / "flow10.flo", tmp_path / "flow_00010.flo")
    with FlowReader(tmp_path) as reader:
        assert (reader.meta.index_base, len(reader)) == (10, 1)
        with pytest.raises(FormatError, match="unknown"):
            reader.flow(0)
        flow = reader.flow(0, allow_unknown=True)
        known = flow[np.abs(flow) < 1e9]
        assert np.abs(known).max() < 5


def not_flow(folder):
    """Files that are called like flow and are not."""
    np.save(folder / "cube.npy", np.zeros((2, 3, 4)))
    np.save(folder / "none.npy", np.zeros((0, 2, 16, 16), np.float32))
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(folder / "renamed.npz", np.zeros(3))
    (folder / "renamed.npz").rename(folder / "archive.npy")
    with h5py.File(folder / "tracks.h5", "w") as file:
        file["trajectory"] = np.zeros(3)
    with zipfile.ZipFile(folder / "papers.zip", "w") as archive:
        archive.writestr("paper.pdf", "%PDF")
    for suffix in ("zip", "npy", "h5"):
        (folder / f"text.{suffix}").write_text("text")
        (folder / f"empty.{suffix}").touch()
    return 12


def test_what_is_not_flow_is_refused_by_name(tmp_path):
    count = not_flow(tmp_path)
    clips = list(stored_clips(tmp_path))
    assert len(clips) == count
    for clip in clips:
        with pytest.raises(FormatError, match=clip.path.name):
            FlowReader(clip)


META = {
    "format": "flowpipe-flow-1",
    "clip": "a",
    "layout": "frames",
    "width": 4,
    "height": 4,
    "n_frames": 2,
    "n_flows": 1,
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "flowpipe-flow-9"}, "format 'flowpipe-flow-9'"),
        ({"layout": "tar"}, "layout is 'tar'"),
        ({"n_flows": -1}, "n_flows is -1; a count"),
        ({"n_flows": True}, "n_flows is True"),
        ({"width": "4"}, "width is '4'"),
        ({"step": 0}, "step is 0"),
        ({"step": "1"}, "step"),
        ({"bound": -20.0}, "bound is -20.0; a positive number"),
        ({"bound": "20"}, "bound is '20'"),
        ({"bound": float("nan")}, "bound is nan"),
        ({"dtype": "float99"}, "dtype is 'float99'; float32 or float16"),
        ({"source": "a.mp4"}, "source is 'a.mp4'; an object"),
        ({"fps": None}, "fps is None"),
        ({"clip": None}, "clip is None"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path, change, told):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/meta.json").write_text(json.dumps({**META, **change}))
    with pytest.raises(FormatError) as error:
        FlowReader(StoredClip(tmp_path, "a", None))
    assert told in str(error.value)
    assert str(tmp_path / "a") in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"meta"', "\udcff", "[" * 100_000])
def test_a_description_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/meta.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(FlowpipeError, match=r"meta\.json"):
        FlowReader(StoredClip(tmp_path, "a", None))


def test_the_order_of_frames_and_flow_does_not_matter_to_the_reader(tmp_path):
    clip = store_clip(tmp_path, "zip", FLOWS, images=frames(4))
    with FlowReader(clip) as reader:
        backwards = [reader.flow(index) for index in (2, 1, 0)]
        forwards = [reader.flow(index) for index in (0, 1, 2)]
    np.testing.assert_array_equal(backwards, forwards[::-1])


@pytest.mark.parametrize("name", ["npy", "h5", "flo"])
def test_flow_converted_from_8_bit_keeps_the_levels_of_its_bound(tmp_path, name):
    clip = store_clip(tmp_path / "coded", "zip", smooth_flow(3, largest=30.0), bound=32.0)
    convert(clip, tmp_path / "float", name)
    (converted,) = stored_clips(tmp_path / "float")
    with FlowReader(clip) as coded, FlowReader(converted) as floating:
        for index in range(3):
            np.testing.assert_array_equal(coded.levels(index), floating.levels(index))
        np.testing.assert_array_equal(read_stack(coded, range(3)), read_stack(floating, range(3)))
