from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.io import video
from tests.helpers import media

# One or two of each kind: H.264 in mp4 (with and without sound) and mkv, Xvid with packed
# B-frames and MPEG-4 in avi.
REAL = (
    "clips/arm_wrestling.mp4",
    "clips/flipping_a_pancake.mkv",
    "clips/hollywood2_00001.mp4",
    "kth/person01_boxing_d1_uncomp.avi",
    "ucf101/v_Archery_g02_c02.avi",
    "ucf101/v_Biking_g01_c04.avi",
    "ut-interaction/set1/0_1_4.avi",
    "ut-interaction/set1/10_2_1.avi",
)

ODD = {"height": 47, "width": 63}
KINDS = {
    "h264.mp4": {},
    "h264.mov": {},
    "h264.mkv": {},
    "h264.ts": {},
    "h264_444_odd.mp4": {"pix_fmt": "yuv444p", **ODD},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_odd.avi": {"codec": "mpeg4", **ODD},
    "ffv1_odd.mkv": {"codec": "ffv1", **ODD},
    "mjpeg_full_range.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "uncompressed.avi": {"codec": "rawvideo", "pix_fmt": "bgr24"},
    "mpeg2.mpg": {"codec": "mpeg2video", "format": "mpeg"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9_alpha.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p"},
    "grey.mp4": {"pix_fmt": "gray"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "grey_10_bit.mp4": {"pix_fmt": "gray10le"},
    "grey_16_bit.mkv": {"codec": "ffv1", "pix_fmt": "gray16le"},
    "10_bit.mp4": {"pix_fmt": "yuv420p10le"},
    "10_bit_422.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "prores_alpha.mov": {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    "animation_alpha.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "ffv1_alpha.mkv": {"codec": "ffv1", "pix_fmt": "bgra"},
    "one_frame.mp4": {"n": 1},
    "one_frame.avi": {"codec": "mpeg4", "n": 1},
}


def _images(path: Path) -> list[media.Image]:
    return [frame.image for frame in video.frames(path)]


def _opencv_carries_a_recent_ffmpeg() -> bool:
    avcodec = re.search(r"avcodec:\s+YES \((\d+)", cv2.getBuildInformation())
    return avcodec is not None and int(avcodec[1]) >= 62


def _assert_as_opencv_decodes(path: Path, close: float) -> int:
    """Bit for bit, where OpenCV carries the FFmpeg that PyAV does.

    The FFmpeg 5 of OpenCV 4.12 differs by up to 2 levels in the inverse DCT of MPEG-4, and sites
    the chroma of 10-bit and of odd-sized pictures elsewhere: there, ``close`` bounds the mean.
    """
    exact = _opencv_carries_a_recent_ffmpeg()
    capture = cv2.VideoCapture(str(path))
    count = 0
    for frame in video.frames(path):
        there, expected = capture.read()
        assert there, f"OpenCV stops after {count} frames"
        assert frame.image.dtype == np.uint8
        difference = cv2.absdiff(frame.image, expected)
        assert not difference.any() if exact else difference.mean() < close, f"frame {count}"
        count += 1
    assert not capture.read()[0], f"OpenCV goes on after {count} frames"
    return count


@pytest.mark.parametrize("name", REAL)
def test_real_clips_decode_as_in_opencv(test_data, name):
    assert _assert_as_opencv_decodes(test_data / name, close=0.2) > 100


@pytest.mark.parametrize("name", KINDS)
def test_decodes_as_opencv(tmp_path, name):
    kind = dict(KINDS[name])
    texture = {key: kind.pop(key) for key in ("height", "width") if key in kind}
    n = kind.pop("n", 6)
    path = media.write(tmp_path / name, media.moving(n, **texture), **kind)
    assert _assert_as_opencv_decodes(path, close=8) == n


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_of_the_camera_is_undone(tmp_path, degrees):
    upright = media.write(tmp_path / "upright.mp4")
    path = media.rotated(upright, tmp_path / "rotated.mp4", degrees)
    _assert_as_opencv_decodes(path, close=8)
    turned = [np.rot90(image, -degrees // 90) for image in _images(upright)]
    np.testing.assert_array_equal(_images(path), turned)
    info = video.probe(path)
    assert (info.width, info.height) == ((64, 48) if degrees == 180 else (48, 64))
    assert info.rotation % 360 == -degrees % 360


def test_a_stream_that_changes_its_size_is_scaled_to_its_first(tmp_path):
    large = media.write(tmp_path / "large.ts", [np.dstack([grey] * 3) for grey in media.moving(5)])
    greys = media.moving(5, 36, 40)
    small = media.write(tmp_path / "small.ts", [np.dstack([grey] * 3) for grey in greys])
    both = tmp_path / "both.ts"
    both.write_bytes(large.read_bytes() + small.read_bytes())
    images = _images(both)
    assert {image.shape for image in images} == {(48, 64, 3)}
    np.testing.assert_array_equal(images[:5], _images(large))
    for image, native in zip(images[5:], _images(small), strict=True):
        scaled = cv2.resize(native, (64, 48), interpolation=cv2.INTER_CUBIC)
        assert np.abs(image.astype(int) - scaled).mean() < 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_times_of_a_variable_frame_rate_are_those_written(tmp_path, name):
    times = [0, 0.04, 0.1, 0.5, 0.54, 0.6, 1.2, 1.3, 1.31, 1.4, 2.0, 3.5]
    path = media.write(tmp_path / name, times=times)
    assert [frame.time for frame in video.frames(path)] == pytest.approx(times, abs=1e-9)


def test_times_of_a_constant_frame_rate(tmp_path):
    path = media.write(tmp_path / "a.mp4", rate=30)
    assert [frame.time for frame in video.frames(path)] == pytest.approx(np.arange(12) / 30)


def test_sound_beside_the_video_is_left_out(tmp_path):
    path = media.with_sound(tmp_path / "a.mp4", media.moving(8))
    assert _assert_as_opencv_decodes(path, close=8) == 8


def test_probe(tmp_path):
    path = media.write(tmp_path / "a.mp4", media.moving(7, 50, 66), rate=30)
    assert video.probe(path) == video.VideoInfo(
        path=path,
        width=66,
        height=50,
        fps=30.0,
        declared_frames=7,
        codec="h264",
        pixel_format="yuv420p",
        rotation=0,
    )


@pytest.mark.parametrize(("last", "only"), [(12, [0, 5, 11]), (6, {3, 5}), (3, ()), (12, [40])])
def test_only_some_frames(tmp_path, last, only):
    path = media.write(tmp_path / "a.mp4")
    every = [frame.image for frame in video.frames(path)]
    some = list(video.frames(path, max_frames=last, only=only))
    expected = [image for index, image in enumerate(every) if index in only]
    assert len(some) == len(expected)
    assert all(np.array_equal(a.image, b) for a, b in zip(some, expected, strict=True))


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (1, 1), (5, 5), (12, 12), (99, 12)])
def test_max_frames(tmp_path, asked, given):
    path = media.write(tmp_path / "a.mp4")
    whole = _images(path)
    some = [frame.image for frame in video.frames(path, max_frames=asked)]
    assert len(some) == given
    np.testing.assert_array_equal(some, whole[:given] or some)


def test_images_are_the_callers_own(tmp_path):
    path = media.write(tmp_path / "a.mp4")
    whole = _images(path)
    for frame, expected in zip(video.frames(path), whole, strict=True):
        np.testing.assert_array_equal(frame.image, expected)
        frame.image[...] = 0


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "quote'double\".mp4",
        "new\nline.mp4",
        "Грёза-電影.mp4",
        "-leading.mp4",
        "http:colon.mp4",
        "pipe:0.mp4",
        "%03d.mp4",
        "100%.mkv",
        "%d.avi",
        "a?b#c&d.mp4",
        "back\\slash.mp4",
        os.fsdecode(b"latin\xe9.mp4"),
        "a|b.mp4",
        "x,y.mp4",
    ],
)
def test_any_file_name_can_be_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    plain = media.write(tmp_path / f"plain{Path(name).suffix}", media.moving(4))
    plain.rename(name)
    assert len(_images(Path(name))) == 4
    assert len(_images(tmp_path / name)) == 4
    assert video.probe(name).declared_frames in (4, None)


def test_memory_does_not_grow_with_length(tmp_path):
    still = media.texture(240, 320)
    path = media.write(tmp_path / "long.avi", [still] * 300, codec="mpeg4")
    program = (
        "import sys\n"
        "from flowpipe.io import video\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "for count, frame in enumerate(video.frames(sys.argv[1]), 1):\n"
        "    if count == 50: early = peak()\n"
        "print(count, early, peak())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, path], check=True, capture_output=True, text=True
    ).stdout
    count, early, late = map(int, output.split())
    one_frame = 240 * 320 * 3 / 1024
    assert count == 300
    assert late - early < 10 * one_frame
