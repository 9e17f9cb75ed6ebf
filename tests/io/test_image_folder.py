from __future__ import annotations

import cv2
import numpy as np
import pytest

from flowpipe.cli import main
from flowpipe.errors import FormatError
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.io import video
from flowpipe.io.source import VideoSource, source_status
from flowpipe.trajectories.dense import dense_trajectories
from tests.helpers import media


def _write(folder, names, images=None):
    folder.mkdir(parents=True, exist_ok=True)
    images = images or [media.coloured(grey) for grey in media.moving(len(names))]
    for name, image in zip(names, images, strict=True):
        assert cv2.imwrite(str(folder / name), image)
    return folder


def _run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


@pytest.mark.parametrize(
    "pattern", ["{:05d}.png", "img_{:05d}.png", "frame{:06d}.png", "{}.png", "clip2_{}.PNG"]
)
def test_images_are_read_in_natural_order(tmp_path, pattern):
    images = [media.coloured(grey) for grey in media.moving(12)]
    folder = _write(tmp_path / "a", [pattern.format(n) for n in range(1, 13)], images)
    (folder / "notes.txt").write_text("not an image")
    report = video.DecodingReport()
    frames = list(video.frames(folder, report=report))
    np.testing.assert_array_equal([frame.image for frame in frames], images)
    assert {frame.time for frame in frames} == {None}
    assert report.messages() == []
    assert len(list(video.frames(folder, max_frames=5, only=[1, 7]))) == 1
    info = video.probe(folder)
    assert (info.width, info.height, info.declared_frames) == (64, 48, 12)


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([1, 2, 3, 4], 0), ([1, 2, 5, 6], 2), ([0, 5, 10, 20], 1), ([7, 8, 9], 0), ([3], 0)],
)
def test_numbers_that_are_missing_are_told(tmp_path, numbers, missing):
    source = VideoSource(_write(tmp_path / "a", [f"img_{n:05d}.png" for n in numbers]))
    assert len(list(source)) == len(numbers)
    assert source.report.missing_frames == missing
    assert bool(source.warning()) == bool(missing)


def test_flow_beside_the_frames_is_no_frame(tmp_path):
    folder = _write(tmp_path / "a", ["img_00001.png", "img_00002.png", "img_00003.png"])
    _write(folder, ["flow_x_00001.png", "flow_y_00001.png", "x_00002.png"])
    assert len(list(video.frames(folder))) == 3


def test_an_image_of_another_size_is_refused(tmp_path):
    folder = _write(tmp_path / "a", ["1.png", "2.png"])
    _write(folder, ["3.png"], [media.coloured(media.texture(40, 40))])
    with pytest.raises(FormatError, match=r"3\.png' is 40x40, but '1\.png' is 64x48"):
        list(video.frames(folder))


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, content):
    folder = _write(tmp_path / "a", ["1.png", "2.png"])
    (folder / "3.png").write_bytes(content)
    with pytest.raises(FormatError, match=r"3\.png' is not an image"):
        list(video.frames(folder))


def test_a_folder_without_images(tmp_path):
    with pytest.raises(video.UnreadableFileError, match="is a folder that holds no images"):
        list(video.frames(tmp_path))


def test_a_folder_that_changes_is_noticed(tmp_path):
    folder = _write(tmp_path / "a", [f"{n}.png" for n in range(5)])
    source = VideoSource(folder)
    list(source)
    record = source.source(tmp_path)
    assert source_status(record, folder, tmp_path, "a") == "same"
    _write(folder, ["5.png"])
    assert source_status(record, folder, tmp_path, "a") == "changed"


@pytest.mark.slow
def test_folders_of_frames_are_clips_for_extract_flow(tmp_path):
    for name in ("left/1", "right/2"):
        _write(tmp_path / "set" / name, [f"{n:05d}.jpg" for n in range(1, 7)])
    out = tmp_path / "flow"
    command = ["extract-flow", str(tmp_path / "set"), "--out", str(out), "--native"]
    command += ["--method", "farneback", "--jobs", "0"]
    assert _run(*command) == 0
    clips = sorted(stored_clips(out), key=lambda clip: clip.name)
    assert [clip.name for clip in clips] == ["left/1", "right/2"]
    with FlowReader(clips[0]) as reader:
        assert (reader.meta.n_frames, reader.meta.n_flows) == (6, 5)
    assert _run("verify", str(out)) == 0
    assert _run(*command) == 0


def test_trajectories_of_a_folder_of_frames(tmp_path):
    images = [media.coloured(grey) for grey in media.moving(20, 96, 128)]
    folder = _write(tmp_path / "a", [f"{n:05d}.png" for n in range(20)], images)
    rgb = np.stack(images)[..., ::-1]
    rows, expected = dense_trajectories(folder, "dt"), dense_trajectories(rgb, "dt")
    assert len(rows.info)
    np.testing.assert_array_equal(rows.info, expected.info)
