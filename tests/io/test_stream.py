"""Cameras, network streams, pipes and files at their own pace: what comes, and how it ends."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from threading import Event, Thread

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.io import stream as streams
from flowpipe.io import video
from flowpipe.io.stream import Stream, StreamError, StreamFrame
from tests.helpers import media


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(streams, "_PAUSE", 0.05)


def read(source: object, most: int = 10_000) -> tuple[Stream, list[StreamFrame]]:
    stream = Stream(str(source), 5)
    frames = stream.frames(Event())
    taken = list(itertools.islice(frames, most))
    frames.close()
    return stream, taken


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", "camera"),
        ("/dev/video2", "camera"),
        ("-", "pipe"),
        ("rtsp://camera/1", "network"),
        ("HTTP://host/a.ts", "network"),
        ("/dev/zero", "camera"),
        (__file__, "file"),
    ],
)
def test_the_kind_of_a_source_follows_from_its_name(source, kind):
    assert Stream(source).kind == kind


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("file:///etc/passwd", "has the scheme file; it must be one of"),
        ("concat://a|b", "has the scheme concat"),
        ("no-such.mp4", r"cannot be read \(No such file"),
    ],
)
def test_what_is_no_source_is_said(source, reason):
    with pytest.raises(ParameterError, match=reason):
        Stream(source)


def test_a_file_is_played_at_its_own_pace(tmp_path):
    times = [0.0, 0.04, 0.08, 0.4, 0.44]
    path = media.write(tmp_path / "a.mkv", media.moving(5), times=times)
    begin = time.monotonic()
    stream, frames = read(path)
    assert time.monotonic() - begin >= 0.44
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-6)
    arrived = np.array([frame.arrived for frame in frames])
    np.testing.assert_allclose(arrived - arrived[0], times, atol=1e-6)
    assert [frame.follows for frame in frames] == [False, True, True, True, True]
    expected = [frame.image for frame in video.frames(path)]
    np.testing.assert_array_equal([frame.image for frame in frames], expected)
    assert stream.trouble is None


def test_a_truncated_file_ends(tmp_path):
    path = media.write(tmp_path / "a.mkv", media.moving(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, frames = read(path)
    assert 2 < len(frames) < 20


def test_a_file_whose_times_jump_for_hours_is_not_waited_for(tmp_path):
    times = [0.0, 0.04, 0.08, 7200.0, 7200.04, 7200.08]
    path = media.write(tmp_path / "a.mkv", media.moving(6), times=times)
    _, frames = read(path)
    assert [frame.time for frame in frames[:3]] == pytest.approx(times[:3], abs=1e-6)
    later = [frame.time for frame in frames[3:]]
    assert len(later) == 3
    assert 0.08 < later[0] < 1
    np.testing.assert_allclose(np.diff(later), 0.04, atol=1e-6)


@pytest.mark.parametrize(
    "seed", [6, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 294))]
)  # in 6, damaged times hide the frames that are lost
def test_damaged_packets_are_left_out_and_counted(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = media.write(tmp_path / "a.ts", media.moving(40))
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 2, 188):
        data[at + 20 : at + 60] = rng.bytes(40)
    path.write_bytes(data)
    stream, frames = read(path)
    assert len(frames) >= 20
    assert (len(frames) - 1) / 25 - 1e-6 <= frames[-1].time < 1.7
    assert len(frames) + stream.failed <= 41


def test_frames_keep_the_size_that_they_have(tmp_path):
    small = media.write(tmp_path / "small.ts", media.moving(6, 48, 64))
    large = media.write(tmp_path / "large.ts", media.moving(6, 96, 128))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    _, frames = read(both)
    shapes = [frame.image.shape for frame in frames]
    assert shapes[0] == (48, 64, 3)
    assert shapes[-1] == (96, 128, 3)
    times = [frame.time for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_a_named_pipe_is_waited_for_and_ends_with_its_writer(tmp_path):
    path = media.write(tmp_path / "a.ts", media.moving(20))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        time.sleep(0.3)
        pipe.write_bytes(path.read_bytes())

    writer = Thread(target=write)
    writer.start()
    stream, frames = read(pipe)
    writer.join()
    assert stream.kind == "pipe"
    assert len(frames) == 20
    assert frames[-1].time == pytest.approx(19 / 25, abs=0.02)


def test_a_pipe_without_a_writer_can_be_stopped(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    stop = Event()
    stream = Stream(tmp_path / "pipe")
    reason: list[Exception] = []

    def take() -> None:
        try:
            list(stream.frames(stop))
        except StreamError as error:
            reason.append(error)

    thread = Thread(target=take)
    thread.start()
    time.sleep(0.2)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_camera_that_is_not_there_is_said():
    with pytest.raises(StreamError, match="'97' cannot be opened: No such file or directory"):
        read("97")


def test_what_is_no_video_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(b"no video" * 1000,))
    writer.start()
    with pytest.raises(StreamError, match="cannot be opened: Invalid data"):
        read(tmp_path / "pipe")
    writer.join()


class Server:
    """Answers each connection in turn with some bytes over HTTP, then closes it."""

    def __init__(self, answers: list[bytes], *, length: bool = False) -> None:
        self._answers, self._length = answers, length
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/live.ts"
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            connection, _ = self._socket.accept()
            with connection:
                connection.recv(65536)
                length = f"Content-Length: {len(answer)}\r\n" if self._length else ""
                head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n{length}"
                connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + answer)
        self._socket.close()


@pytest.fixture
def recording(tmp_path) -> bytes:
    return media.write(tmp_path / "a.ts", media.moving(20)).read_bytes()


def test_a_network_stream_that_breaks_off_is_opened_again(recording):
    server = Server([recording, recording])
    stream = Stream(server.url, 5)
    stop = Event()
    frames = stream.frames(stop)
    taken = list(itertools.islice(frames, 40))
    assert [number for number, frame in enumerate(taken) if not frame.follows] == [0, 20]
    times = [frame.time for frame in taken]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))

    def told() -> Iterator[str]:
        while True:
            yield stream.trouble or ""

    Thread(target=list, args=(frames,), daemon=True).start()
    # It is not there any more: that is tried until the reader is told to stop.
    end = time.monotonic() + 5
    while "refused" not in next(told()) and time.monotonic() < end:
        time.sleep(0.02)
    assert "refused" in (stream.trouble or "")
    assert time.monotonic() - stream.heard > 0.04
    stop.set()


def test_a_server_that_is_not_there_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StreamError, match="cannot be opened: Connection refused"):
        read(f"http://127.0.0.1:{port}/live.ts")


def test_a_playlist_of_a_network_reads_no_local_file(tmp_path):
    path = media.write(tmp_path / "secret.ts", media.moving(5))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"
    server = Server([playlist.encode()] * 3, length=True)
    with pytest.raises(StreamError):
        read(server.url.replace("live.ts", "list.m3u8"), 1)


def test_times_that_jump_are_not_believed():
    clock = streams._Clock()
    clock.restart(25)
    shown = [100.0, 100.04, 90000.0, 90000.04, 3.0, None, 3.04]
    times = [clock.time(each, number / 25) for number, each in enumerate(shown)]
    assert times == pytest.approx([number / 25 for number in range(7)])
    clock.restart(25)
    assert clock.time(0.0, 7.0) == pytest.approx(6 / 25 + 7.0 - 6 / 25)
