"""``extract-trajectories``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from flowpipe._options import Switch
from flowpipe.commands.options import Inputs, WorkerOptions, frame_size, reporting_workers
from flowpipe.trajectories.parameters import TrajectoryStage

SizeOption = Annotated[
    str | None, arg(metavar="WxH", help_behavior_hint="(default: each video's own)")
]
ShortSideOption = Annotated[int | None, arg(metavar="N", help_behavior_hint="")]


@dataclass(frozen=True)
class ExtractTrajectories:
    """Extract dense or improved dense trajectories with their descriptors, one table per clip.

    Numbers and order of the rows are those of the released programs (DT 1.2 and iDT, 2013).
    """

    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    out: Path = Path("trajectories")
    """Output folder, with an HDF5 table per clip."""
    frame_size: SizeOption = None
    """Width and height that frames are resized to, in pixels."""
    short_side: ShortSideOption = None
    """Length in pixels that the short side of frames is resized to, instead of --frame-size."""
    stage: Annotated[TrajectoryStage, arg(name="")] = field(default_factory=TrajectoryStage)
    text: Switch = False
    """Also write the released programs' text with 436 columns, <clip>.txt."""
    visualize: Switch = False
    """Also write a video with the tracks drawn over the frames, <clip>.mp4."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Process only the I-th of N parts of the clips, to divide a run among machines."""
    overwrite: Switch = False
    """Recompute clips that are done."""

    def run(self) -> int:
        """Extract trajectories."""
        from flowpipe.pipelines.trajectories import extract_trajectories

        return extract_trajectories(
            self.videos,
            self.out,
            replace(self.stage, size=frame_size(self.frame_size, self.short_side)),
            text=self.text,
            visualize=self.visualize,
            workers=self.workers,
            shard=self.shard,
            overwrite=self.overwrite,
        ).exit_status
