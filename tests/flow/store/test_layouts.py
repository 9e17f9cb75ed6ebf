"""Names, index bases and counts, as the tools have them that the layouts are named after."""

from __future__ import annotations

import fnmatch
import glob
import os
import time
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import (
    LAYOUTS,
    FlowReader,
    FlowWriter,
    finished,
    layout,
    stored_clips,
)
from flowpipe.runner.provenance import stage_path
from tests.helpers.clips import contents, frames, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(3)
IMAGES = frames(4)


def numbered(template: str, *numbers: int) -> list[str]:
    return [template % number for number in numbers]


def pairs(template: str, *numbers: int) -> set[str]:
    return {name.replace("?", axis) for name in numbered(template, *numbers) for axis in "xy"}


FILES = {
    ("frames", 1): {
        "c/a/meta.json",
        *(f"c/a/{name}" for name in pairs("flow_?_%05d.jpg", 1, 2, 3)),
        *numbered("c/a/img_%05d.jpg", 1, 2, 3, 4),
    },
    ("frames", 2): {
        "c/a/meta.json",
        *(f"c/a/{name}" for name in pairs("flow_?_%05d.jpg", 1, 2, 3)),
        *numbered("c/a/img_%05d.jpg", 1, 2, 3, 4, 5),
    },
    ("denseflow", 1): {
        "c/a/meta.json",
        *(f"c/a/{name}" for name in pairs("flow_?_%05d.jpg", 0, 1, 2)),
        *numbered("c/a/img_%05d.jpg", 0, 1, 2, 3),
    },
    ("denseflow", 2): {
        "c/a/meta.json",
        *(f"c/a/{name}" for name in pairs("flow_?_p2_%05d.jpg", 0, 1, 2)),
        *numbered("c/a/img_%05d.jpg", 0, 1, 2, 3, 4),
    },
    ("denseflow", -1): {
        "c/a/meta.json",
        *(f"c/a/{name}" for name in pairs("flow_?_m1_%05d.jpg", 0, 1, 2)),
        *numbered("c/a/img_%05d.jpg", 0, 1, 2, 3),
    },
    ("tsfusion", 1): {
        ".flowpipe/clips/c/a.json",
        *numbered("u/c/a/frame%06d.jpg", 1, 2, 3),
        *numbered("v/c/a/frame%06d.jpg", 1, 2, 3),
        *numbered("jpegs_256/c/a/frame%06d.jpg", 1, 2, 3, 4),
    },
    ("flo", 1): {
        "c/a/meta.json",
        *numbered("c/a/flow_%05d.flo", 1, 2, 3),
        *numbered("c/a/img_%05d.jpg", 1, 2, 3, 4),
    },
    ("kitti-png", -2): {
        "c/a/meta.json",
        *numbered("c/a/flow_%05d.png", 1, 2, 3),
        *numbered("c/a/img_%05d.jpg", 1, 2, 3, 4, 5),
    },
    ("zip", 1): {"c/a.zip"},
    ("npy", 1): {"c/a.npy", "c/a.npy.json"},
    ("h5", 1): {"c/a.h5"},
}


@pytest.mark.parametrize(("name", "step"), FILES)
def test_files_of_a_clip(tmp_path, name, step):
    clip = store_clip(
        tmp_path, name, FLOWS, clip="c/a", step=step, images=frames(3 + abs(step)), bound=20.0
    )
    assert set(contents(tmp_path)) == FILES[name, step]
    with FlowReader(clip) as reader:
        assert (reader.meta.step, len(reader), reader.meta.n_frames) == (step, 3, 3 + abs(step))


def test_zip_members_are_stored_in_order_without_times(tmp_path):
    store_clip(tmp_path, "zip", FLOWS, images=IMAGES)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        members = archive.infolist()
    expected = numbered("img_%05d.jpg", 1, 2, 3, 4)
    expected += [f"flow_{axis}_{number:05d}.jpg" for number in (1, 2, 3) for axis in "xy"]
    assert [member.filename for member in members] == [*expected, "meta.json"]
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(("step", "infix"), [(1, ""), (3, "p3_"), (-2, "m2_")])
def test_h5_has_denseflows_data_sets(tmp_path, step, infix):
    store_clip(tmp_path, "h5", FLOWS, step=step)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"meta.json", *pairs(f"flow_?_{infix}%05d", 0, 1, 2)}
        np.testing.assert_array_equal(file[f"flow_x_{infix}00002"], FLOWS[2, 0])
        np.testing.assert_array_equal(file[f"flow_y_{infix}00000"], FLOWS[0, 1])


def test_npy_is_a_plain_array(tmp_path):
    store_clip(tmp_path, "npy", FLOWS, dtype="float16")
    array = np.load(tmp_path / "a.npy")
    assert array.dtype == np.dtype("<f2")
    np.testing.assert_array_equal(array, FLOWS.astype(np.float16))


def test_flo_is_what_opencv_reads(tmp_path):
    store_clip(tmp_path, "flo", FLOWS)
    read = cv2.readOpticalFlow(str(tmp_path / "a/flow_00002.flo"))
    np.testing.assert_array_equal(read.transpose(2, 0, 1), FLOWS[1])


def test_kitti_png_follows_the_development_kit(tmp_path):
    """R = 64 u + 2^15, G = 64 v + 2^15, B = valid, 16 bit."""
    store_clip(tmp_path, "kitti-png", FLOWS)
    bgr = cv2.imread(str(tmp_path / "a/flow_00001.png"), cv2.IMREAD_UNCHANGED)
    assert bgr.dtype == np.uint16
    assert set(np.unique(bgr[..., 0])) == {1}
    for channel, plane in ((2, 0), (1, 1)):
        decoded = (bgr[..., channel].astype(np.float64) - 2**15) / 64
        # Half a step, and float32's own rounding of numbers about 2^15.
        np.testing.assert_allclose(decoded, FLOWS[0, plane], atol=(1 / 2 + 1 / 256) / 64)


@pytest.mark.slow
def test_the_same_flow_gives_the_same_bytes_at_any_time(tmp_path):
    for name in LAYOUTS:
        store_clip(tmp_path / "now" / name, name, FLOWS, images=IMAGES)
    time.sleep(2.1)  # zip knows times to two seconds, HDF5 to one
    for name in LAYOUTS:
        store_clip(tmp_path / "later" / name, name, FLOWS, images=IMAGES)
        store_clip(tmp_path / "later" / name, name, FLOWS, images=IMAGES)  # over what is there
    assert contents(tmp_path / "now") == contents(tmp_path / "later")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unfinished_writer_leaves_nothing(tmp_path, name):
    with FlowWriter(tmp_path, "c/a", layout(name)) as writer:
        writer.add_flow(FLOWS[0])
    assert contents(tmp_path) == {}

    store_clip(tmp_path, name, FLOWS, clip="c/a")
    before = contents(tmp_path)
    with FlowWriter(tmp_path, "c/a", layout(name)) as writer:
        writer.add_flow(FLOWS[0])
    assert contents(tmp_path) == before


class Killed(BaseException):
    """Ends a writer as a kill does: nothing is cleaned up."""


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "over another"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_killed_at_any_step_of_putting_in_place(tmp_path, name, replacing, monkeypatch):
    """No half clip is ever taken for a whole one, and the next run makes the same files."""
    expected = tmp_path / "expected"
    store_clip(expected, name, FLOWS, images=IMAGES)
    whole = contents(expected)
    operations = ("replace", "rename", "unlink", "rmdir", "touch", "mkdir")
    for step in range(100):
        out = tmp_path / str(step)
        if replacing:
            store_clip(out, name, smooth_flow(5, seed=1))
        left = iter(range(step))
        with monkeypatch.context() as patch:
            for operation in operations:
                original = getattr(Path, operation)

                def dying(path, *args, _original=original, _left=left, **kwargs):
                    if next(_left, None) is None:
                        raise Killed
                    return _original(path, *args, **kwargs)

                patch.setattr(Path, operation, dying)
            try:
                store_clip(out, name, FLOWS, images=IMAGES)
                killed = False
            except Killed:
                killed = True
        found = list(stored_clips(out)) if out.exists() else []
        for clip in found:
            if clip.done_marker.exists() and name != "tsfusion":
                try:
                    with FlowReader(clip) as reader:
                        assert len(reader) in ((3, 5) if replacing else (3,))
                except FormatError:
                    assert name == "npy"  # its description is there, the array not yet
        store_clip(out, name, FLOWS, images=IMAGES)
        now = {key: digest for key, digest in contents(out).items() if not key.startswith(".tmp/")}
        assert now == whole, step
        if not killed:
            assert step > 3
            return
    pytest.fail("the writer never came to its end")


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_not_ours_is_not_overwritten(tmp_path, name):
    out = tmp_path / "out"
    places = {
        "zip": "a.zip",
        "h5": "a.h5",
        "npy": "a.npy",
        "tsfusion": "v/a/frame000001.jpg",
    }
    path = out / places.get(name, "a/flow_x_00001.jpg")
    path.parent.mkdir(parents=True)
    if name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("thesis.txt", "years of work")
    elif name == "h5":
        with h5py.File(path, "w") as file:
            file["thesis"] = 1
    else:
        path.write_bytes(b"years of work")
    before = contents(out)
    with pytest.raises(FormatError, match="is not flowpipe's"):
        store_clip(out, name, FLOWS)
    assert contents(out) == before


def test_a_clip_called_stage_is_apart_from_the_stages_own_file(tmp_path):
    for name in LAYOUTS:
        kind = layout(name)
        own = stage_path(tmp_path / name)
        assert kind.done_marker(tmp_path / name, "stage") != own


def test_unknown_layout():
    with pytest.raises(ParameterError, match=r"layout is 'tar'; it must be one of zip, frames"):
        layout("tar")
    with pytest.raises(ParameterError, match="npy holds no frames"):
        layout("npy").image_member(0)


# What other people's loaders do with the folders, restated from their published sources.


def written(out: Path, name: str, n_frames: int = 12) -> Path:
    """Two classes with two clips each, as extract-flow --frames leaves them."""
    stage_path(out).parent.mkdir(parents=True)
    stage_path(out).write_text("{}")
    flows, images = smooth_flow(n_frames - 1), frames(n_frames)
    for clip in ("v_Run_g01_c01", "v_Run_g02_c01"):
        store_clip(out, name, flows, clip=clip, images=images)
    return out


def test_temporal_segment_networks_list_builder_and_loader(tmp_path):
    out = written(tmp_path, "frames")
    folders = glob.glob(os.path.join(out, "*"))  # noqa: PTH118
    assert {Path(folder).name for folder in folders} == {"v_Run_g01_c01", "v_Run_g02_c01"}
    for folder in folders:
        names = [path.name for path in Path(folder).iterdir()]
        count = {
            prefix: len(fnmatch.filter(names, prefix + "*"))
            for prefix in ("img_", "flow_x_", "flow_y_")
        }
        assert count == {"img_": 12, "flow_x_": 11, "flow_y_": 11}
        for number in range(1, count["img_"] + 1):
            image = cv2.imread(os.path.join(folder, f"img_{number:05d}.jpg"))  # noqa: PTH118
            assert image.shape == (32, 48, 3)
        for number in range(1, count["flow_x_"] + 1):
            for axis in "xy":
                path = os.path.join(folder, f"flow_{axis}_{number:05d}.jpg")  # noqa: PTH118
                assert cv2.imread(path, cv2.IMREAD_UNCHANGED).shape == (32, 48)


@pytest.mark.parametrize(("name", "start_index"), [("frames", 1), ("denseflow", 0)])
def test_mmaction2_rawframe_dataset(tmp_path, name, start_index):
    """RawFrameDecode reads ``filename_tmpl`` at ``frame_inds + start_index``."""
    folder = written(tmp_path, name) / "v_Run_g01_c01"
    total_flows, total_frames, length = 11, 12, 5
    for first in range(total_flows - length + 1):
        stack = []
        for index in np.arange(first, first + length) + start_index:
            for axis in "xy":
                data = (folder / "flow_{}_{:05d}.jpg".format(axis, index)).read_bytes()  # noqa: UP032
                stack.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE))
        assert np.stack(stack).shape == (10, 32, 48)
    assert not (folder / f"flow_x_{total_flows + start_index:05d}.jpg").exists()
    for index in np.arange(total_frames) + start_index:
        assert (folder / "img_{:05d}.jpg".format(index)).exists()  # noqa: UP032
    assert not (folder / f"img_{total_frames + start_index:05d}.jpg").exists()


def test_two_stream_fusion_loader(tmp_path):
    out = written(tmp_path, "tsfusion")
    for number in range(1, 12):
        for axis in "uv":
            assert (out / axis / "v_Run_g01_c01" / ("frame%06d.jpg" % number)).is_file()  # noqa: UP031
    assert len(list((out / "u/v_Run_g01_c01").iterdir())) == 11
    assert len(list((out / "jpegs_256/v_Run_g01_c01").iterdir())) == 12
    assert {path.name for path in (out / "u").iterdir()} == {"v_Run_g01_c01", "v_Run_g02_c01"}


def test_a_claim_that_was_left_behind_is_lifted_with_the_clip_whole(tmp_path):
    """A run that is killed after it has put the mark in place leaves its claim."""
    kind = layout("tsfusion")
    clip = store_clip(tmp_path, "tsfusion", smooth_flow(2, (24, 16)))
    before = contents(tmp_path)
    claim = kind.in_progress_marker(tmp_path, clip.name)
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.touch()
    assert finished(tmp_path, clip.name, kind).n_flows == 2
    assert contents(tmp_path) == before
    claim.touch()
    clip.done_marker.unlink()
    assert finished(tmp_path, clip.name, kind) is None
    assert claim.exists()
