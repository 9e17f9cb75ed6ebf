"""``export-stacks``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe.commands.options import Jobs, processes
from flowpipe.twostream.export import StackExport


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
    jobs: Jobs = None
    """Worker processes. 0 works in this process."""
    overwrite: bool = False
    """Write again what is there already."""

    def run(self) -> int:
        """Export, and print a summary."""
        from flowpipe.pipelines.stacks import export_stacks

        return export_stacks(
            self.flow,
            self.to,
            self.export,
            jobs=processes(self.jobs),
            overwrite=self.overwrite,
        ).exit_status
