"""``extract-flow``: decode a video, resize, grey, flow of each pair of frames, store.

The order is dense_flow's: frames are resized in colour and turned grey afterwards. One clip is
one pass; memory holds as many frames as a pair is apart, whatever the length of the video.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe import artifacts, video
from flowpipe.clips import Clip
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.execution import Advance, Done
from flowpipe.flow import solvers
from flowpipe.flow.parameters import FlowParameters, Tvl1, check_range
from flowpipe.flow.solvers import Backend, Solver
from flowpipe.flow.store import FloatType, FlowReader, FlowWriter, LayoutName, StoredClip, layout

T = TypeVar("T")

Method = Literal["tvl1", "farneback", "dis", "brox"]

_TSN_SIZE = (340, 256)


class TooShortError(FlowpipeError):
    """A video has fewer frames than one pair needs."""

    kind: ClassVar[str] = "too-short"


class OtherVideoError(FlowpipeError):
    """The clip's place is taken by the flow of another video."""

    kind: ClassVar[str] = "name-taken"


class ChangedVideoError(FlowpipeError):
    """A video was written to while its flow was computed."""

    kind: ClassVar[str] = "changed"


@dataclass(frozen=True, slots=True)
class FlowStage:
    """Everything that determines the flow files of a folder.

    Attributes
    ----------
    parameters
        The method and its parameters.
    backend
        The solver.
    size
        (width, height) of frames and flow in pixels; or the length of the short side, the other
        side following; or None for the video's own size.
    bound
        Displacement in pixels that saturates the 8-bit coding.
    step
        Frames from the first to the second of a pair; negative for backward flow.
    layout, dtype, quality
        How it is stored.
    frames
        Also store the RGB frames.
    max_frames
        Look at the first so many frames of each video only.
    keep_truncated
        Keep the flow of what could be decoded of a truncated video.
    """

    parameters: FlowParameters = field(default_factory=Tvl1)
    backend: Backend = "opencv-cpu"
    size: tuple[int, int] | int | None = _TSN_SIZE
    bound: float = 20.0
    step: int = 1
    layout: LayoutName = "zip"
    dtype: FloatType = "float32"
    quality: int = 95
    frames: bool = False
    max_frames: int | None = None
    keep_truncated: bool = False

    def __post_init__(self) -> None:
        for side in self.size if isinstance(self.size, tuple) else (self.size,):
            if side is not None:
                check_range("size", side, 16, 16384)
        check_range("bound", self.bound, 0, 4096, open_low=True)
        if self.step == 0:
            raise ParameterError("step is 0; a pair needs two different frames")
        check_range("step", self.step, -1000, 1000)
        check_range("quality", self.quality, 1, 100)
        if self.max_frames is not None:
            check_range("max_frames", self.max_frames, abs(self.step) + 1)
        if self.frames and layout(self.layout).image is None:
            raise ParameterError(
                f"layout {self.layout} holds no RGB frames; leave out --frames, "
                "or take another layout"
            )

    def description(self) -> artifacts.Json:
        """What ``stage.json`` says: all of this, and the solver's version."""
        kind = layout(self.layout)
        return {
            "stage": "flow",
            "method": self.parameters.method,
            "parameters": asdict(self.parameters),
            "solver": self.backend,
            "solver_version": solvers.version(self.backend),
            "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "step": self.step,
            "layout": self.layout,
            "bound": self.bound if kind.coding == "jpeg" else None,
            "dtype": self.dtype if kind.coding == "float" else None,
            "quality": self.quality if kind.coding == "jpeg" or self.frames else None,
            "frames": self.frames,
            "max_frames": self.max_frames,
            "keep_truncated": self.keep_truncated,
        }


@dataclass(frozen=True, slots=True)
class ExtractFlow:
    """The work of ``extract-flow`` on one clip.

    Attributes
    ----------
    stage
        What is computed.
    out
        The output folder.
    overwrite
        Compute again what is there already.
    """

    stage: FlowStage
    out: Path
    overwrite: bool = False

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Extract the flow of a clip, unless it is there and its video unchanged.

        Raises
        ------
        VideoError, TooShortError, OtherVideoError, ParameterError, OSError
            Nothing is stored then; what was there stays.
        """
        if not self.overwrite:
            stored = self._stored(clip)
            if stored is not None:
                return stored
        return self._extract(clip, advance)

    def _stored(self, clip: Clip) -> Done | None:
        """How the clip stands if it need not be computed."""
        kind = layout(self.stage.layout, self.stage.step)
        if not kind.mark(self.out, clip.name).exists():
            return None
        name = kind.name if kind.is_file or kind.name == "tsfusion" else None
        try:
            with FlowReader(StoredClip(self.out, clip.name, name)) as reader:
                meta = reader.meta
        except FormatError:
            return None  # damaged: it is made anew
        if not clip.path.exists():
            return Done(skipped=True, warning="its video is gone; the flow stays")
        source = artifacts.fingerprint(clip.path)
        if all(meta.source.get(key) == value for key, value in source.items()):
            return Done(skipped=True, warning=_TRUNCATED if meta.truncated else None)
        before = str(meta.source.get("path"))
        if before != (now := _relative(clip.path, self.out)) and (self.out / before).exists():
            raise OtherVideoError(
                f"{clip.name!r} in {str(self.out)!r} is the flow of {before!r}, not of {now!r}; "
                "use another --out, or give the folder that holds both"
            )
        return None

    def _extract(self, clip: Clip, advance: Advance) -> Done:
        stage = self.stage
        decoded = _Decoded(clip.path, stage)
        with FlowWriter(
            self.out,
            clip.name,
            layout(stage.layout, stage.step),
            bound=stage.bound,
            quality=stage.quality,
            dtype=stage.dtype,
        ) as writer:
            images = _passed_on(decoded, writer) if stage.frames else iter(decoded)
            greys = (np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)) for image in images)
            for first, second in paired(greys, stage.step):
                solver = _solver(stage.parameters, stage.backend, *first.shape)
                writer.add_flow(solver(first[None], second[None])[0])
                advance(1)
            if writer.n_flows == 0:
                left = " left, for it is truncated" if decoded.truncated else ""
                raise TooShortError(
                    f"{str(clip.path)!r} has {len(decoded.times)} frames{left}; "
                    f"step {stage.step} needs at least {abs(stage.step) + 1}"
                )
            writer.commit(
                width=first.shape[1],
                height=first.shape[0],
                n_frames=len(decoded.times),
                step=stage.step,
                source={"path": _relative(clip.path, self.out), **decoded.source()},
                method=stage.parameters.method,
                parameters=asdict(stage.parameters),
                solver=solver.name,
                solver_version=solver.version,
                fps=decoded.fps(),
                times=decoded.times,
                truncated=decoded.truncated,
            )
        return Done(warning=_TRUNCATED if decoded.truncated else None)


class _Decoded:
    """Iterates over a video's frames at the stage's size, and remembers what meta.json needs."""

    def __init__(self, path: Path, stage: FlowStage) -> None:
        self._path = path
        self._stage = stage
        self._before: artifacts.Json = {}
        self._size = (0, 0)
        self.times: list[float | None] = []
        self.truncated = False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        if not self._stage.keep_truncated and self._stage.max_frames is None:
            video.require_whole(self._path)
        try:
            for frame in video.frames(self._path, max_frames=self._stage.max_frames):
                if not self.times:
                    self._before = artifacts.fingerprint(self._path)
                    self._size = frame.image.shape[1], frame.image.shape[0]
                self.times.append(None if frame.time is None else round(frame.time, 6))
                yield resized(frame.image, self._stage.size)
        except video.TruncatedVideoError:
            if not self._stage.keep_truncated:
                raise
            self.truncated = True

    def source(self) -> artifacts.Json:
        """Of the video: size, fingerprint and check sum."""
        thorough = artifacts.sha256(self._path)
        if artifacts.fingerprint(self._path) != self._before:
            raise ChangedVideoError(f"{str(self._path)!r} changed while it was read; run again")
        width, height = self._size
        return {**self._before, "sha256": thorough, "width": width, "height": height}

    def fps(self) -> float:
        """Mean frames a second, from the presentation times; 0 where there are none."""
        first, last = self.times[0], self.times[-1]
        if first is None or last is None or last <= first:
            return 0.0
        return round((len(self.times) - 1) / (last - first), 3)


def paired(items: Iterable[T], step: int) -> Iterator[tuple[T, T]]:
    """Pairs of items that are ``step`` apart: (first, second), or backward for a negative step.

    N items make ``N - abs(step)`` pairs; ``abs(step)`` items are held.
    """
    waiting: deque[T] = deque(maxlen=abs(step))
    for item in items:
        if len(waiting) == waiting.maxlen:
            yield (waiting[0], item) if step > 0 else (item, waiting[0])
        waiting.append(item)


def _passed_on(
    images: Iterable[NDArray[np.uint8]], writer: FlowWriter
) -> Iterator[NDArray[np.uint8]]:
    for image in images:
        writer.add_image(image)
        yield image


_TRUNCATED = "truncated: the video ends before its container says it does"


def resized(image: NDArray[np.uint8], size: tuple[int, int] | int | None) -> NDArray[np.uint8]:
    """Scale an image to (width, height), or to a short side, bilinearly as dense_flow does.

    Parameters
    ----------
    image
        (H, W, 3) or (H, W).
    size
        (width, height); the length of the short side; or None to leave it as it is.
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


@lru_cache(maxsize=4)
def _solver(parameters: FlowParameters, backend: Backend, height: int, width: int) -> Solver:
    """One solver a size and worker, kept from clip to clip."""
    return solvers.create(parameters, backend, height, width)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
