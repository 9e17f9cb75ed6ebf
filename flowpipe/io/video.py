"""Read videos as streams of BGR frames, with a typed error for each way in which that fails.

Decoding goes through PyAV, whose wheels carry FFmpeg. The frames are those of ``cv2.VideoCapture``,
bit for bit where both carry the same FFmpeg, except that the whole display matrix is applied,
mirrors included. (The FFmpeg 5 in OpenCV 4.12 rounds MPEG-4 differently, and sites the chroma of
10-bit and odd-sized frames differently.) OpenCV ends in the same way at the end of a clip, of a cut
download and of a renamed text file; here each is told apart.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowpipe.io.completeness import (
    archive_format,
    is_text,
    lacks_index,
    needed_bytes,
    raise_if_short,
    require_whole,
)
from flowpipe.io.decoder import Decoder, DecodingReport
from flowpipe.io.image_folder import frame_files, images, is_folder, missing_numbers
from flowpipe.io.orientation import UprightImages, orientation
from flowpipe.io.video_errors import (
    DamagedVideoError,
    NoFramesError,
    NotAVideoError,
    NoVideoStreamError,
    TruncatedVideoError,
    UnreadableFileError,
    VideoError,
)

__all__ = [
    "DamagedVideoError",
    "DecodingReport",
    "Frame",
    "NoFramesError",
    "NoVideoStreamError",
    "NotAVideoError",
    "TruncatedVideoError",
    "UnreadableFileError",
    "VideoError",
    "VideoInfo",
    "frames",
    "probe",
    "read_video",
    "require_whole",
]

# Demuxers that read other files, or draw text as pictures: none of these is a video file.
_NOT_VIDEO = {"concat", "dash", "ffmetadata", "hls", "image2", "imf", "sdp", "tty"}
_NO_INDEX = "has no index (moov box): the recording was cut off or never finished"


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a file's headers and first frame say.

    Attributes
    ----------
    width, height
        In pixels, as displayed.
    fps
        Mean number of frames per second, 0 where the container does not say.
    declared_frames
        Number of frames according to the container, None where it does not say. Good for a progress
        bar only.
    codec, pixel_format
        FFmpeg's names.
    rotation
        Degrees, counter-clockwise, by which the stored frames are turned.
    mirrored
        Whether left and right of the stored frames change places before that.
    """

    path: Path
    width: int
    height: int
    fps: float
    declared_frames: int | None
    codec: str
    pixel_format: str
    rotation: int
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

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
    keep_damaged: bool = False,
    report: DecodingReport | None = None,
) -> Iterator[Frame]:
    """Decode a video, one frame at a time.

    All frames have the size of the first; a stream that changes its size is scaled to it. Of
    several video streams, the default one is read, or else the largest.

    Parameters
    ----------
    path
        The file, or a folder of images. Only local files are read, whatever it is called or refers
        to.
    max_frames
        Stop after this many frames. A truncated file is then only an error if it ends sooner.
    only
        Yield the frames of these numbers, counted from 0, and convert the colours of no others.
    keep_damaged
        Raise no error for damage; `report` has it.
    report
        Filled with what is to be known of the video while it is decoded.

    Yields
    ------
    Frame
        In presentation order.

    Raises
    ------
    UnreadableFileError, NotAVideoError, NoVideoStreamError, NoFramesError
        Before the first frame.
    TruncatedVideoError, DamagedVideoError
        After the last frame that can be decoded.
    FormatError
        An image of a folder cannot be decoded, or has another size than the first.
    """
    path = Path(path)
    report = DecodingReport() if report is None else report
    if is_folder(path):
        yield from _folder_frames(path, max_frames, only, report)
        return
    count = 0
    size: tuple[int, int] | None = None
    upright = UprightImages()
    with closing(open_file(path)) as container:
        stream = pick_stream(container, path, report)
        decoder = Decoder(container, stream, report)
        for picture, time in decoder if max_frames != 0 else ():
            size = size or (picture.width, picture.height)
            if only is None or count in only:
                try:
                    image = upright(picture, *size)
                except av.error.FFmpegError as error:  # a damaged header changed the pixel format
                    reason = f"frame {count} cannot be converted to colours ({error.strerror})"
                    raise DamagedVideoError(path, reason) from None
                yield Frame(image, time)
            count += 1
            if count == max_frames:  # before the decoder looks at later packets
                break
        decoder.count_gaps()
        declared, codec = stream.frames, stream.codec.name
    if count != max_frames:
        raise_if_short(path, f"{count} frames can be decoded")
        if decoder.cut or (needed_bytes(path) is None and decoder.packets < declared):
            of = f" of {declared}" if declared else ""
            raise TruncatedVideoError(
                path,
                f"truncated: reading stopped after {decoder.packets}{of} packets, "
                f"{count} frames can be decoded",
            )
        if count == 0:
            raise NoFramesError(path, f"no frame of its {codec} stream can be decoded")
    if report.damage and not keep_damaged:
        raise DamagedVideoError(path, f"is {report.damage}")


def _folder_frames(
    folder: Path, max_frames: int | None, only: Collection[int] | None, report: DecodingReport
) -> Iterator[Frame]:
    files = frame_files(folder)[:max_frames]
    if not files and max_frames != 0:
        raise UnreadableFileError(folder, "is a folder that holds no images")
    report.missing_frames = missing_numbers(files)
    if only is not None:
        files = [file for number, file in enumerate(files) if number in only]
    for image in images(files):
        yield Frame(image, None)


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
        The file, or a folder of images.
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
        The file is not a video, is truncated or damaged, or has no frame that can be decoded.

    Examples
    --------
    >>> import flowpipe
    >>> import cv2, numpy as np, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in range(3):
    ...         image = np.full((48, 64, 3), number, np.uint8)
    ...         _ = cv2.imwrite(str(pathlib.Path(folder, f"img_{number:05d}.png")), image)
    ...     flowpipe.read_video(folder).shape
    (3, 48, 64, 3)
    """
    read = []
    for frame in frames(path, max_frames=max_frames):
        image = frame.image[..., ::-1]
        if size is not None and size != (image.shape[1], image.shape[0]):
            image = np.asarray(cv2.resize(frame.image, size))[..., ::-1]
        read.append(image)
    return np.stack(read)


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read a video's headers and decode its first frame.

    Raises
    ------
    VideoError
        As :func:`frames` does.
    """
    path = Path(path)
    first = next(iter(frames(path, max_frames=1, keep_damaged=True)))
    height, width = first.image.shape[:2]
    if is_folder(path):
        files = frame_files(path)
        codec = files[0].suffix.lower().removeprefix(".")
        return VideoInfo(path, width, height, 0, len(files), codec, "bgr24", 0)
    with closing(open_file(path)) as container:
        report = DecodingReport()
        stream = pick_stream(container, path, report)
        picture, _ = next(iter(Decoder(container, stream, report)))
        turned = orientation(picture)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=float(stream.average_rate or 0),
            declared_frames=stream.frames or None,
            codec=stream.codec.name,
            pixel_format=picture.format.name,
            rotation=turned.rotation,
            mirrored=turned.mirrored,
        )


def open_file(path: Path) -> InputContainer:
    """Open a local video, and no other file that it refers to.

    Raises
    ------
    UnreadableFileError, NotAVideoError
        It is not a video.
    """
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
    if archive := archive_format(path):  # FFmpeg would look for videos inside
        raise NotAVideoError(path, f"is an archive ({archive}); unpack it")
    try:
        # "file:" keeps names such as "a:b.mp4" from being taken for a protocol.
        container = av.open(
            f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, UnicodeError) as error:
        raise_if_short(path, "too few to find the frames")
        raise NotAVideoError(path, _why_unopened(path, error)) from None
    if _NOT_VIDEO & set(container.format.name.split(",")):
        container.close()
        raise NotAVideoError(path, f"is not a video but a {container.format.long_name}")
    return container


def _why_unopened(path: Path, error: Exception) -> str:
    if lacks_index(path):
        return _NO_INDEX
    with path.open("rb") as file:
        head = file.read(4096)
    if is_text(head):
        return "is a text file, not a video"
    detail = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
    return f"is not a video that FFmpeg can read: {detail}"


def pick_stream(container: InputContainer, path: Path, report: DecodingReport) -> VideoStream:
    """Return the video stream to read, which is then decoded in one thread.

    Raises
    ------
    NotAVideoError, NoVideoStreamError, NoFramesError
        There is none.
    """
    # A cover picture attached to a sound file is a video stream of one frame to FFmpeg.
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & stream.disposition.attached_pic
    ]
    if not streams:
        raise_if_short(path, "too few to find the frames")
        if lacks_index(path):
            raise NotAVideoError(path, _NO_INDEX)
        kinds = sorted({stream.type for stream in container.streams})
        only = ", ".join(kinds).replace("video", "cover picture")
        raise NoVideoStreamError(
            path, f"has no video stream, {f'only {only}' if only else 'nor any'}"
        )
    stream = max(streams, key=_rank)
    context = stream.codec_context
    if context is None:
        raise_if_short(path, "too few to find the frames")
        raise NoFramesError(path, "this FFmpeg has no decoder for its video stream")
    context.thread_type = "NONE"
    context.thread_count = 1
    if len(streams) > 1:
        report.notes.append(
            f"has {len(streams)} video streams; stream {stream.index} is read "
            f"({context.width}x{context.height}, {stream.codec.name})"
        )
    if ratio := stream.sample_aspect_ratio:
        report.sample_aspect_ratio = ratio
    return stream


def _rank(stream: VideoStream) -> tuple[bool, bool, bool, int, int, int]:
    """Sort key that is highest for the stream to read: a film, by default or by size."""
    context, disposition = stream.codec_context, stream.disposition
    still = disposition & (disposition.still_image | disposition.timed_thumbnails)
    return (
        context is not None,
        stream.frames != 1 and not still,
        bool(disposition & disposition.default),
        0 if context is None else context.width * context.height,
        stream.frames,
        -stream.index,
    )
