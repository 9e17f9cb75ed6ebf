"""The ways in which a file is no usable video, each with its own exception."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from flowpipe.errors import FlowpipeError


class VideoError(FlowpipeError):
    """A file has no usable video. ``kind`` is its stable name in reports."""

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


class DamagedVideoError(VideoError):
    """Frames in the middle of a video are lost, or were invented to conceal damage."""

    kind = "damaged"
