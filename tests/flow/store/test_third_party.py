"""Flow of other tools: recognized by its names, and checked before it is used."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

import flowpipe
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import FlowReader, FlowWriter, codecs, convert, layout, stored_clips
from flowpipe.flow.store.find import flow_to_read
from tests.helpers.clips import contents, shared_data, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

X = np.full((16, 24), 140, np.uint8)
Y = np.full((16, 24), 100, np.uint8)


def write(folder, template, axes, numbers=range(1, 4), images=(X, Y)):
    """Write images of x and y under a template with {axis} and {i}."""
    for axis, image in zip(axes, images, strict=True):
        for number in numbers:
            path = folder / template.format(axis=axis, i=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            encode = codecs.encode_png if path.suffix.lower() == ".png" else codecs.encode_jpeg
            path.write_bytes(encode(image))


NAMES = [
    ("flow_{axis}_{i:05d}.jpg", "xy"),
    ("flow_{axis}_{i:04d}.jpg", "xy"),
    ("flow_{axis}_{i:06d}.png", "xy"),
    ("flow_{axis}_{i}.jpg", "xy"),
    ("FLOW_{axis}_{i:05d}.JPG", "XY"),
    ("flow_{axis}_{i:05d}.jpeg", "uv"),
    ("{axis}_{i:05d}.jpg", "xy"),
    ("{axis}_{i:04d}.png", "uv"),
    ("{axis}{i:03d}.png", "xy"),
    ("{i:05d}_{axis}.png", "xy"),
    ("{axis}/frame_{i:010d}.jpg", "uv"),
    ("{axis}/{i:05d}.png", "xy"),
    ("flow_{axis}/{i:05d}.jpg", "xy"),
    ("video.mp4-flow-{axis}-{i:05d}.jpg", "xy"),
    ("100%{{1}}_flow_{axis}_{i:05d}.jpg", "xy"),
]


@pytest.mark.parametrize("first", [0, 1, 8])
@pytest.mark.parametrize(("template", "axes"), NAMES)
def test_names_of_other_tools(tmp_path, template, axes, first):
    write(tmp_path / "set/run/a", template, axes, range(first, first + 5))
    (clip,) = stored_clips(tmp_path / "set")
    assert clip.name == "run/a"
    with FlowReader(clip, bound=32.0) as reader:
        assert (len(reader), reader.meta.index_base, reader.described) == (5, first, False)
        level = 64 / 255
        np.testing.assert_allclose(reader.flow(4)[:, 3, 5], [12 * level, -28 * level], rtol=0.02)
    convert(clip, tmp_path / "out", "npy", bound=32.0)
    assert np.load(tmp_path / "out/run/a.npy").shape == (5, 2, 16, 24)
    assert flowpipe.read_flow(tmp_path / "set/run/a").shape == (5, 2, 16, 24)


@pytest.mark.parametrize("name", ["frame_0001.flo", "0001.FLO", "flow_000001.flo", "a-1.flo"])
def test_names_of_flo_files(tmp_path, name):
    flow = smooth_flow(2)
    for number in (1, 2):
        path = tmp_path / "in/ambush_5" / name.replace("1.", f"{number}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codecs.encode_flo(flow[number - 1]))
    (clip,) = stored_clips(tmp_path / "in")
    with FlowReader(clip) as reader:
        assert len(reader) == 2
        np.testing.assert_array_equal(reader.flow(1), flow[1])


def test_h5_with_any_digits(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for number, flow in enumerate(smooth_flow(12)):
            file[f"flow_x_{number}"], file[f"flow_y_{number}"] = flow
    assert len(flowpipe.read_flow(tmp_path / "v.h5")) == 12


@pytest.mark.parametrize("name", ["frame{i:06d}.jpg", "frame_{i:04d}.png"])
def test_u_and_v_above_the_clips(tmp_path, name):
    for clip in ("run/a", "run/b"):
        write(tmp_path, "{axis}/" + clip + "/" + name, "uv")
    clips = list(stored_clips(tmp_path))
    assert [clip.name for clip in clips] == ["run/a", "run/b"]
    with FlowReader(clips[1]) as reader:
        assert (len(reader), reader.meta.layout) == (3, "tsfusion")
        assert [int(level) for level in reader.levels(2)[:, 0, 0]] == pytest.approx(
            [140, 100], 0.02
        )


@pytest.mark.parametrize("images", ["img_{i:05d}.jpg", "frame_{i}.png", "image-{i:03d}.jpeg"])
def test_frames_of_other_tools_beside_their_flow(tmp_path, images):
    write(tmp_path / "a", "flow_{axis}_{i:05d}.jpg", "xy")
    write(tmp_path / "a", images, ("",), range(5), (np.dstack([X, Y, X]),))
    with FlowReader(tmp_path / "a") as reader:
        assert (len(reader), reader.meta.n_images) == (3, 5)
        assert reader.image(4).shape == (16, 24, 3)


def test_samples_of_other_tools():
    samples = shared_data("field", "flow-of-other-tools")
    for name in ("dig4", "epic"):
        clips = list(stored_clips(samples / name))
        assert clips
        for clip in clips:
            with FlowReader(clip) as reader:
                assert len(reader) == 12
                assert reader.flow(11).shape[0] == 2


def test_folders_of_classes_and_frames_are_no_flow(tmp_path):
    for name in ("x_1", "y_1", "u", "v"):
        (tmp_path / name).mkdir()
    write(tmp_path / "x_1/a", "img_{i:05d}.jpg", ("",), images=(X,))
    write(tmp_path / "u/b", "{i:05d}.jpg", ("",), images=(X,))
    assert list(stored_clips(tmp_path)) == []


def test_the_error_lists_what_was_found_and_what_is_known(tmp_path):
    write(tmp_path / "run", "of{i:03d}.jpg", ("",), images=(X,))
    for read in (lambda: flow_to_read(tmp_path, tmp_path / "out"),):
        with pytest.raises(ParameterError) as error:
            read()
        assert "found 'run/of001.jpg', 'run/of002.jpg'" in str(error.value)
        assert "flow_x_00001.jpg" in str(error.value)


@pytest.mark.parametrize("axis", "xy")
def test_x_and_y_of_other_counts_are_refused(tmp_path, axis):
    write(tmp_path / "a", "flow_{axis}_{i:04d}.jpg", "xy")
    (tmp_path / f"a/flow_{axis}_0003.jpg").unlink()
    with pytest.raises(
        FormatError, match=rf"lacks 'flow_{axis}_0003.jpg'; it has .*[23] of flow_y"
    ):
        FlowReader(tmp_path / "a")


def test_a_gap_is_refused(tmp_path):
    write(tmp_path / "a", "{axis}_{i:04d}.jpg", "xy", numbers=(1, 2, 4))
    with pytest.raises(FormatError, match=r"lacks 'x_0003.jpg'"):
        FlowReader(tmp_path / "a")


# Sizes and values within a clip.

SMALL, LARGE = smooth_flow(2, (24, 16)), smooth_flow(2, (48, 32))
BAD = [np.nan, np.inf, -np.inf, 1e10]


@pytest.mark.parametrize("to", ["zip", "npy", "h5", "frames", "flo", "kitti-png", "tsfusion"])
def test_the_writer_refuses_another_size_in_a_clip(tmp_path, to):
    with FlowWriter(tmp_path, "a", layout(to)) as writer:
        writer.add_flow(SMALL[0])
        with pytest.raises(FormatError, match="flow field 1 of 'a' is 48x32; field 0 is 24x16"):
            writer.add_flow(LARGE[0])
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("to", ["zip", "npy", "h5", "flo", "kitti-png"])
def test_the_writer_refuses_values_that_are_not_finite(tmp_path, to, value):
    flow = SMALL[0].copy()
    flow[1, 2, 3] = value
    with (
        FlowWriter(tmp_path, "a", layout(to)) as writer,
        pytest.raises(FormatError, match="1 of 768 values of flow field 0 of 'a' are not finite"),
    ):
        writer.add_flow(flow)


def test_jpegs_that_are_copied_are_checked_too(tmp_path):
    write(tmp_path / "in/a", "flow_{axis}_{i:05d}.jpg", "xy")
    write(tmp_path / "in/a", "flow_{axis}_{i:05d}.jpg", "xy", (3,), (X[:8], Y[:8]))
    (clip,) = stored_clips(tmp_path / "in")
    message = r"flow field 2 of '.*' is 24x8; field 0 is 24x16"
    with pytest.raises(FormatError, match=message):
        convert(clip, tmp_path / "out", "npy")
    with pytest.raises(FormatError, match="flow field 2 of 'a' is 24x8; field 0 is 24x16"):
        convert(clip, tmp_path / "out", "zip", bound=20.0)
    with FlowReader(clip) as reader, pytest.raises(FormatError, match=message):
        reader.levels(2)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["npy", "h5", "flo"])
def test_the_reader_refuses_values_that_are_not_finite(tmp_path, name, value):
    flow = SMALL.copy()
    flow[1, 0, 2, 3] = value
    if name == "npy":
        np.save(tmp_path / "a.npy", flow)
    elif name == "h5":
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number, field in enumerate(flow):
                file[f"flow_x_{number:05d}"], file[f"flow_y_{number:05d}"] = field
    else:
        for number, field in enumerate(flow):
            path = tmp_path / f"a/flow_{number:05d}.flo"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(codecs.encode_flo(field))
    (clip,) = stored_clips(tmp_path)
    with FlowReader(clip) as reader:
        reader.levels(0)
        message = f"flow field 1 of {str(clip.path)!r} are not finite, or unknown"
        for read in (reader.flow, reader.levels):
            with pytest.raises(FormatError, match=re.escape(message)):
                read(1)
        np.testing.assert_array_equal(reader.flow(1, allow_unknown=True), flow[1])


def test_another_size_in_a_clip_of_ours_is_refused(tmp_path):
    clip = store_clip(tmp_path, "flo", SMALL)
    (clip.path / "flow_00002.flo").write_bytes(codecs.encode_flo(LARGE[0]))
    with (
        FlowReader(clip) as reader,
        pytest.raises(FormatError, match=r"is 48x32; meta.json says 24x16"),
    ):
        reader.flow(1)
