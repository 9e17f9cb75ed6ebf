"""``extract-flow``: decode a video, resize, grey, flow of each pair of frames, store.

The order is dense_flow's: frames are resized in colour and turned grey afterwards. One clip is
one pass; memory holds as many frames as a pair is apart, whatever the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from tyro.conf import Suppress, arg

from flowpipe._options import Switch
from flowpipe.datasets.base import Clip
from flowpipe.errors import (
    BackendUnavailableError,
    FlowpipeError,
    FormatError,
    ParameterError,
    check_range,
)
from flowpipe.flow import methods, solvers
from flowpipe.flow.batching import BatchedSolver, Flow, Frame, SerialSolver, SolverQueue
from flowpipe.flow.devices import out_of_memory
from flowpipe.flow.parameters import FlowParameters, Tvl1
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.solvers import Backend
from flowpipe.flow.store import (
    QUALITY,
    DtypeOption,
    FlowWriter,
    LayoutName,
    QualityOption,
    finished,
    layout,
)
from flowpipe.io.source import Size, VideoSource, check_size, recorded_warning, source_status
from flowpipe.runner import json_files
from flowpipe.runner.pool import Advance, DeviceFailedError, Done

T = TypeVar("T")

_TSN_SIZE = (340, 256)


class TooShortError(FlowpipeError):
    """A video has fewer frames than one pair needs."""

    kind: ClassVar[str] = "too-short"


@dataclass(frozen=True, slots=True)
class FlowStage:
    """Everything that determines the flow of a folder.

    Raises
    ------
    ParameterError
        A value is out of range, or does not apply to the layout.

    Examples
    --------
    >>> import flowpipe
    >>> flowpipe.FlowStage(size=None).stored_bound
    20.0
    """

    parameters: Suppress[FlowParameters] = field(default_factory=Tvl1)
    """Parameters of the flow method, whose class is the method: :class:`Tvl1`, ..."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver; auto takes the best one that runs here and logs which. See: flowpipe doctor."""
    size: Suppress[Size] = _TSN_SIZE
    """(width, height) of frames and flow in pixels; or the length of the short side; or None for
    each video's own size."""
    bound: Annotated[
        float | None, arg(metavar="PIXELS", help_behavior_hint=f"(default: {DEFAULT_BOUND:g})")
    ] = None
    """Displacement, in either direction, that saturates the 8-bit layouts."""
    step: int = 1
    """Number of frames from the first to the second frame of a pair; negative for backward
    flow."""
    layout: LayoutName = "zip"
    """How flow is stored; see docs/formats.md."""
    dtype: DtypeOption = None
    """Number type of the layouts npy and h5."""
    quality: QualityOption = None
    """JPEG quality of flow and frames, 1 to 100."""
    frames: Switch = False
    """Also store the RGB frames, from the same decode."""
    max_frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """Number of frames of each video to use."""
    keep_truncated: Switch = False
    """Keep the flow of truncated videos, as far as they can be decoded, instead of failing."""
    keep_damaged: Switch = False
    """Keep the flow of videos with corrupt or lost frames, instead of failing."""

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.step == 0:
            raise ParameterError("step is 0; a pair needs two different frames")
        check_range("step", self.step, -1000, 1000)
        if self.max_frames is not None:
            check_range("max_frames", self.max_frames, abs(self.step) + 1)
        kind = layout(self.layout)
        if self.frames and kind.image is None:
            raise ParameterError(
                f"layout {self.layout} holds no RGB frames; leave out --frames, "
                "or take another layout"
            )
        kind.check_options(
            dtype=self.dtype, quality=self.quality, bound=self.bound, images=self.frames
        )

    @property
    def solver(self) -> Backend:
        """The solver that computes the flow: with ``auto`` the best one that runs here."""
        return solvers.choose(self.backend, self.parameters.method, self.parameters)

    @property
    def stored_bound(self) -> float:
        """Displacement in pixels that saturates the 8-bit layouts."""
        return DEFAULT_BOUND if self.bound is None else self.bound

    def description(self) -> json_files.Json:
        """Return the record: all of this, and the solver with its version."""
        kind = layout(self.layout)
        return {
            "stage": "flow",
            "method": self.parameters.method,
            "parameters": methods.method(self.parameters.method).recorded(self.parameters),
            "solver": self.solver,
            "solver_version": solvers.version(self.solver),
            "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "step": self.step,
            "layout": self.layout,
            "bound": self.stored_bound if kind.coding in ("jpeg", "png") else None,
            "dtype": self.dtype or "float32" if kind.coding == "float" else None,
            "quality": self.quality or QUALITY if kind.coding == "jpeg" or self.frames else None,
            "frames": self.frames,
            "max_frames": self.max_frames,
            "keep_truncated": self.keep_truncated,
            "keep_damaged": self.keep_damaged,
        }


def stage_of(record: json_files.Json, where: str) -> FlowStage:
    """Return the stage that a record describes; the inverse of ``description``.

    Parameters
    ----------
    record
        The content of ``stage.json``.
    where
        Where it was read, for messages.

    Raises
    ------
    FormatError
        It is no record of flow, or of another version.
    """
    try:
        parameters = methods.method(record["method"]).parameters(**record["parameters"])
        size = record["size"]
        return FlowStage(
            parameters,
            solvers.usable(record["solver"], parameters.method),
            tuple(size) if isinstance(size, list) else size,
            **{
                name: record[name]
                for name in (
                    "bound", "step", "layout", "dtype", "quality", "frames", "max_frames",
                    "keep_truncated", "keep_damaged",
                )
            },
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where!r} does not say how flow is made: {error}") from None


@dataclass
class ExtractFlow:
    """The work of ``extract-flow`` on one clip.

    Attributes
    ----------
    stage
        What is computed.
    out
        The output folder.
    overwrite
        Recompute clips that are finished.
    engine
        Computes the pairs; by default each when it comes, with a solver of this object's own.
    solver
        The solver that the engine uses; by default the stage's.
    """

    stage: FlowStage
    out: Path
    overwrite: bool = False
    engine: SolverQueue | None = None
    solver: Backend | None = None

    def on_device(self, device: str, clips: int) -> ExtractFlow:
        """Return this work in batches on a device, such as ``cuda:1``, for so many clips at once.

        The stage's backend must be a solver, not ``auto``.

        Raises
        ------
        BackendUnavailableError
            The device's flow differs from that of the CPU.
        """
        parameters = self.stage.parameters
        solver = cast(Backend, self.stage.backend)
        if reason := solvers.why_not_trusted(solver, parameters.method, device):
            raise BackendUnavailableError(reason)

        def failure(error: Exception) -> Exception:
            if isinstance(error, out_of_memory()):  # of this clip's size
                return error
            return DeviceFailedError(f"{type(error).__name__}: {error}")

        create = partial(solvers.create, parameters, solver, device=device)
        engine = BatchedSolver(create, solvers.batch_size(solver), clips, failure)
        return replace(self, engine=engine.__enter__(), solver=solver)

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Extract the flow of a clip, unless it is there and its video unchanged.

        Raises
        ------
        VideoError, TooShortError, NameTakenError, ChangedVideoError, ParameterError, OSError
            Nothing is stored then; what was there stays.
        """
        kind = layout(self.stage.layout, self.stage.step)
        meta = None if self.overwrite else finished(self.out, clip.name, kind)
        if meta is not None:
            state = source_status(meta.source, clip.path, self.out, clip.name)
            if state == "same":
                return Done(skipped=True, warning=recorded_warning(meta.source, meta.truncated))
            if state == "gone":
                return Done(skipped=True, warning="its video is gone; the flow stays")
        return self._extract(clip, advance)

    def _extract(self, clip: Clip, advance: Advance) -> Done:
        stage = self.stage
        solver = self.solver or stage.solver
        if self.engine is None:
            self.engine = SerialSolver(partial(solvers.create, stage.parameters, solver))
        video_source = VideoSource(
            clip.path,
            stage.size,
            max_frames=stage.max_frames,
            keep_truncated=stage.keep_truncated,
            keep_damaged=stage.keep_damaged,
        )
        with FlowWriter(
            self.out,
            clip.name,
            layout(stage.layout, stage.step),
            bound=stage.bound,
            quality=stage.quality,
            dtype=stage.dtype,
        ) as writer:
            images = _passed_on(video_source, writer) if stage.frames else iter(video_source)
            colour = methods.method(stage.parameters.method).colour
            code = cv2.COLOR_BGR2RGB if colour else cv2.COLOR_BGR2GRAY
            inputs = (np.asarray(cv2.cvtColor(image, code), np.uint8) for image in images)
            height = width = 0
            for flow in _flows(paired(inputs, stage.step), self.engine):
                height, width = flow.shape[1:]
                writer.add_flow(flow)
                advance(1)
            if writer.n_flows == 0:
                left = " left, for it is truncated" if video_source.truncated else ""
                raise TooShortError(
                    f"{str(clip.path)!r} has {len(video_source.times)} frames{left}; "
                    f"step {stage.step} needs at least {abs(stage.step) + 1}"
                )
            writer.commit(
                width=width,
                height=height,
                n_frames=len(video_source.times),
                step=stage.step,
                source=video_source.source(self.out),
                method=stage.parameters.method,
                parameters=methods.method(stage.parameters.method).recorded(stage.parameters),
                solver=solver,
                solver_version=solvers.version(solver),
                fps=video_source.fps(),
                times=video_source.times,
                truncated=video_source.truncated,
            )
        return Done(warning=video_source.warning())


def _flows(pairs: Iterable[tuple[Frame, Frame]], engine: SolverQueue) -> Iterator[Flow]:
    """Return the flow of the pairs in their order, keeping the engine busy with later ones."""
    waiting: deque[Future[Flow]] = deque()
    for first, second in pairs:
        waiting.append(engine.submit(first, second))
        if len(waiting) > engine.ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
