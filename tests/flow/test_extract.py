from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import extract, quantize, solvers
from flowpipe.flow.extract import (
    ExtractFlow,
    FlowStage,
    TooShortError,
    paired,
)
from flowpipe.flow.parameters import Dis, Farneback
from flowpipe.flow.store import FlowReader, StoredClip, layout, verify
from flowpipe.io import video
from flowpipe.io.source import ChangedVideoError, NameTakenError, resized
from flowpipe.runner import provenance
from tests.helpers.clips import contents, shared_data, write_video

pytestmark = pytest.mark.usefixtures("no_flushing")

STAGE = FlowStage(parameters=Farneback(), size=None, layout="npy")
ZIP = replace(STAGE, layout="zip")


def done(stage, clip, out, **options):
    counted = []
    end = ExtractFlow(stage, out, **options)(clip, counted.append)
    return end, sum(counted)


def reader(out, stage, name="c/a"):
    kind = layout(stage.layout)
    return FlowReader(StoredClip(out, name, kind.name if kind.is_file else None))


@pytest.fixture
def clip(tmp_path):
    return Clip(write_video(tmp_path / "videos/a.avi", 6), "c/a")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def expected_flow(path, stage):
    """By hand: decode, resize in colour, grey, solve pair by pair."""
    images = [frame.image for frame in video.frames(path)]
    if stage.size is not None:
        images = [cv2.resize(image, stage.size) for image in images]
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images]
    solver = solvers.create(stage.parameters, stage.solver, *greys[0].shape)
    pairs = zip(greys, greys[abs(stage.step) :], strict=False)
    if stage.step < 0:
        pairs = ((second, first) for first, second in pairs)
    return np.concatenate([solver(first[None], second[None]) for first, second in pairs])


@pytest.mark.parametrize("step", [1, 2, -1, -3])
@pytest.mark.parametrize("size", [None, (64, 40)])
@pytest.mark.parametrize("method", [Farneback(levels=2), Dis()])
def test_flow_is_the_solvers_on_frames_resized_then_greyed(clip, out, step, size, method):
    stage = replace(STAGE, parameters=method, size=size, step=step)
    end, counted = done(stage, clip, out)
    assert (end.skipped, end.warning, counted) == (False, None, 6 - abs(step))
    with reader(out, stage) as flow:
        assert len(flow) == 6 - abs(step)
        stored = np.stack([flow.flow(index) for index in range(len(flow))])
    np.testing.assert_array_equal(stored, expected_flow(clip.path, stage))


def test_flow_has_the_direction_of_the_motion(clip, out):
    """The texture wanders one pixel a frame to the right."""
    for step in (1, 2, -1):
        done(replace(STAGE, step=step), clip, out / str(step))
        with reader(out / str(step), STAGE) as flow:
            x, y = (float(np.median(plane)) for plane in flow.flow(0))
            assert x == pytest.approx(step, abs=0.25)
            assert y == pytest.approx(0, abs=0.1)


def test_8_bit_layouts_hold_the_quantised_flow(clip, out):
    done(replace(ZIP, bound=4.0, quality=100), clip, out)
    with reader(out, ZIP) as flow:
        levels = np.stack([flow.levels(index) for index in range(5)]).astype(int)
    expected = quantize.to_uint8(expected_flow(clip.path, ZIP), 4.0).astype(int)
    assert np.abs(levels - expected).max() <= 3


def test_what_meta_json_says(clip, out):
    stage = replace(ZIP, size=(64, 40), bound=15.0, step=2, frames=True, quality=90)
    done(stage, clip, out)
    with zipfile.ZipFile(out / "c/a.zip") as archive:
        meta = json.loads(archive.read("meta.json"))
    times = meta.pop("times")
    assert times == pytest.approx([n / 25 for n in range(6)], abs=1e-5)
    assert meta == {
        "format": "flowpipe-flow-1",
        "clip": "c/a",
        "layout": "zip",
        "width": 64,
        "height": 40,
        "n_frames": 6,
        "n_flows": 4,
        "n_images": 6,
        "index_base": 1,
        "step": 2,
        "bound": 15.0,
        "quality": 90,
        "dtype": None,
        "source": {
            "path": "../videos/a.avi",
            **provenance.fingerprint(clip.path),
            "sha256": provenance.sha256(clip.path),
            "width": 48,
            "height": 32,
        },
        "method": "farneback",
        "parameters": asdict(Farneback()),
        "solver": solvers.create(Farneback(), "opencv-cpu", 40, 64).name,
        "solver_version": solvers.version("opencv-cpu"),
        "fps": 25.0,
        "truncated": False,
        "decoded_bound": None,
        "crc32": None,
    }


def test_frames_are_those_of_the_same_decode_at_the_size_of_the_flow(clip, out):
    stage = replace(ZIP, size=(64, 40), frames=True, quality=100)
    done(stage, clip, out)
    with reader(out, stage) as flow:
        assert flow.meta.n_images == 6
        for index, frame in enumerate(video.frames(clip.path)):
            expected = cv2.resize(frame.image, (64, 40)).astype(int)
            assert np.abs(flow.image(index).astype(int) - expected).mean() < 2


def test_max_frames(clip, out):
    done(replace(STAGE, max_frames=3), clip, out)
    with reader(out, STAGE) as flow:
        assert (flow.meta.n_frames, len(flow)) == (3, 2)
        stored = np.stack([flow.flow(index) for index in range(2)])
    np.testing.assert_array_equal(stored, expected_flow(clip.path, STAGE)[:2])


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (None, (32, 48), (32, 48)),
        ((64, 40), (32, 48), (40, 64)),
        (16, (32, 48), (16, 24)),
        (64, (32, 48), (64, 96)),
        (100, (320, 240), (133, 100)),
        (256, (240, 427), (256, 455)),
    ],
)
def test_sizes(size, shape, expected):
    assert resized(np.zeros((*shape, 3), np.uint8), size).shape == (*expected, 3)


def test_size_of_the_stored_flow(clip, out):
    for size, expected in ((None, (48, 32)), (16, (24, 16)), ((30, 50), (30, 50))):
        done(replace(STAGE, size=size), clip, out / str(size))
        with reader(out / str(size), STAGE) as flow:
            assert (flow.meta.width, flow.meta.height) == expected == flow.flow(0).shape[:0:-1]


def test_paired_holds_as_many_items_as_the_step():
    assert list(paired(range(5), 1)) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert list(paired(range(5), 3)) == [(0, 3), (1, 4)]
    assert list(paired(range(5), -2)) == [(2, 0), (3, 1), (4, 2)]
    assert list(paired(range(2), 2)) == []


@pytest.mark.parametrize(("n_frames", "step"), [(1, 1), (2, 2), (3, -3)])
def test_too_short(tmp_path, out, n_frames, step):
    short = Clip(write_video(tmp_path / "short.avi", n_frames), "short")
    with pytest.raises(
        TooShortError, match=rf"short.avi' has {n_frames} frames; step {step} needs"
    ):
        done(replace(STAGE, step=step), short, out)
    assert contents(out) == {}


def truncate(clip, kept=0.6):
    data = clip.path.read_bytes()
    clip.path.write_bytes(data[: int(len(data) * kept)])


def test_truncated_videos_fail_unless_they_are_to_be_kept(clip, out):
    write_video(clip.path, 6, (160, 120))
    truncate(clip)
    with pytest.raises(video.TruncatedVideoError, match=r"a\.avi': truncated"):
        done(ZIP, clip, out)
    assert contents(out) == {}
    end, counted = done(replace(ZIP, keep_truncated=True), clip, out)
    assert end.warning.startswith("truncated")
    with reader(out, ZIP) as flow:
        assert flow.meta.truncated
        assert 1 <= len(flow) == counted == flow.meta.n_frames - 1 < 5
    again, counted = done(replace(ZIP, keep_truncated=True), clip, out)
    assert again.skipped
    assert again.warning.startswith("truncated")
    assert counted == 0


def test_a_truncated_video_of_which_too_little_is_left(clip, out):
    truncate(clip)
    with pytest.raises(TooShortError, match="has 0 frames left, for it is truncated; step 1"):
        done(replace(ZIP, keep_truncated=True), clip, out)
    assert contents(out) == {}


@pytest.fixture
def no_decoding(monkeypatch):
    """What is there already costs no decoding."""

    def frames(*args, **kwargs):
        raise AssertionError("a video was decoded")

    monkeypatch.setattr(video, "frames", frames)


@pytest.mark.parametrize("name", ["zip", "frames", "tsfusion", "npy", "h5"])
def test_what_is_there_is_left_alone(clip, out, name, request):
    stage = replace(ZIP, layout=name)
    done(stage, clip, out)
    before = contents(out)
    request.getfixturevalue("no_decoding")
    assert done(stage, clip, out) == (extract.Done(skipped=True), 0)
    moved = Clip(clip.path.rename(clip.path.with_name("b.avi")), "c/a")
    assert done(stage, moved, out)[0] == extract.Done(skipped=True)
    moved.path.unlink()
    end, _ = done(stage, moved, out)
    assert end.skipped
    assert "its video is gone" in end.warning
    assert contents(out) == before
    write_video(moved.path, 5, seed=9)
    with pytest.raises(AssertionError, match="decoded"):
        done(stage, moved, out, overwrite=True)


@pytest.mark.parametrize("name", ["zip", "frames", "tsfusion", "npy", "h5"])
def test_a_video_that_changed_is_done_again(clip, out, name):
    stage = replace(ZIP, layout=name)
    done(stage, clip, out)
    write_video(clip.path, 4, seed=1)
    end, counted = done(stage, clip, out)
    assert (end.skipped, counted) == (False, 3)
    fresh = out.with_name("fresh")
    done(stage, clip, fresh)
    assert contents(out) == contents(fresh)


def test_another_video_does_not_take_a_clips_place(clip, tmp_path, out):
    done(ZIP, clip, out)
    other = Clip(write_video(tmp_path / "others/a.avi", 5, seed=2), "c/a")
    before = contents(out)
    with pytest.raises(NameTakenError) as error:
        done(ZIP, other, out)
    assert "made from '../videos/a.avi', not from '../others/a.avi'" in str(error.value)
    assert contents(out) == before
    done(ZIP, other, out, overwrite=True)
    with reader(out, ZIP) as flow:
        assert flow.meta.source["path"] == "../others/a.avi"


@pytest.mark.parametrize("name", ["zip", "npy", "h5", "frames", "tsfusion"])
def test_damaged_output_is_done_again(clip, out, name):
    stage = replace(ZIP, layout=name)
    done(stage, clip, out)
    before = contents(out)
    mark = layout(name).done_marker(out, "c/a")
    mark.write_bytes(mark.read_bytes()[:30])
    end, counted = done(stage, clip, out)
    assert (end.skipped, counted) == (False, 5)
    assert contents(out) == before


def test_overwrite_makes_the_same_bytes(clip, out):
    done(ZIP, clip, out)
    before = contents(out)
    end, counted = done(ZIP, clip, out, overwrite=True)
    assert (end.skipped, counted) == (False, 5)
    assert contents(out) == before
    assert verify(StoredClip(out, "c/a", "zip")) is None


def test_a_zip_of_somebody_else_is_not_overwritten(clip, out):
    (out / "c").mkdir(parents=True)
    with zipfile.ZipFile(out / "c/a.zip", "w") as archive:
        archive.writestr("thesis.txt", "years of work")
    before = contents(out)
    with pytest.raises(FormatError, match="is not flowpipe's"):
        done(ZIP, clip, out)
    assert contents(out) == before


def test_a_video_that_is_written_to_meanwhile(clip, out):
    class Writing(ExtractFlow):
        pass

    def advance(count):
        with clip.path.open("ab") as file:
            file.write(b"more")

    with pytest.raises(ChangedVideoError, match=r"a\.avi' changed while it was read"):
        Writing(ZIP, out)(clip, advance)
    assert contents(out) == {}


@pytest.mark.slow
def test_real_videos_give_a_field_less_than_they_have_frames(out):
    """The clips of issue trackers: mp4, mkv and avi."""
    folder = shared_data("clips")
    paths = [*sorted(folder.glob("*.m*")), shared_data("ucf101") / "v_Bowling_g01_c01.avi"]
    stage = replace(STAGE, parameters=Dis(preset="ultrafast"), size=(64, 48), layout="zip")
    for path in paths:
        end, counted = done(stage, Clip(path, path.stem), out)
        frames = sum(1 for _ in video.frames(path))
        # One of them has pixels of 64:51; nothing else is to be told.
        note = "its pixels are not square (64:51)" if path.stem == "arm_wrestling" else None
        assert (end.skipped, counted) == (False, frames - 1)
        assert (end.warning or "").startswith(note) if note else end.warning is None
        assert verify(StoredClip(out, path.stem, "zip")) is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"size": (8, 64)}, "size is 8; it must be at least 16"),
        ({"size": 0}, "size is 0"),
        ({"size": -5}, "size is -5"),
        ({"size": (340, 20000)}, "size is 20000"),
        ({"bound": 0.0}, "bound is 0.0; it must be more than 0"),
        ({"bound": float("nan")}, "bound is nan"),
        ({"step": 0}, "step is 0"),
        ({"quality": 0}, "quality is 0"),
        ({"quality": 101}, "quality is 101"),
        ({"max_frames": 1}, "max_frames is 1; it must be at least 2"),
        ({"max_frames": 3, "step": -3}, "max_frames is 3; it must be at least 4"),
        ({"frames": True}, "layout npy holds no RGB frames"),
    ],
)
def test_wrong_values_are_named(values, told):
    with pytest.raises(ParameterError) as error:
        replace(STAGE, **values)
    assert told in str(error.value)


def test_the_description_says_what_determines_the_files_and_no_more():
    description = STAGE.description()
    assert (description["bound"], description["quality"]) == (None, None)
    assert description["parameters"] == asdict(Farneback())
    assert description["solver_version"] == solvers.version("opencv-cpu")
    for name, value in (("bound", 5.0), ("quality", 90)):
        with pytest.raises(ParameterError, match=f"{name} is {value}; it applies to"):
            replace(STAGE, **{name: value})
    with pytest.raises(ParameterError, match="dtype is float16; it applies to the layouts npy"):
        replace(ZIP, dtype="float16")
    eight_bit = ZIP.description()
    assert (eight_bit["bound"], eight_bit["dtype"]) == (20.0, None)
    for change in ({"bound": 5.0}, {"quality": 90}, {"step": 2}, {"frames": True}, {"size": 64}):
        assert replace(ZIP, **change).description() != eight_bit
    json.dumps(description)
