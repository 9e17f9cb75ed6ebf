"""Frames in: any file that FFmpeg reads, as a stream of BGR images, with typed errors.

Decoding goes through PyAV, whose wheels carry FFmpeg. The images are those of
``cv2.VideoCapture``, bit for bit where both carry the same FFmpeg: the same demuxer, decoders and
colour conversion, and rotation metadata applied. (The FFmpeg 5 in OpenCV 4.12 rounds MPEG-4 in
another way, and sites the chroma of 10-bit and odd-sized pictures differently.)

What differs is how faults end: OpenCV returns "no more frames" for the end of a clip, a cut-off
download and a renamed text file alike; here each has its own exception.

A file is *truncated* when its container announces more bytes, or more packets, than there are
(RIFF, ISO base media and Matroska headers all say how long they are). Frame counts cannot tell:
MPEG-4 streams with packed B-frames hold more packets than pictures in perfect health.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError

# Demuxers that read other files, or draw text as pictures: none of these is a video file.
_NOT_VIDEO = {"concat", "dash", "ffmetadata", "hls", "image2", "imf", "sdp", "tty"}
_NO_INDEX = "has no index (moov box): the recording was cut off or never finished"
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = 0x18538067


class VideoError(FlowpipeError):
    """A file gave no usable video. ``kind`` is a stable word for reports."""

    kind: ClassVar[str] = "video"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class UnreadableFileError(VideoError):
    """The file cannot be opened: missing, a directory, no permission."""

    kind = "unreadable"


class NotAVideoError(VideoError):
    """No demuxer knows the file's content."""

    kind = "not-a-video"


class NoVideoStreamError(VideoError):
    """The file holds sound or subtitles only."""

    kind = "no-video-stream"


class NoFramesError(VideoError):
    """There is a video stream, and nothing in it can be decoded."""

    kind = "no-frames"


class TruncatedVideoError(VideoError):
    """The file ends before its container says it does."""

    kind = "truncated"


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file's headers and first frame say.

    Attributes
    ----------
    width, height
        In pixels, as displayed (after rotation).
    fps
        Mean frames a second, 0 where the container does not say.
    declared_frames
        Number of frames according to the container, None where it does not say. Not to be
        trusted for anything but a progress bar.
    codec, pixel_format
        FFmpeg's names.
    rotation
        Degrees, counter-clockwise, that the frames were turned by.
    """

    path: Path
    width: int
    height: int
    fps: float
    declared_frames: int | None
    codec: str
    pixel_format: str
    rotation: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture.

    Attributes
    ----------
    image
        (H, W, 3) uint8, BGR.
    time
        Presentation time in seconds, None where the file has none.
    """

    image: NDArray[np.uint8]
    time: float | None


def frames(
    path: str | os.PathLike[str],
    *,
    max_frames: int | None = None,
    only: Collection[int] | None = None,
) -> Iterator[Frame]:
    """Decode a video, one frame at a time.

    Packets that do not decode are passed over, as players and OpenCV do. All frames have the
    size of the first; a stream that changes its size is scaled to it.

    Parameters
    ----------
    path
        The file. Only local files are read, whatever it is called or refers to.
    max_frames
        Stop after so many frames. A truncated file is then only an error if it ends sooner.
    only
        Yield the frames of these numbers, counted from 0, and spare the colours of the others.

    Yields
    ------
    Frame
        In presentation order.

    Raises
    ------
    UnreadableFileError, NotAVideoError, NoVideoStreamError, NoFramesError
        Before the first frame.
    TruncatedVideoError
        After the last frame that could be decoded.
    """
    path = Path(path)
    count = 0
    size: tuple[int, int] | None = None
    with closing(_open(path)) as container:
        stream = _video_stream(container, path)
        decoder = _Decoder(container, stream)
        for picture in decoder:
            if count == max_frames:
                return
            size = size or (picture.width, picture.height)
            count += 1
            if only is not None and count - 1 not in only:
                continue
            coloured = picture.reformat(*size, "bgr24", interpolation=Interpolation.BICUBIC)
            image = np.asarray(coloured.to_ndarray(), np.uint8)
            yield Frame(_upright(image, picture.rotation), picture.time)
        declared, codec = stream.frames, stream.codec.name
    if count == max_frames:
        return
    _raise_if_short(path, f"{count} frames can be decoded")
    if decoder.cut or (_announced_bytes(path) is None and decoder.packets < declared):
        of = f" of {declared}" if declared else ""
        raise TruncatedVideoError(
            path,
            f"truncated: reading stopped after {decoder.packets}{of} packets, "
            f"{count} frames can be decoded",
        )
    if count == 0:
        raise NoFramesError(path, f"no frame of its {codec} stream can be decoded")


def read_video(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    *,
    max_frames: int | None = None,
) -> NDArray[np.uint8]:
    """Read the frames of a video into one array.

    Parameters
    ----------
    path
        The file.
    size
        (width, height) in pixels to scale the frames to; by default their own.
    max_frames
        Read at most this many frames.

    Returns
    -------
    (T, H, W, 3) uint8
        RGB frames in presentation order, rotation metadata applied.

    Raises
    ------
    VideoError
        The file is not a video, is truncated, or has no frame that can be decoded.

    Examples
    --------
    >>> import flowpipe
    >>> frames = flowpipe.read_video("clip.avi", size=(340, 256))
    >>> frames.shape, frames.dtype
    ((20, 256, 340, 3), dtype('uint8'))
    """
    images = []
    for frame in frames(path, max_frames=max_frames):
        image = frame.image[..., ::-1]
        if size is not None and size != (image.shape[1], image.shape[0]):
            image = np.asarray(cv2.resize(frame.image, size))[..., ::-1]
        images.append(image)
    return np.stack(images)


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read a video's headers and decode its first frame.

    Raises
    ------
    VideoError
        As :func:`frames` does.
    """
    path = Path(path)
    first = next(iter(frames(path, max_frames=1)))
    height, width = first.image.shape[:2]
    with closing(_open(path)) as container:
        stream = _video_stream(container, path)
        picture = next(iter(_Decoder(container, stream)))
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=float(stream.average_rate or 0),
            declared_frames=stream.frames or None,
            codec=stream.codec.name,
            pixel_format=picture.format.name,
            rotation=picture.rotation,
        )


def _open(path: Path) -> InputContainer:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # a pipe would be waited for
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UnreadableFileError(path, f"is {what}")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be read: {error.strerror or error}") from None
    if empty:
        raise NotAVideoError(path, "is an empty file")
    try:
        # "file:" keeps names such as "a:b.mp4" from being taken for a protocol.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, UnicodeError) as error:
        _raise_if_short(path, "too few to find the frames")
        raise NotAVideoError(path, _why_unopened(path, error)) from None
    if _NOT_VIDEO & set(container.format.name.split(",")):
        container.close()
        raise NotAVideoError(path, f"is not a video but a {container.format.long_name}")
    return container


def require_whole(path: str | os.PathLike[str]) -> None:
    """Raise a TruncatedVideoError if a file is shorter than its container says.

    Reads a few header bytes, so that no work is spent on a video whose last frames are missing.
    A missing or unreadable file is left to :func:`frames`.
    """
    path = Path(path)
    with suppress(OSError):
        if path.is_file():
            _raise_if_short(path, "its last frames are missing")


def _raise_if_short(path: Path, rest: str) -> None:
    announced, actual = _announced_bytes(path), path.stat().st_size
    if announced is not None and announced > actual:
        raise TruncatedVideoError(
            path, f"truncated: {actual} of {announced} bytes are there, {rest}"
        )


def _why_unopened(path: Path, error: Exception) -> str:
    if _lacks_index(path):
        return _NO_INDEX
    with path.open("rb") as file:
        head = file.read(4096)
    if _is_text(head):
        return "is a text file, not a video"
    detail = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
    return f"is not a video that FFmpeg can read: {detail}"


def _lacks_index(path: Path) -> bool:
    boxes = _iso_boxes(path)
    return "moov" not in boxes and not boxes.keys().isdisjoint(("ftyp", "mdat"))


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode()
    return all(char.isprintable() or char in "\r\n\t\f" for char in text)


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    # A cover picture attached to a sound file is a video stream of one frame to FFmpeg.
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & stream.disposition.attached_pic
    ]
    if not streams:
        _raise_if_short(path, "too few to find the frames")
        if _lacks_index(path):
            raise NotAVideoError(path, _NO_INDEX)
        kinds = sorted({stream.type for stream in container.streams})
        only = ", ".join(kinds).replace("video", "cover picture")
        raise NoVideoStreamError(
            path, f"has no video stream, {f'only {only}' if only else 'nor any'}"
        )
    stream = streams[0]
    if stream.codec_context is None:
        _raise_if_short(path, "too few to find the frames")
        raise NoFramesError(path, "this FFmpeg has no decoder for its video stream")
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


class _Decoder:
    """Iterates over the decoded pictures of a stream, counting packets on the way."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self.packets = 0
        self.cut = False

    def __iter__(self) -> Iterator[VideoFrame]:
        demuxer = self._container.demux(self._stream)
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                return
            except av.error.FFmpegError:
                # The decoder still holds the pictures that were waiting for later ones.
                self.cut = True
                yield from self._stream.codec_context.decode(None)
                return
            self.packets += bool(packet.size)
            with suppress(av.error.FFmpegError):
                yield from packet.decode()


def _upright(image: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    quarter_turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _announced_bytes(path: Path) -> int | None:
    """How long the container says that the file is; None where it does not say."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _riff_end(file)
        if head[:4] == _EBML_MAGIC:
            return _matroska_end(file)
    boxes = _iso_boxes(path)
    return max(boxes.values(), default=None) if {"ftyp", "moov"} & set(boxes) else None


def _riff_end(file: BinaryIO) -> int | None:
    """End of the last RIFF chunk: large AVI files are a chain of them."""
    position, end = 0, None
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return end
        size = int.from_bytes(head[4:], "little")
        if size in (0, 0xFFFFFFFF):
            return end
        # Some writers leave out the last pad byte, so an odd chunk may end the file as it is.
        end = position + 8 + size
        position = end + size % 2


def _matroska_end(file: BinaryIO) -> int | None:
    def number(keep_marker: bool) -> int | None:
        first = file.read(1)
        if not first or not first[0]:
            return None
        length = 9 - first[0].bit_length()
        rest = file.read(length - 1)
        value = int.from_bytes(first + rest, "big")
        if keep_marker:
            return value
        value &= (1 << 7 * length) - 1
        return None if value == (1 << 7 * length) - 1 else value  # all ones: unknown (live)

    file.seek(len(_EBML_MAGIC))
    header = number(keep_marker=False)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if number(keep_marker=True) != _MATROSKA_SEGMENT:
        return None
    size = number(keep_marker=False)
    return None if size is None else file.tell() + size


def _iso_boxes(path: Path) -> dict[str, int]:
    """End of each top-level box of an ISO base media file (mp4, mov, 3gp) by its type."""
    ends: dict[str, int] = {}
    total = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position < total:
            file.seek(position)
            head = file.read(16)
            kind = head[4:8]
            if len(kind) < 4 or not kind.isalnum():
                break
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            elif size == 0:
                size = total - position
            if size < 8:
                break
            position += size
            ends[kind.decode("ascii")] = position
    return ends
