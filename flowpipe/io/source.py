"""A clip's video as the stages take it in: frames at one size, and what is recorded of the source.

Every output says which video it was made from. :class:`VideoSource` gathers that while it decodes;
:func:`source_status` tells later whether the video is still the one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, check_range
from flowpipe.io import video
from flowpipe.runner import json_files, provenance

Size = tuple[int, int] | int | None
"""(width, height) in pixels; or the length of the short side, the other side following; or None
for the video's own size."""

TRUNCATED = "truncated: the video ends before its container says it does"


class NameTakenError(FlowpipeError):
    """The output of the same name was made from another video."""

    kind: ClassVar[str] = "name-taken"


class ChangedVideoError(FlowpipeError):
    """A video was written to while it was read."""

    kind: ClassVar[str] = "changed"


class VideoSource:
    """Iterates over a video's frames at one size, and remembers what is recorded of them.

    Parameters
    ----------
    path
        The video.
    size
        Of the frames.
    max_frames
        Stop after so many.
    keep_truncated
        Take what can be decoded of a truncated video for the whole; else it raises a
        TruncatedVideoError, before any frame where the container tells.
    keep_damaged
        Take frames that are corrupt or follow damage like any other; else a video with damage
        raises a DamagedVideoError after its last frame.

    Attributes
    ----------
    times
        Presentation time of each frame so far, in seconds.
    truncated
        The video ended before its container says it does.
    report
        What is to be known of the video beside its frames.
    """

    def __init__(
        self,
        path: Path,
        size: Size = None,
        *,
        max_frames: int | None = None,
        keep_truncated: bool = False,
        keep_damaged: bool = False,
    ) -> None:
        self.path = path
        self.times: list[float | None] = []
        self.truncated = False
        self._size = size
        self._max_frames = max_frames
        self.report = video.DecodingReport()
        self._keep_truncated = keep_truncated
        self._keep_damaged = keep_damaged
        self._before: json_files.Json = {}
        self._own_size = (0, 0)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Return (H, W, 3) uint8 BGR frames."""
        if not self._keep_truncated and self._max_frames is None:
            video.require_whole(self.path)
        try:
            for frame in video.frames(
                self.path,
                max_frames=self._max_frames,
                keep_damaged=self._keep_damaged,
                report=self.report,
            ):
                if not self.times:
                    self._before = provenance.fingerprint(self.path)
                    self._own_size = frame.image.shape[1], frame.image.shape[0]
                self.times.append(None if frame.time is None else round(frame.time, 6))
                yield resized(frame.image, self._size)
        except video.TruncatedVideoError:
            if not self._keep_truncated:
                raise
            self.truncated = True

    def source(self, root: Path) -> json_files.Json:
        """Return what is recorded of the video, once it is read.

        Parameters
        ----------
        root
            The output folder; the path is given from there.

        Raises
        ------
        ChangedVideoError
            It is not what it was at the first frame.
        """
        thorough = provenance.sha256(self.path)
        if provenance.fingerprint(self.path) != self._before:
            raise ChangedVideoError(f"{str(self.path)!r} changed while it was read; run again")
        width, height = self._own_size
        return {
            "path": _relative(self.path, root),
            **self._before,
            "sha256": thorough,
            "width": width,
            "height": height,
            **self.report.record(),
        }

    def warning(self) -> str | None:
        """Return what the user should know of the video, once it is read; None for nothing."""
        return recorded_warning(self.report.record(), self.truncated)

    def fps(self) -> float:
        """Mean frames a second, from the presentation times; 0 where there are none."""
        first, last = self.times[0], self.times[-1]
        if first is None or last is None or last <= first:
            return 0.0
        return round((len(self.times) - 1) / (last - first), 3)


def source_status(
    recorded: Mapping[str, Any], path: Path, root: Path, clip: str
) -> Literal["same", "changed", "gone"]:
    """Return whether a clip's video is still the one that its output was made from.

    Parameters
    ----------
    recorded
        What :meth:`VideoSource.source` gave.
    path
        The clip's video now.
    root
        The output folder.
    clip
        Name of the clip.

    Raises
    ------
    NameTakenError
        The output was made from another video; see :func:`check_replaceable`.
    """
    if not path.exists():
        return "gone"
    if all(recorded.get(key) == value for key, value in provenance.fingerprint(path).items()):
        return "same"
    check_replaceable(recorded, _relative(path, root), root, clip)
    return "changed"


def recorded_warning(recorded: Mapping[str, Any], truncated: bool) -> str | None:
    """Return what the user should know of the video of an output; None for nothing.

    Parameters
    ----------
    recorded
        The record of the source, from :meth:`VideoSource.source`.
    truncated
        Whether the video was truncated.
    """
    notes = recorded.get("notes")
    messages = [TRUNCATED] * truncated
    messages += map(str, notes if isinstance(notes, list) else [])
    return "; ".join(messages) or None


def check_replaceable(recorded: Mapping[str, Any], path: str, root: Path, clip: str) -> None:
    """Refuse to replace an output that was made from another file than the one given now.

    Parameters
    ----------
    recorded
        The record of the source, from :meth:`VideoSource.source`.
    path
        The source now, relative to `root`.
    root
        The output folder.
    clip
        Name of the clip.

    Raises
    ------
    NameTakenError
        The output was made from another file, whether that still exists or not.
    """
    before = str(recorded.get("path"))
    if before != path and (root / before).resolve() != (root / path).resolve():
        raise NameTakenError(
            f"{clip!r} in {str(root)!r} was made from {before!r}, not from {path!r}; use another "
            "--out, give the folder that holds both, or replace the output with --overwrite"
        )


def check_size(size: Size) -> None:
    """Raise a ParameterError unless the sides are 16 to 16384 pixels."""
    for side in size if isinstance(size, tuple) else () if size is None else (size,):
        check_range("size", side, 16, 16384)


def resized(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale an image bilinearly, as dense_flow does.

    Parameters
    ----------
    image
        (H, W, 3) or (H, W).
    size
        What to scale it to.
    """
    if size is None:
        return image
    height, width = image.shape[:2]
    if isinstance(size, int):
        scale = size / min(width, height)
        size = (round(width * scale), round(height * scale))
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
