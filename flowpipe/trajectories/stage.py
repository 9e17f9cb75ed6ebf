"""``extract-trajectories``: a video's frames, its trajectories, their table.

One clip is one pass; what is held is a block of rows, the live tracks and two frames.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend, Solver
from flowpipe.flow.store import FlowReader, StoredClip, stored_clips
from flowpipe.io import video
from flowpipe.io.hdf5 import DeferredErrorFile
from flowpipe.io.source import TRUNCATED, Size, VideoSource, check_size, source_status
from flowpipe.io.video_writer import VideoWriter
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.pool import Advance, Done
from flowpipe.trajectories.boxes import boxes_digest, read_boxes
from flowpipe.trajectories.draw import draw_tracks
from flowpipe.trajectories.extract import FlowSource, Watch, extract
from flowpipe.trajectories.parameters import Storage, TrajectoryParameters
from flowpipe.trajectories.table import Table, TableWriter
from flowpipe.trajectories.text import TextWriter

TABLE_SUFFIX = ".h5"


@dataclass(frozen=True, slots=True)
class TrajectoryStage:
    """Everything that determines the trajectories of a folder.

    Attributes
    ----------
    parameters
        Of the trajectories.
    flow
        Where the flow comes from: ``farneback``, the released programs' own; ``tvl1``, computed at
        full size and resized to the scales; or a folder of flow that was extracted before.
    tvl1, backend
        Of TV-L1 flow; ``auto`` is the fastest solver of this machine.
    size
        Of the frames.
    boxes
        A box file, or a folder with one a clip, ``<clip>.txt``. iDT only.
    storage
        Number type of the table.
    keep_truncated
        Take what can be decoded of a truncated video for the whole.
    """

    parameters: TrajectoryParameters = field(default_factory=TrajectoryParameters)
    flow: Literal["farneback", "tvl1"] | Path = "farneback"
    tvl1: Tvl1 = field(default_factory=Tvl1)
    backend: Backend | Literal["auto"] = "auto"
    size: Size = None
    boxes: Path | None = None
    storage: Storage = "int16"
    keep_truncated: bool = False

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.boxes is not None and self.parameters.kind != "idt":
            raise ParameterError("boxes are given, and kind is 'dt'; they are for 'idt' only")
        for path in (self.boxes, self.flow):
            if isinstance(path, Path) and not path.exists():
                raise ParameterError(f"{str(path)!r} does not exist")
        if self.flow == "tvl1":
            # Chosen here and not where a worker runs: all of a folder is computed by one solver.
            object.__setattr__(self, "backend", self.solver)

    @property
    def solver(self) -> Backend:
        """The backend that computes TV-L1 flow on this machine."""
        return solvers.choose(self.backend, "tvl1")

    def description(self) -> json_files.Json:
        """Return what ``stage.json`` says.

        Flow from a folder is described by that folder's own record, and boxes by their digest:
        where they are does not matter. A folder of flow without a record is described as null.

        Raises
        ------
        FormatError
            The record of the folder of flow is damaged.
        """
        flow = provenance.read_stage(self.flow) if isinstance(self.flow, Path) else self.flow
        own_flow = self.flow == "tvl1"
        return {
            "stage": "trajectories",
            "parameters": asdict(self.parameters),
            "flow": flow,
            "tvl1": asdict(self.tvl1) if own_flow else None,
            "solver": self.solver if own_flow else None,
            "solver_version": solvers.version(self.solver) if own_flow else None,
            "opencv_version": cv2.__version__,  # it makes grey levels, resizes and smooths
            "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "boxes": None if self.boxes is None else boxes_digest(self.boxes),
            "storage": self.storage,
            "keep_truncated": self.keep_truncated,
        }


@dataclass
class ExtractTrajectories:
    """The work of ``extract-trajectories`` on one clip.

    Attributes
    ----------
    stage
        What is computed.
    out
        The output folder.
    text
        Also write the released programs' text, ``<clip>.txt``.
    visualize
        Also write a video of the tracks, ``<clip>.mp4``.
    overwrite
        Compute again what is there already.
    """

    stage: TrajectoryStage
    out: Path
    text: bool = False
    visualize: bool = False
    overwrite: bool = False
    _solvers: dict[tuple[int, int], Solver] = field(default_factory=dict, repr=False)
    _stored_flow: dict[str, StoredClip] = field(default_factory=dict, repr=False)

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Extract the trajectories of a clip, unless they are there and its video unchanged.

        Raises
        ------
        VideoError, NameTakenError, ChangedVideoError, ParameterError, FormatError, OSError
            Nothing is stored then; what was there stays.
        """
        stored = None if self.overwrite else self._stored(clip)
        if stored is not None:
            state = source_status(json.loads(stored["source"]), clip.path, self.out, clip.name)
            if state == "same":
                return Done(skipped=True, warning=self._warning(clip, bool(stored["truncated"])))
            if state == "gone":
                return Done(skipped=True, warning="its video is gone; the trajectories stay")
        return self._extract(clip, advance)

    def outputs(self, clip: Clip) -> list[Path]:
        """The files of a clip."""
        wanted = [".txt"] * self.text + [".mp4"] * self.visualize
        return [self._path(clip, suffix) for suffix in [TABLE_SUFFIX, *wanted]]

    def _stored(self, clip: Clip) -> dict[str, Any] | None:
        """Attributes of the clip's table, if all that is asked for is there and can be read."""
        if not all(path.exists() for path in self.outputs(clip)):
            return None
        try:
            with Table(self._path(clip, TABLE_SUFFIX)) as table:
                return table.attributes
        except (FormatError, FileNotFoundError):
            return None

    def _path(self, clip: Clip, suffix: str) -> Path:
        return self.out / f"{clip.name}{suffix}"

    def _extract(self, clip: Clip, advance: Advance) -> Done:
        stage = self.stage
        footage = VideoSource(clip.path, stage.size, keep_truncated=stage.keep_truncated)
        temporary = atomic.temporary_folder(self.out)
        shape = (0, 0)

        def frames() -> Iterator[NDArray[np.uint8]]:
            nonlocal shape
            for image in footage:
                shape = image.shape[:2]
                yield image
                advance(1)

        try:
            with contextlib.ExitStack() as stack:
                stored = stack.enter_context(DeferredErrorFile(temporary / "table"))
                table = stack.enter_context(TableWriter(stored, stage.parameters, stage.storage))
                text = None
                if self.text:
                    file: IO[bytes] = stack.enter_context((temporary / "text").open("w+b"))
                    text = TextWriter(file, stage.parameters)
                watch = None
                if self.visualize:
                    fps = video.probe(clip.path).fps
                    watch = _painter(stack.enter_context(VideoWriter(temporary / "film", fps)))
                for rows in extract(
                    frames(),
                    stage.parameters,
                    boxes=self._boxes(clip),
                    flows=stack.enter_context(self._flows(clip)),
                    watch=watch,
                ):
                    table.append(rows)
                    stored.check()
                    if text:
                        text.append(rows)
                table.finish(
                    len(footage.times),
                    shape[1],
                    shape[0],
                    clip=clip.name,
                    source=json.dumps(footage.source(self.out)),
                    truncated=footage.truncated,
                )
                if text:
                    text.finish(len(footage.times))
            stored.check()
            if self.text:
                atomic.place(temporary / "text", self._path(clip, ".txt"))
            if self.visualize:
                atomic.place(temporary / "film", self._path(clip, ".mp4"))
            atomic.place(temporary / "table", self._path(clip, TABLE_SUFFIX))
        finally:
            atomic.discard(temporary)
        return Done(warning=self._warning(clip, footage.truncated))

    def _warning(self, clip: Clip, truncated: bool) -> str | None:
        """Return what the user should know of a clip whose table is written."""
        warnings = [TRUNCATED] if truncated else []
        with Table(self._path(clip, TABLE_SUFFIX)) as table:
            if not len(table):
                length = int(table.attributes["length"])
                why = why_no_trajectories(self.stage.parameters, length)
                warnings.append(f"has no trajectories ({why})")
        return "; ".join(warnings) or None

    def _boxes(self, clip: Clip) -> dict[int, NDArray[np.float64]] | None:
        boxes = self.stage.boxes
        if boxes is None:
            return None
        return read_boxes(boxes / f"{clip.name}.txt" if boxes.is_dir() else boxes)

    @contextlib.contextmanager
    def _flows(self, clip: Clip) -> Iterator[FlowSource | None]:
        """Flow from elsewhere than the trajectories' own."""
        flow = self.stage.flow
        if flow == "farneback":
            yield None
        elif isinstance(flow, Path):
            # Once a process: the whole folder is walked.
            self._stored_flow = self._stored_flow or {one.name: one for one in stored_clips(flow)}
            found = self._stored_flow.get(clip.name)
            if found is None:
                raise FormatError(f"{str(flow)!r} holds no flow of the clip {clip.name!r}")
            with FlowReader(found) as reader:
                if reader.meta.step != 1:
                    raise FormatError(
                        f"flow of {clip.name!r} has step {reader.meta.step}; tracks need step 1"
                    )
                first = self.stage.parameters.start_frame
                yield (reader.flow(index) for index in range(first, len(reader)))
        else:
            yield self._tvl1

    def _tvl1(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = (first.shape[0], first.shape[1])
        if size not in self._solvers:
            self._solvers = {size: solvers.create(self.stage.tvl1, self.stage.solver, *size)}
        flow: NDArray[np.float32] = self._solvers[size](first[None], second[None])[0]
        return flow


def why_no_trajectories(parameters: TrajectoryParameters, length: int) -> str:
    """Return why a clip of `length` frames has no trajectories, such as ``10 frames; ...``."""
    last = length - 1 if parameters.end_frame is None else min(parameters.end_frame, length - 1)
    used, needed = max(last - parameters.start_frame + 1, 0), parameters.track_length + 1
    frames = f"{used} frame{'s' * (used != 1)}"
    if used < needed:
        return f"{frames}; a track needs {needed}"
    mover = "but the camera" if parameters.kind == "idt" else "enough"
    return f"{frames}; nothing moves {mover}"


def _painter(film: VideoWriter) -> Watch:
    def paint(
        frame: NDArray[np.uint8],
        tracks: Sequence[NDArray[np.float32]],
        camera_only: NDArray[np.bool_],
    ) -> None:
        film.add(draw_tracks(frame, tracks, camera_only))

    return paint
