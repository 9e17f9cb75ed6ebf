"""``extract-trajectories``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

from tyro.conf import arg

from flowpipe.commands.options import Inputs, WorkerOptions, frame_size, reporting_workers
from flowpipe.errors import ParameterError
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.trajectories.parameters import Storage, TrajectoryParameters


@dataclass(frozen=True)
class ExtractTrajectories:
    """Track dense or improved dense trajectories and describe them, one HDF5 table a clip.

    Numbers and order of the rows are those of the released programs (DT 1.2 and iDT, 2013).
    """

    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    parameters: Annotated[TrajectoryParameters, arg(name="")] = field(
        default_factory=TrajectoryParameters
    )
    out: Path = Path("trajectories")
    """Output folder. Its stage.json says what the trajectories in it were computed with."""
    flow: Annotated[str, arg(metavar="farneback|tvl1|DIR")] = "farneback"
    """Flow of the tracks: the released programs' own, our TV-L1, or a folder of extract-flow."""
    boxes: Annotated[Path | None, arg(metavar="PATH")] = None
    """Boxes of people (iDT): a file of lines 'frame x1 y1 x2 y2 score ...' in pixels, or a folder
    with one a clip, <clip>.txt. Motion inside is not taken for the camera's."""
    size: Annotated[str | None, arg(metavar="WxH")] = None
    """Width and height of the frames, in pixels; without a size each video's own."""
    short_side: Annotated[int | None, arg(metavar="N")] = None
    """Scale to this short side in pixels, keeping the aspect ratio, instead of --size."""
    storage: Storage = "int16"
    """Number type of the table: int16 takes 952 bytes a row, float32 keeps every bit."""
    text: bool = False
    """Also write the released programs' text, <clip>.txt, 436 columns."""
    visualize: bool = False
    """Also write a video of the tracks over the frames, <clip>.mp4."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver of --flow tvl1."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Do the I-th of N parts of the clips only, to share a run among machines."""
    overwrite: bool = False
    """Compute again what is there already."""
    keep_truncated: bool = False
    """Keep the trajectories of what can be decoded of truncated videos, which else fail."""
    tvl1: Tvl1 = field(default_factory=Tvl1)

    def run(self) -> int:
        """Extract, and print a summary."""
        from flowpipe.pipelines.trajectories import extract_trajectories
        from flowpipe.trajectories.stage import TrajectoryStage

        own_flow = self.flow in ("farneback", "tvl1")
        if self.flow != "tvl1" and self.tvl1 != Tvl1():
            raise ParameterError(f"--tvl1.* options are given, but --flow is {self.flow}")
        stage = TrajectoryStage(
            parameters=self.parameters,
            flow=cast(Literal["farneback", "tvl1"], self.flow) if own_flow else Path(self.flow),
            tvl1=self.tvl1,
            backend=self.backend,
            size=frame_size(self.size, self.short_side),
            boxes=self.boxes,
            storage=self.storage,
            keep_truncated=self.keep_truncated,
        )
        return extract_trajectories(
            self.videos,
            self.out,
            stage,
            text=self.text,
            visualize=self.visualize,
            workers=self.workers,
            shard=self.shard,
            overwrite=self.overwrite,
        ).exit_status
