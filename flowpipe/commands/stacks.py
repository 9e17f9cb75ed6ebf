"""What two-stream networks want of stored flow: ``warp-flow`` and ``export-stacks``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import Switch
from flowpipe.commands.options import WorkerOptions, reporting_workers
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.training.data.export import StackExport


@dataclass(frozen=True)
class WarpFlow:
    """Take the camera's motion out of stored flow: the warped flow that TSN trains a stream on.

    The frames that were stored with the flow are used, or the videos that it was made from.
    """

    flow: Positional[Annotated[Path, arg(metavar="FLOW")]]
    """Folder of flow, in any layout, or one clip of it."""
    to: Positional[Annotated[Path, arg(metavar="TO")]]
    """Folder to write to."""
    stage: Annotated[WarpStage, arg(name="")] = field(default_factory=WarpStage)
    workers: WorkerOptions = field(default_factory=reporting_workers)
    overwrite: Switch = False
    """Recompute clips that are finished."""

    def run(self) -> int:
        """Warp, and print a summary."""
        from flowpipe.pipelines.warp import warp_flow

        return warp_flow(
            self.flow,
            self.to,
            self.stage,
            workers=self.workers,
            overwrite=self.overwrite,
        ).exit_status


@dataclass(frozen=True)
class ExportStacks:
    """Write stored flow as stacks for other loaders: an array a clip, or WebDataset's tar shards.

    Channels are x1 y1 x2 y2 ..., levels 0 to 255, 128 for zero; index.json says what lies where.
    """

    flow: Positional[Annotated[Path, arg(metavar="FLOW")]]
    """Folder of flow, in any layout, ours or another tool's, or one clip of it."""
    to: Positional[Annotated[Path, arg(metavar="TO")]]
    """Folder to write to."""
    export: Annotated[StackExport, arg(name="")] = field(default_factory=StackExport)
    workers: WorkerOptions = field(default_factory=reporting_workers)
    overwrite: Switch = False
    """Write clips again that are finished."""

    def run(self) -> int:
        """Export, and print a summary."""
        from flowpipe.pipelines.stacks import export_stacks

        return export_stacks(
            self.flow,
            self.to,
            self.export,
            workers=self.workers,
            overwrite=self.overwrite,
        ).exit_status
