"""Read a camera, a network stream, a pipe, or a file at its own pace, frame by frame as they come.

Files that are processed as a whole are read by :mod:`.video`, which fails on damage. A live source
is never whole: packets that do not decode are counted and left out, and the next frames are read.

A network stream that breaks off is opened again until the reader is told to stop. Whoever reads
decides how long it waits: ``heard`` is the time of the last frame, ``trouble`` what FFmpeg says of
the latest attempt.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal, Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.io.decoder import DecodingReport
from flowpipe.io.orientation import UprightImages
from flowpipe.io.pipe import PipeReader
from flowpipe.io.video import open_file, pick_stream

Kind = Literal["camera", "network", "pipe", "file"]

PROTOCOLS = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "http", "https")
"""Schemes of network sources."""
# What these use, and none that reads a local file: a playlist may refer to anything.
_WHITELIST = ",".join((*PROTOCOLS, "tls", "crypto", "data", "httpproxy"))
_LONGEST_STEP = 10.0
"""Seconds from frame to frame; a larger step of the times is a fault in them, also in a file."""
_PAUSE = 0.5
"""Seconds between attempts to open a network stream again."""


class StreamError(FlowpipeError):
    """A live source cannot be opened, or breaks off."""

    kind: ClassVar[str] = "video"


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """One frame of a live source.

    Attributes
    ----------
    image
        (H, W, 3) uint8, BGR, upright.
    time
        Seconds of the source since its first frame; each is later than the one before.
    arrived
        When it was decoded, or, of a file at its own pace, when it was due: ``time.monotonic()``.
    follows
        Whether it is the next frame of the same source as the one before; False for the first
        frame, and after a network stream was opened again.
    """

    image: NDArray[np.uint8]
    time: float
    arrived: float
    follows: bool


class FrameSource(Protocol):
    """Gives frames as they come, to one thread.

    Attributes
    ----------
    name
        For messages.
    rate
        Mean number of frames per second, 0 where it is not known.
    heard
        When the source last gave a sign of life: ``time.monotonic()``.
    trouble
        Why it gives nothing at present, None if there is no known reason.
    failed
        Packets so far that could not be decoded.
    """

    name: str
    rate: float
    heard: float
    trouble: str | None
    failed: int

    def frames(self, stop: Event) -> Iterator[StreamFrame]:
        """Yield frames until the source ends, or soon after `stop` is set."""


class Stream:
    """A live source that FFmpeg opens; a :class:`FrameSource`.

    Parameters
    ----------
    source
        A camera (``0`` or ``/dev/video0``), a URL of one of :data:`PROTOCOLS`, a named pipe or
        ``-`` (standard input), or a file, which is played at its own pace. So is a recording that
        comes over a network.
    timeout
        Seconds after which opening a network stream fails; reading fails after half of it, so that
        there is time to open it again.

    Raises
    ------
    ParameterError
        It is none of these.
    """

    def __init__(self, source: str | os.PathLike[str], timeout: float = 10.0) -> None:
        self.name = os.fspath(source)
        self.kind = _kind(self.name)
        self.rate = 0.0
        self.heard = time.monotonic()
        self.trouble: str | None = None
        self.failed = 0
        self._timeout = timeout
        self._given = False

    def frames(self, stop: Event) -> Iterator[StreamFrame]:
        """Yield frames until the source ends, or soon after `stop` is set.

        Raises
        ------
        StreamError, VideoError
            It cannot be opened, is no video, or is a camera that breaks off.
        """
        self.heard = time.monotonic()
        clock = _Clock()
        while not stop.is_set():
            try:
                with self._open(stop) as container:
                    self.trouble = None
                    stream = self._stream(container)
                    paced = self._is_recording(container)
                    self.rate = float(stream.average_rate or stream.guessed_rate or 0)
                    clock.restart(self.rate)
                    yield from self._decoded(container, stream, clock, stop, paced=paced)
                if stop.is_set() or paced or self.kind == "pipe":
                    return
                self.trouble = "it ended"
                if self.kind == "camera":
                    raise StreamError(f"{self.name!r} gives no more frames")
            except (av.error.FFmpegError, OSError) as error:
                self.trouble = getattr(error, "strerror", None) or str(error)
                if not self._given:
                    raise StreamError(f"{self.name!r} cannot be opened: {self.trouble}") from None
                if self.kind == "camera":
                    raise StreamError(f"{self.name!r} broke off: {self.trouble}") from None
                if self.kind != "network":
                    return
            stop.wait(_PAUSE)

    @contextmanager
    def _open(self, stop: Event) -> Iterator[InputContainer]:
        match self.kind:
            case "camera":
                device = f"/dev/video{self.name}" if self.name.isdecimal() else self.name
                with av.open(device, "r", format="v4l2") as container:
                    yield container
            case "network":
                with av.open(
                    self.name,
                    "r",
                    options={"protocol_whitelist": _WHITELIST, "rtsp_flags": "prefer_tcp"},
                    timeout=(self._timeout, self._timeout / 2),
                    metadata_errors="replace",
                ) as container:
                    yield container
            case "pipe":
                with (
                    closing(PipeReader(self.name, stop)) as pipe,
                    av.open(pipe, "r", metadata_errors="replace") as container,
                ):
                    yield container
            case "file":
                with closing(open_file(Path(self.name))) as container:
                    yield container

    def _stream(self, container: InputContainer) -> VideoStream:
        if self.kind == "file":
            return pick_stream(container, Path(self.name), DecodingReport())
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise StreamError(f"{self.name!r} has no video that this FFmpeg decodes")
        # Threads that decode a frame each would give it out as many frames later.
        stream.codec_context.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        return stream

    def _is_recording(self, container: InputContainer) -> bool:
        """Return whether it has an end, and comes as fast as it is read."""
        return self.kind == "file" or (self.kind == "network" and container.duration is not None)

    def _decoded(
        self,
        container: InputContainer,
        stream: VideoStream,
        clock: _Clock,
        stop: Event,
        *,
        paced: bool,
    ) -> Iterator[StreamFrame]:
        upright, follows, start = UprightImages(), False, 0.0
        base = float(stream.time_base or 0)
        for packet in container.demux(stream):
            if stop.is_set():
                return
            try:
                pictures = packet.decode()
            except av.error.FFmpegError:
                self.failed += follows  # before the first keyframe nothing can be decoded
                continue
            for picture in pictures:
                try:
                    image = upright(picture, picture.width, picture.height)
                except av.error.FFmpegError:  # a damaged header changed the pixel format
                    self.failed += 1
                    continue
                now = time.monotonic()
                at = clock.time(None if picture.pts is None else picture.pts * base, now)
                if paced:
                    start = start if follows else now - at
                    self._wait(start + at, stop)
                    now = start + at
                self.heard = time.monotonic()
                self._given = True
                yield StreamFrame(image, at, now, follows)
                follows = True

    def _wait(self, due: float, stop: Event) -> None:
        while (left := due - time.monotonic()) > 0 and not stop.wait(min(left, _PAUSE)):
            self.heard = time.monotonic()


class _Clock:
    """Seconds since the first frame, from presentation times where they are usable."""

    def __init__(self) -> None:
        self._now = 0.0
        self._arrived: float | None = None
        self._shown: float | None = None
        self._period = 0.0
        self._restarted = True

    def restart(self, rate: float) -> None:
        """Begin another series of presentation times, with `rate` frames per second, 0: unknown."""
        self._period = 1 / rate if rate else 0.0
        self._shown, self._restarted = None, True

    def time(self, shown: float | None, arrived: float) -> float:
        """Return the time of the next frame, by its presentation time and that of its arrival."""
        if self._arrived is not None:
            step = 0.0 if shown is None or self._shown is None else shown - self._shown
            if not 0 < step <= _LONGEST_STEP:
                waited = arrived - self._arrived
                step = waited if self._restarted or not self._period else self._period
            self._now += max(step, 1e-6)
        self._restarted = False
        self._arrived = arrived
        self._shown = self._shown if shown is None else shown
        return self._now


def _kind(name: str) -> Kind:
    if name == "-":
        return "pipe"
    if re.fullmatch(r"\d+|/dev/video\d+", name):
        return "camera"
    if scheme := re.match(r"([a-z][a-z0-9+.-]*)://", name, re.IGNORECASE):
        if scheme[1].lower() in PROTOCOLS:
            return "network"
        raise ParameterError(f"{name!r} has the scheme {scheme[1]}; it must be one of {PROTOCOLS}")
    try:
        mode = Path(name).stat().st_mode
    except OSError as error:
        raise ParameterError(
            f"{name!r} cannot be read ({error.strerror}); a live source is a camera (0 or "
            "/dev/video0), a URL, a pipe (- for standard input), or a video file"
        ) from None
    if stat.S_ISFIFO(mode):
        return "pipe"
    if stat.S_ISCHR(mode):
        return "camera"
    return "file"
