"""Stored flow and frames of a clip, decoded once while windows pass over them.

Only what the window spans is in memory. Before the first and after the last field or frame, those
are repeated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import FlowReader, StoredClip
from flowpipe.io import video
from flowpipe.io.source import resized
from flowpipe.models.clip_input import BOTH, ClipInput
from flowpipe.runner import provenance
from flowpipe.training.data.clip_index import check_members
from flowpipe.training.data.export import flow_identity
from flowpipe.training.data.frame_clips import video_of
from flowpipe.training.data.pairs import frame_places, joined
from flowpipe.training.data.stacks import read_stack


class ClipFrames(ABC):
    """Flow fields, frames, or differences of frames of a clip; a context manager.

    Parameters
    ----------
    reader
        The clip, which is closed with this.
    """

    def __init__(self, reader: FlowReader) -> None:
        self.reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self.reader.close()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of fields, frames or differences."""

    @property
    @abstractmethod
    def n_frames(self) -> int:
        """Number of frames of the clip."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Digest of what is read."""

    @abstractmethod
    def expect(self, starts: Sequence[int], length: int) -> None:
        """Prepare for windows of `length` that begin at `starts`, ascending."""

    @abstractmethod
    def snippet(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return (C * L, H, W) of L fields, frames or differences."""

    @abstractmethod
    def forget(self, before: int) -> None:
        """Drop what was decoded before a field or frame; never what may be repeated."""


def open_clip(clip: StoredClip, seen: ClipInput) -> ClipFrames:
    """Open a clip as a network sees it.

    Raises
    ------
    FormatError
        It is not there, damaged, or has neither frames nor the video that it was made from.
    """
    bound = DEFAULT_BOUND if seen.bound is None else seen.bound
    reader = FlowReader(clip, bound=bound)
    try:
        if seen.modality == BOTH:
            return StoredBoth(reader, seen)
        return StoredFields(reader, seen) if seen.is_flow else StoredFrames(reader, seen)
    except BaseException:
        reader.close()
        raise


class StoredFields(ClipFrames):
    """Stored flow.

    Parameters
    ----------
    reader
        The clip, which is closed with this.
    seen
        What the network sees: the stacking of the fields.

    Raises
    ------
    FormatError
        There is no flow, or a field is missing.
    """

    def __init__(self, reader: FlowReader, seen: ClipInput) -> None:
        super().__init__(reader)
        if not len(reader):
            raise FormatError(f"{str(reader.clip.path)!r} holds frames and no flow")
        check_members(reader)
        self.clip, self.level_bound = reader.clip, reader.level_bound
        self._stacking = seen.stacking
        self._levels: dict[int, NDArray[np.uint8]] = {}
        self._flow: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def n_frames(self) -> int:
        """Number of frames of the clip."""
        return self.reader.meta.n_frames

    @property
    def identity(self) -> str:
        """Digest of the stored flow."""
        return flow_identity(self.reader)

    def expect(self, starts: Sequence[int], length: int) -> None:
        """Do nothing: fields are read as they are asked for."""

    def snippet(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Return (2 L, H, W) uint8 levels."""
        return read_stack(self, indices, stacking=self._stacking)

    def levels(self, index: int) -> NDArray[np.uint8]:
        """Return (2, H, W) levels of a field, of the nearest one outside of the clip."""
        index = min(max(index, 0), len(self) - 1)
        if index not in self._levels:
            self._levels[index] = self.reader.levels(index)
        return self._levels[index]

    def flow(self, index: int, *, zero: float) -> NDArray[np.float32]:
        """Return (2, H, W) pixels of a field, of the nearest one outside of the clip."""
        index = min(max(index, 0), len(self) - 1)
        if index not in self._flow:
            self._flow[index] = self.reader.flow(index, zero=zero)
        return self._flow[index]

    def forget(self, before: int) -> None:
        """Drop the fields before one."""
        before = min(before, len(self) - 1)
        self._levels = {index: each for index, each in self._levels.items() if index >= before}
        self._flow = {index: each for index, each in self._flow.items() if index >= before}


class StoredFrames(ClipFrames):
    """RGB frames, or their differences: stored with the flow, or of the video it was made from.

    Parameters
    ----------
    reader
        The clip, which is closed with this.
    seen
        What the network sees: ``rgb`` or ``rgb-diff``.

    Raises
    ------
    FormatError
        There are neither frames nor the video, or too few frames.
    """

    def __init__(self, reader: FlowReader, seen: ClipInput) -> None:
        super().__init__(reader)
        self._is_difference = seen.modality == "rgb-diff"
        self._video: Path | None = None
        if reader.meta.n_images:
            check_members(reader, images=True)
        else:
            self._video = video_of(reader)
        self._decoded = _decoded(self._video, reader, ())
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._size: tuple[int, ...] | None = None
        if len(self) < 1:
            raise FormatError(f"{str(reader.clip.path)!r} has too few frames: {self.n_frames}")

    def close(self) -> None:
        """Close the files."""
        self._decoded.close()
        super().close()

    def __len__(self) -> int:
        return self.n_frames - self._is_difference

    @property
    def n_frames(self) -> int:
        """Number of frames of the clip."""
        return self.reader.meta.n_images or self.reader.meta.n_frames

    @property
    def identity(self) -> str:
        """Digest of the stored frames, or of the video and the size that it is scaled to."""
        if self._video is None:
            return flow_identity(self.reader)
        meta = self.reader.meta
        return f"{provenance.fingerprint(self._video)['fingerprint']} {meta.width}x{meta.height}"

    def expect(self, starts: Sequence[int], length: int) -> None:
        """Prepare to decode the frames of windows that begin at `starts`, ascending."""
        length += self._is_difference
        numbers = {self._inside(start + offset) for start in starts for offset in range(length)}
        self._decoded = _decoded(self._video, self.reader, sorted(numbers))

    def snippet(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return (3 L, H, W): uint8 levels, or int16 differences."""
        # Outside of the clip a difference is repeated, not a frame, whose difference is zero.
        first = [min(max(index, 0), len(self) - 1) for index in indices]
        frames = np.stack([self._image(index) for index in first])
        if self._is_difference:
            after = np.stack([self._image(index + 1) for index in first])
            return np.subtract(after, frames, dtype=np.int16).reshape(-1, *frames.shape[2:])
        return frames.reshape(-1, *frames.shape[2:])

    def forget(self, before: int) -> None:
        """Drop the frames before one."""
        before = min(before, len(self) - 1)
        self._kept = {index: each for index, each in self._kept.items() if index >= before}

    def _inside(self, index: int) -> int:
        return min(max(index, 0), self.n_frames - 1)

    def _image(self, index: int) -> NDArray[np.uint8]:
        """Return a (3, H, W) RGB frame."""
        if index not in self._kept and self._video is None:
            self._keep(index, self.reader.image(index))
        while index not in self._kept:
            number, image = next(self._decoded, (None, None))
            if number is None or image is None:
                raise FormatError(f"{str(self._video)!r} ends before its frame {index}")
            self._keep(number, image)
        return self._kept[index]

    def _keep(self, index: int, image: NDArray[np.uint8]) -> None:
        self._size = self._size or image.shape
        if image.shape != self._size:
            raise FormatError(
                f"frame {index} of {str(self.reader.clip.path)!r} is "
                f"{image.shape[1]}x{image.shape[0]}; the first is {self._size[1]}x{self._size[0]}"
            )
        self._kept[index] = image[..., ::-1].transpose(2, 0, 1)


class StoredBoth(ClipFrames):
    """Stored flow, and the frames that belong to each snippet.

    Parameters
    ----------
    reader
        The clip, which is closed with this.
    seen
        What the network sees: the stacking of the fields, and the fields for each frame.
    """

    def __init__(self, reader: FlowReader, seen: ClipInput) -> None:
        super().__init__(reader)
        self._fields_per_frame = seen.fields_per_frame
        self._fields, self._frames = StoredFields(reader, seen), StoredFrames(reader, seen)

    def close(self) -> None:
        """Close the files."""
        self._frames.close()

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def n_frames(self) -> int:
        """Number of frames of the clip."""
        return self._frames.n_frames

    @property
    def identity(self) -> str:
        """Digest of the flow and of the frames."""
        return provenance.digest([self._fields.identity, self._frames.identity])

    def expect(self, starts: Sequence[int], length: int) -> None:
        """Prepare for windows of `length` that begin at `starts`, ascending."""
        self._frames.expect(starts, length)

    def snippet(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return (3 F + 2 L, H, W) of L fields and the F frames that belong to them."""
        places = frame_places(len(indices), self._fields_per_frame)
        frames = self._frames.snippet([indices[place] for place in places])
        return joined(frames, self._fields.snippet(indices))

    def forget(self, before: int) -> None:
        """Drop the fields and frames before one."""
        self._fields.forget(before)
        self._frames.forget(before)


def _decoded(
    path: Path | None, reader: FlowReader, wanted: Sequence[int]
) -> Generator[tuple[int, NDArray[np.uint8]]]:
    """Yield frames of a video, with the size of the flow; none where frames are stored."""
    if path is None or not wanted:
        return
    size = (reader.meta.width, reader.meta.height)
    frames = video.frames(
        path, max_frames=wanted[-1] + 1, only=frozenset(wanted), keep_damaged=True
    )
    for number, frame in zip(wanted, frames, strict=False):
        yield number, resized(frame.image, size)
