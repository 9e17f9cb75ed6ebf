"""The work of ``extract-trajectories`` on one clip: from a video to a table of trajectories.

A clip is read in one pass; a block of rows, the live tracks and two frames are in memory.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError
from flowpipe.flow import solvers
from flowpipe.flow.solvers import Solver
from flowpipe.flow.store import FlowReader, StoredClip, stored_clips
from flowpipe.io import video
from flowpipe.io.hdf5 import DeferredErrorFile
from flowpipe.io.source import VideoSource, recorded_warning, source_status
from flowpipe.io.video_writer import VideoWriter
from flowpipe.runner import atomic
from flowpipe.runner.pool import Advance, Done
from flowpipe.trajectories.boxes import read_boxes
from flowpipe.trajectories.draw import draw_tracks
from flowpipe.trajectories.extract import FlowSource, Watch, extract
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage
from flowpipe.trajectories.table import Table, TableWriter
from flowpipe.trajectories.text import TextWriter

TABLE_SUFFIX = ".h5"


@dataclass
class ExtractClip:
    """Extract the trajectories of a clip and write them.

    Attributes
    ----------
    stage
        Parameters.
    out
        The output folder.
    text
        Also write the released programs' text, ``<clip>.txt``.
    visualize
        Also write a video of the tracks, ``<clip>.mp4``.
    overwrite
        Recompute clips that are done.
    stored_flow
        By name, the flow of clips; by default all in the stage's folder of flow.
    """

    stage: TrajectoryStage
    out: Path
    text: bool = False
    visualize: bool = False
    overwrite: bool = False
    stored_flow: dict[str, StoredClip] = field(default_factory=dict, repr=False)
    _solvers: dict[tuple[int, int], Solver] = field(default_factory=dict, repr=False)

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Extract the trajectories of a clip, unless they are there and its video is unchanged.

        Raises
        ------
        VideoError, NameTakenError, ChangedVideoError, ParameterError, FormatError, OSError
            Nothing is stored then; what was there is kept.
        """
        stored = None if self.overwrite else self._stored(clip)
        if stored is not None:
            state = source_status(json.loads(stored["source"]), clip.path, self.out, clip.name)
            if state == "same":
                return Done(skipped=True, warning=self._warning(clip))
            if state == "gone":
                return Done(skipped=True, warning="its video is gone; its trajectories are kept")
        return self._extract(clip, advance)

    def outputs(self, clip: Clip) -> list[Path]:
        """Return the files of a clip."""
        wanted = [".txt"] * self.text + [".mp4"] * self.visualize
        return [self._path(clip, suffix) for suffix in [TABLE_SUFFIX, *wanted]]

    def _stored(self, clip: Clip) -> dict[str, Any] | None:
        """Return the attributes of the clip's table if all of its files exist and can be read."""
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
        source = VideoSource(
            clip.path,
            stage.size,
            keep_truncated=stage.keep_truncated,
            keep_damaged=stage.keep_damaged,
        )
        temporary = atomic.temporary_folder(self.out)
        shape = (0, 0)

        def frames() -> Iterator[NDArray[np.uint8]]:
            nonlocal shape
            for image in source:
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
                    watch = _painter(stack.enter_context(VideoWriter(temporary / "video", fps)))
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
                    len(source.times),
                    shape[1],
                    shape[0],
                    clip=clip.name,
                    source=json.dumps(source.source(self.out)),
                    truncated=source.truncated,
                )
                if text:
                    text.finish(len(source.times))
            stored.check()
            if self.text:
                atomic.place(temporary / "text", self._path(clip, ".txt"))
            if self.visualize:
                atomic.place(temporary / "video", self._path(clip, ".mp4"))
            atomic.place(temporary / "table", self._path(clip, TABLE_SUFFIX))
        finally:
            atomic.discard(temporary)
        return Done(warning=self._warning(clip))

    def _warning(self, clip: Clip) -> str | None:
        """Return what the user should know of a clip whose table is written."""
        with Table(self._path(clip, TABLE_SUFFIX)) as table:
            source, truncated = table.attributes["source"], table.attributes["truncated"]
            warning = recorded_warning(json.loads(source), bool(truncated))
            warnings = [] if warning is None else [warning]
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
        """Give the flow of a clip where it is not Farneback's."""
        folder = self.stage.flow_folder
        if folder is None:
            yield self._tvl1 if self.stage.flow == "tvl1" else None
            return
        # Once per process, since the whole folder is searched.
        self.stored_flow = self.stored_flow or {c.name: c for c in stored_clips(folder)}
        stored = self.stored_flow.get(clip.name)
        if stored is None:
            raise FormatError(f"{str(folder)!r} has no flow of the clip {clip.name!r}")
        with FlowReader(stored) as reader:
            if reader.meta.step != 1:
                raise FormatError(
                    f"flow of {clip.name!r} has step {reader.meta.step}; tracks need step 1"
                )
            first = self.stage.parameters.start_frame
            yield (reader.flow(index) for index in range(first, len(reader)))

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


def _painter(writer: VideoWriter) -> Watch:
    def paint(
        frame: NDArray[np.uint8],
        tracks: Sequence[NDArray[np.float32]],
        camera_only: NDArray[np.bool_],
    ) -> None:
        writer.add(draw_tracks(frame, tracks, camera_only))

    return paint
