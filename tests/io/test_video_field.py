"""Videos as they come from the field: archives, mirrors, several streams, tags, damage."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from flowpipe.io import video
from flowpipe.io.source import VideoSource, recorded_warning
from tests.helpers import media


def _read(path: Path, **options: bool) -> tuple[list[media.Image], video.DecodingReport]:
    report = video.DecodingReport()
    return [frame.image for frame in video.frames(path, report=report, **options)], report


def _remux(source: Path, path: Path, dropped: set[int]) -> Path:
    """Copy a video without some of its packets."""
    with av.open(str(source)) as container, av.open(str(path), "w") as copy:
        stream = container.streams.video[0]
        written = copy.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number not in dropped:
                packet.stream = written
                copy.mux(packet)
    return path


def _several(path: Path, streams: list[tuple[list[media.Image], int]], codec: str) -> Path:
    """Write streams of frames with a disposition each."""
    with av.open(str(path), "w") as container:
        written = []
        for frames, disposition in streams:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition(disposition)
            written.append(stream)
        for stream, (frames, _) in zip(written, streams, strict=True):
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(media.coloured(frame), format="bgr24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    return path


def _archive(kind: str, member: Path) -> bytes:
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as file:
            file.write(member, "a.mp4")
    elif kind == "gzip":
        data.write(gzip.compress(member.read_bytes()))
    else:
        style = tarfile.USTAR_FORMAT if kind == "tar" else tarfile.GNU_FORMAT
        with tarfile.open(fileobj=data, mode="w", format=style) as archive:
            archive.add(member, "a.mp4")
    if kind == "old tar":  # before POSIX: no magic number, the checksum alone
        head = bytearray(data.getvalue())
        head[257:265] = bytes(8)
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head[:512])
        return bytes(head)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar", "old tar", "gzip"])
def test_an_archive_is_refused_whatever_it_is_called(tmp_path, kind):
    path = tmp_path / "archive.mp4"
    path.write_bytes(_archive(kind, media.write(tmp_path / "a.mp4")))
    with pytest.raises(video.NotAVideoError, match=r"is an archive \(\w+\); unpack it"):
        _read(path)


@pytest.mark.parametrize(
    "magic", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\x00", b"\xfd7zXZ\x00", b"BZh91AY&SY"]
)
def test_archives_that_python_does_not_write(tmp_path, magic):
    path = tmp_path / "a.avi"
    path.write_bytes(magic + bytes(2000))
    with pytest.raises(video.NotAVideoError, match="is an archive"):
        _read(path)


_MATRICES = {
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1], 0),
    "upside down mirror": ((1, 0, 0, -1), lambda image: image[::-1], 180),
    "turned by 180": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1], 180),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1), 270),
    "counter-clockwise": ((0, -1, 1, 0), np.rot90, 90),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1), 90),
    "transverse": ((0, -1, -1, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1), 270),
}


def _with_matrix(source: Path, path: Path, matrix: tuple[int, ...]) -> Path:
    data = bytearray(source.read_bytes())
    a, b, c, d = matrix
    header = data.index(b"tkhd") + 4
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[header + 40 : header + 76] = struct.pack(">9i", *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", _MATRICES)
def test_the_whole_display_matrix_is_applied(tmp_path, name):
    matrix, expected, rotation = _MATRICES[name]
    stored = media.write(tmp_path / "stored.mp4")
    path = _with_matrix(stored, tmp_path / "a.mp4", matrix)
    frames = _read(stored)[0]
    np.testing.assert_array_equal(_read(path)[0], [expected(frame) for frame in frames])
    info = video.probe(path)
    turned = [np.rot90(f[:, ::-1] if info.mirrored else f, rotation // 90) for f in frames]
    assert info.rotation == rotation
    np.testing.assert_array_equal(_read(path)[0], turned)


@pytest.mark.parametrize("name", _MATRICES)
def test_the_display_matrix_is_applied_as_by_ffmpeg(tmp_path, name):
    stored = media.write(tmp_path / "stored.mp4")
    path = _with_matrix(stored, tmp_path / "a.mp4", _MATRICES[name][0])
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    try:
        output = subprocess.run(command, check=True, capture_output=True).stdout
    except FileNotFoundError:
        pytest.skip("the ffmpeg program is not installed")
    images = np.array(_read(path)[0])
    theirs = np.frombuffer(output, np.uint8).reshape(images.shape)
    assert np.abs(theirs.astype(int) - images).mean() < 4


def test_field_mirrored(test_data):
    folder = test_data / "field" / "mirrored"
    stored, mirrored = (_read(folder / name)[0] for name in ("base.mp4", "hflip.mp4"))
    np.testing.assert_array_equal(mirrored, [image[:, ::-1] for image in stored])


_SMALL, _LARGE = media.moving(8, 48, 64), media.moving(8, 96, 128)
_DEFAULT = int(av.stream.Disposition.default)


@pytest.mark.parametrize(
    ("streams", "chosen"),
    [
        ([(_SMALL, 0), (_LARGE, _DEFAULT)], 1),
        ([(_SMALL, _DEFAULT), (_LARGE, 0)], 0),
        ([(_SMALL, _DEFAULT), (_LARGE, _DEFAULT)], 1),
        ([(_LARGE[:1], _DEFAULT), (_SMALL, 0)], 1),
    ],
)
def test_the_default_stream_is_read_then_the_largest(tmp_path, streams, chosen):
    path = _several(tmp_path / "a.mp4", streams, "libx264")
    images, report = _read(path)
    assert len(images) == 8
    assert images[0].shape[:2] == streams[chosen][0][0].shape
    assert any(f"has 2 video streams; stream {chosen} is read" in n for n in report.notes)


def test_field_several_streams(test_data, tmp_path):
    source = VideoSource(test_data / "field" / "several-streams" / "skydio.mp4")
    assert len(list(source)) == 24
    expected = "has 2 video streams; stream 1 is read (160x120, h264)"
    assert source.warning() == expected
    assert recorded_warning(source.source(tmp_path), truncated=False) == expected


_TAGS = {
    "APE": b"APETAGEX" + struct.pack("<4I", 2000, 40, 1, 0) + bytes(40),
    "ID3v1": b"TAGSomething with a title".ljust(128, b"\0"),
    "ID3v2": b"ID3\x04\x00\x00\x00\x00\x02\x01" + b"TIT2" + bytes(60),
    "letters": b"AAAABBBB" * 20,
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("tag", _TAGS)
@pytest.mark.parametrize("name", ["faststart.mp4", "a.mp4", "a.mov", "a.mkv", "a.avi", "a.webm"])
def test_a_tag_behind_the_last_part_is_no_truncation(tmp_path, name, tag):
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(Path(name).suffix, "libx264")
    muxer = {"movflags": "faststart"} if name == "faststart.mp4" else {}
    path = media.write(tmp_path / name, codec=codec, muxer=muxer)
    whole = _read(path)[0]
    with path.open("ab") as file:
        file.write(_TAGS[tag])
    video.require_whole(path)
    np.testing.assert_array_equal(_read(path)[0], whole)


def test_an_mp4_whose_data_run_to_its_end_is_judged_by_its_index(tmp_path):
    path = media.write(tmp_path / "a.mp4", media.moving(40), muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start, _ = media.box(data, b"mdat")
    data[start : start + 4] = bytes(4)
    path.write_bytes(data)
    video.require_whole(path)
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(video.TruncatedVideoError, match="its last frames are missing"):
        video.require_whole(path)


def test_an_mp4_with_unused_data_at_the_end_is_whole_without_them(tmp_path):
    path = media.write(tmp_path / "a.mp4", muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    start, end = media.box(data, b"mdat")
    data[start : start + 4] = (end - start + 5000).to_bytes(4, "big")
    path.write_bytes(data)
    assert len(_read(path)[0]) == 12


def test_field_tag_after_mp4(test_data):
    assert len(_read(test_data / "field" / "tag-after-mp4" / "apetail.mp4")[0]) == 24


def _damaged(path: Path, **kind: str) -> Path:
    media.write(path, media.moving(60, 120, 160), **kind)
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(3)
    start = len(data) // 2
    data[start : start + 60] = random.bytes(60)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mp4", "mpeg4"), ("a.avi", "mpeg4")],
)
def test_damage_in_the_middle_is_an_error_or_kept_on_request(tmp_path, name, codec):
    path = _damaged(tmp_path / name, codec=codec)
    with pytest.raises(
        video.DamagedVideoError, match=r"is damaged: \d+ .*, the first at \d\.\d\d s"
    ):
        list(VideoSource(path))
    kept = VideoSource(path, keep_damaged=True)
    assert 50 < len(list(kept)) <= 60
    record = kept.source(tmp_path)
    assert sum(record.get(key, 0) for key in ("corrupt_frames", "failed_packets", "lost_frames"))
    assert recorded_warning(record, truncated=False) == kept.warning()
    assert "damaged: " in str(kept.warning())


def test_frames_before_the_damage_are_no_error(tmp_path):
    path = _damaged(tmp_path / "a.mp4")
    assert len(list(VideoSource(path, max_frames=10))) == 10


def test_field_damaged_in_the_middle(test_data):
    path = test_data / "field" / "damaged-in-the-middle" / "corruptmid.mp4"
    with pytest.raises(video.DamagedVideoError, match=r"1 corrupt frame, the first at 1\.92 s"):
        list(VideoSource(path))


def test_frames_that_are_lost_with_their_keyframe_are_damage(tmp_path):
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:threads=1", "preset": "medium"}
    whole = media.write(tmp_path / "whole.mp4", media.moving(60, 120, 160), options=options)
    path = _remux(whole, tmp_path / "a.mp4", {24})
    with pytest.raises(video.DamagedVideoError, match=r"\d+ (lost|corrupt) frames?"):
        _read(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("dropped", [{30}, {20, 21, 40}])
def test_packets_missing_from_a_constant_rate_are_noted(tmp_path, name, dropped):
    whole = media.write(tmp_path / f"whole_{name}", media.moving(60), codec="mpeg4")
    report = _read(_remux(whole, tmp_path / name, dropped))[1]
    assert report.missing_frames == len(dropped)
    assert f"{len(dropped)} frame" in report.messages()[0]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_frame_rate_is_no_damage(tmp_path, name):
    random = np.random.default_rng(0)
    jitter = np.cumsum(random.integers(20, 90, 60)) / 1000
    thirds = [n / 25 for n in range(90) if n % 3]
    for times in (jitter.tolist(), thirds):
        path = media.write(tmp_path / name, media.moving(60), times=times)
        assert _read(path)[1].messages() == []


@pytest.mark.slow
def test_sound_clips_raise_no_alarm(test_data):
    alarms = {}
    for folder in ("clips", "kth", "ucf101", "ut-interaction/set1", "weizmann"):
        for path in sorted((test_data / folder).rglob("*.*")):
            if path.suffix in {".avi", ".mkv", ".mp4"}:
                report = _read(path)[1]
                if report.damage or report.missing_frames:
                    alarms[path.name] = report
    assert alarms == {}


def test_times_of_an_avi_with_b_frames_are_in_order(test_data):
    for name in ("ucf101/v_Bowling_g01_c01.avi", "ut-interaction/set1/0_1_4.avi"):
        times = [frame.time for frame in video.frames(test_data / name)]
        steps = np.diff(times)
        np.testing.assert_allclose(steps, np.median(steps), rtol=1e-6)


def test_pixels_that_are_not_square_are_recorded_and_told(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        for grey in media.moving(12):
            picture = av.VideoFrame.from_ndarray(media.coloured(grey), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    source = VideoSource(path)
    assert next(iter(source)).shape == (48, 64, 3)
    assert source.report.record()["sample_aspect_ratio"] == "16:15"
    assert "pixels are not square (16:15)" in str(source.warning())


def test_a_gif_is_a_video(tmp_path):
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for grey in media.moving(12):
            picture = av.VideoFrame.from_ndarray(media.coloured(grey), format="bgr24")
            container.mux(stream.encode(picture.reformat(format="rgb8")))
        container.mux(stream.encode(None))
    images, report = _read(path)
    assert [image.shape for image in images] == [(48, 64, 3)] * 12
    assert report.messages() == []
