"""Files that are not whole videos: each gives what can be decoded and an error of its own."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest

from flowpipe.io import video
from tests.helpers import media


def _images(path: Path) -> list[media.Image]:
    return [frame.image for frame in video.frames(path)]


def _until_error(path: Path) -> tuple[list[media.Image], video.VideoError | None]:
    images: list[media.Image] = []
    try:
        for frame in video.frames(path):
            images.append(frame.image)
    except video.VideoError as error:
        return images, error
    return images, None


def _moov_last(path: Path) -> Path:
    return media.write(path, media.moving(40))


def _moov_first(path: Path) -> Path:
    return media.write(path, media.moving(40), muxer={"movflags": "faststart"})


def _fragmented(path: Path) -> Path:
    movflags = "frag_keyframe+empty_moov+default_base_moof"
    return media.write(path, media.moving(40), muxer={"movflags": movflags})


def _avi(path: Path) -> Path:
    return media.write(path, media.moving(40), codec="mpeg4", options={"g": "5"})


def _mkv(path: Path) -> Path:
    return media.write(path, media.moving(40))


WHOLE = {
    "moov_last.mp4": _moov_last,
    "moov_first.mp4": _moov_first,
    "fragmented.mp4": _fragmented,
    "a.mov": _moov_last,
    "a.avi": _avi,
    "a.mkv": _mkv,
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_not_truncated(tmp_path, name):
    path = WHOLE[name](tmp_path / name)
    video.require_whole(path)
    assert len(_images(path)) == 40


@pytest.mark.parametrize("folder", ["ut-interaction/set1", "ucf101", "clips", "kth"])
def test_real_files_are_not_truncated(test_data, folder):
    paths = [path for path in (test_data / folder).iterdir() if path.suffix in (".avi", ".mp4")]
    assert len(paths) == {"ut-interaction/set1": 60, "ucf101": 26, "clips": 4, "kth": 1}[folder]
    for path in paths:
        video.require_whole(path)


@pytest.mark.parametrize("name", ["moov_first.mp4", "fragmented.mp4", "a.avi", "a.mkv"])
def test_a_truncated_file_gives_what_is_there_and_is_called_truncated(tmp_path, name):
    whole = WHOLE[name](tmp_path / name)
    data, expected = whole.read_bytes(), _images(whole)
    counts = []
    for share in (0.5, 0.65, 0.8, 0.95):
        path = tmp_path / f"cut_{share}{whole.suffix}"
        path.write_bytes(data[: int(share * len(data))])
        images, error = _until_error(path)
        assert isinstance(error, video.TruncatedVideoError)
        assert str(path) in str(error)
        assert f"{len(images)} frames can be decoded" in str(error)
        # A picture that was cut in two is concealed by some decoders: the others are exact.
        np.testing.assert_array_equal(images[:-1], expected[: len(images) - 1])
        with pytest.raises(video.TruncatedVideoError):
            video.require_whole(path)
        counts.append(len(images))
    assert 0 < counts[0] < counts[1] < counts[2] < counts[3] <= 40  # an AVI ends in its index


@pytest.mark.parametrize("name", ["moov_first.mp4", "fragmented.mp4", "a.avi", "a.mkv"])
@pytest.mark.parametrize("missing", [1, 7, 100])
def test_a_few_missing_bytes_are_noticed(tmp_path, name, missing):
    path = WHOLE[name](tmp_path / name)
    os.truncate(path, path.stat().st_size - missing)
    images, error = _until_error(path)
    assert isinstance(error, video.TruncatedVideoError)
    assert 36 <= len(images) <= 40


@pytest.mark.parametrize("name", ["moov_first.mp4", "fragmented.mp4", "a.avi", "a.mkv"])
def test_a_file_cut_in_its_header_is_an_error(tmp_path, name):
    whole = WHOLE[name](tmp_path / name)
    data = whole.read_bytes()
    for size in (1, 3, 8, 16, 20, 33, 60, 100, 250, 500):
        whole.write_bytes(data[:size])
        with pytest.raises((video.TruncatedVideoError, video.NotAVideoError)):
            _images(whole)


def test_max_frames_of_a_truncated_file(tmp_path):
    path = _moov_first(tmp_path / "a.mp4")
    os.truncate(path, path.stat().st_size * 3 // 4)
    assert len(list(video.frames(path, max_frames=10))) == 10
    with pytest.raises(video.TruncatedVideoError):
        list(video.frames(path, max_frames=39))


def test_a_recording_without_its_index(tmp_path):
    path = _moov_last(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: media.box(data, b"moov")[0]])
    with pytest.raises(video.NotAVideoError, match="has no index \\(moov box\\)"):
        _images(path)
    path.write_bytes(data[: media.box(data, b"moov")[0] - 10])
    with pytest.raises(video.TruncatedVideoError, match="truncated"):
        _images(path)


def test_a_stream_in_which_nothing_decodes(tmp_path):
    path = _moov_last(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    begin, end = media.box(data, b"mdat")
    data[begin + 8 : end] = bytes(end - begin - 8)
    path.write_bytes(data)
    with pytest.raises(video.NoFramesError, match="no frame of its h264 stream"):
        _images(path)
    with pytest.raises(video.NoFramesError):
        video.probe(path)


def _headers_only_mp4(path: Path) -> None:
    data = _fragmented(path).read_bytes()
    path.write_bytes(data[: media.box(data, b"moov")[1]])


def _headers_only_mkv(path: Path) -> None:
    data = media.write(path, muxer={"live": "1"}).read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster


def _headers_only_avi(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        container.start_encoding()


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.mp4", _headers_only_mp4, video.NoFramesError),
        ("a.avi", _headers_only_avi, video.NoFramesError),
        ("a.mkv", _headers_only_mkv, video.NotAVideoError),  # FFmpeg wants a cluster to open it
    ],
)
def test_a_stream_without_frames(tmp_path, name, make, expected):
    path = tmp_path / name
    make(path)
    with pytest.raises(expected):
        _images(path)
    with pytest.raises(expected):
        video.probe(path)


def test_a_container_without_streams(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.add_stream("mpeg4", rate=25)
        container.start_encoding()
    with pytest.raises(video.NoVideoStreamError, match="has no video stream, nor any"):
        _images(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a", "a.mp3", "a.mkv"])
def test_sound_only(tmp_path, name):
    path = media.write_sound(tmp_path / name)
    with pytest.raises(video.NoVideoStreamError, match=r"has no video stream, only audio$"):
        _images(path)


def test_sound_with_a_cover_picture_is_no_video(tmp_path):
    cover = media.coloured(media.texture(48, 64))
    path = media.write_sound(tmp_path / "a.mp3", picture=cover)
    with pytest.raises(
        video.NoVideoStreamError, match=r"has no video stream, only audio, cover picture$"
    ):
        _images(path)


@pytest.mark.parametrize(
    "text",
    ["Just words.\n", "Grüße, 世界\n" * 900, "<html><body>404 Not Found</body></html>", "\n"],
)
def test_a_text_file_is_no_video(tmp_path, text):
    path = tmp_path / "a.mp4"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(video.NotAVideoError, match="is a text file, not a video"):
        _images(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.ts", "list.m3u8", "list.ffconcat"])
@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:1,\nother.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        ";FFMETADATA1\ntitle=x\n",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        "<BaseURL>other.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n",
        "1\n00:00:00,000 --> 00:00:01,000\nwords\n",
    ],
)
def test_scripts_that_name_other_files_are_not_followed(tmp_path, name, script):
    media.write(tmp_path / "other.mp4")
    path = tmp_path / name
    path.write_text(script)
    with pytest.raises((video.NotAVideoError, video.NoVideoStreamError)):
        _images(path)


def test_noise_is_no_video(tmp_path):
    path = tmp_path / "a.avi"
    path.write_bytes(np.random.default_rng(3).bytes(50_000))
    with pytest.raises(video.NotAVideoError, match="is not a video that FFmpeg can read"):
        _images(path)


def test_an_empty_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(video.NotAVideoError, match="is an empty file"):
        _images(path)


def test_a_folder(tmp_path):
    path = tmp_path / "a.mp4"
    path.mkdir()
    with pytest.raises(video.UnreadableFileError, match="is a folder"):
        _images(path)
    video.require_whole(path)


def test_a_named_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    with pytest.raises(video.UnreadableFileError, match="is not a regular file"):
        _images(path)
    video.require_whole(path)


def test_a_missing_file(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(video.UnreadableFileError, match="cannot be read: No such file"):
        _images(path)
    video.require_whole(path)
    path.symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(video.UnreadableFileError, match="cannot be read: No such file"):
        _images(path)


def test_a_file_without_permission(tmp_path, not_root):
    path = media.write(tmp_path / "a.mp4")
    path.chmod(0)
    with (
        not_root(),
        pytest.raises(video.UnreadableFileError, match="cannot be read: Permission denied"),
    ):
        _images(path)
    with not_root():
        video.require_whole(path)


@pytest.mark.parametrize(
    "kind",
    [
        video.UnreadableFileError,
        video.NotAVideoError,
        video.NoVideoStreamError,
        video.NoFramesError,
        video.TruncatedVideoError,
    ],
)
def test_errors_survive_the_way_between_processes(kind):
    error = kind(Path("some where/a.mp4"), "has a reason")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.path, copy.reason, copy.kind, str(copy)) == (
        error.path,
        error.reason,
        error.kind,
        "'some where/a.mp4': has a reason",
    )


@pytest.mark.parametrize("name", ["moov_first.mp4", "a.avi", "a.mkv"])
def test_damaged_files_end_in_frames_or_in_a_typed_error(tmp_path, name):
    whole = WHOLE[name](tmp_path / name)
    data = np.frombuffer(whole.read_bytes(), np.uint8)
    random = np.random.default_rng(20)
    for trial in range(25):
        damaged = data.copy()
        # Every other time the headers alone, where damage is worst.
        reach = len(data) if trial % 2 else min(len(data), 600)
        places = random.integers(0, reach, 12)
        damaged[places] ^= (1 << random.integers(0, 8, 12)).astype(np.uint8)
        whole.write_bytes(damaged.tobytes())
        images, error = _until_error(whole)
        assert images or error
