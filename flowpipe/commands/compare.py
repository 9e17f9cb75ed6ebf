"""``compare``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import NameIn
from flowpipe.commands.options import (
    Lists,
    ProtocolName,
    WorkerOptions,
    frame_size,
    reporting_workers,
)
from flowpipe.datasets.load import KINDS
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.training.runtime import TrainingRuntime


@dataclass(frozen=True)
class Compare:
    """Compare systems, from trajectories to transformers, on the same labelled clips.

    Runs each system as far as it has not been run, the cheapest first, and writes one page with
    accuracies, paired differences, costs, and what was not run and why. An interrupted run resumes.
    The exit status is 1 if a system failed.
    """

    videos: Positional[Annotated[Path, arg(metavar="DATASET")]]
    """Labelled set: its folder, or its list."""
    systems: Annotated[tuple[str, ...], arg(metavar="NAME|GROUP")] = ("control", "classical", "2d")
    """Systems, or groups of them: control, classical, frozen, 2d, 3d, transformers, all.
    docs/compare.md lists them."""
    weights: Annotated[
        tuple[str, ...],
        arg(metavar="NAME=FILE|default|none", help_behavior_hint="(default: torchvision's)"),
    ] = ()
    """Initial weights by the name of a system, a network or a backbone, or all: a file
    (mobilenet_v2=FILE i3d=FILE), torchvision's (default), or random ones (none). A network without
    weights is not run, unless none is asked for."""
    hours: Annotated[float | None, arg(metavar="H", help_behavior_hint="(default: no limit)")] = (
        None
    )
    """Time for this run. A system that does not fit into what is left of it, by estimates from what
    was measured, is left out; run the command again to continue."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """List files of the set, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested: the official splits of the set, leave one group out,
    K folds of whole groups (such as 5-fold), or a JSON file of splits."""
    out: Path = Path("compare")
    """Output folder: index.html, metrics.json, measurements.json, and a folder per stage."""
    flow: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: compute it)")] = (
        None
    )
    """Output folder of extract-flow --frames that all networks read."""
    frame_size: Annotated[
        str | None,
        arg(metavar="WxH", help_behavior_hint="(default: 340x256 for flow, else their own)"),
    ] = None
    """Width and height that frames are resized to, in pixels, for flow and for trajectories."""
    short_side: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Length in pixels that the short side of frames is resized to, instead of --frame-size."""
    settings: Annotated[Settings, arg(name="")] = field(default_factory=Settings)
    runtime: Annotated[TrainingRuntime, arg(name="")] = field(default_factory=TrainingRuntime)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Run the systems, and write the page."""
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.compare.run import compare
        from flowpipe.pipelines.compare.weights import parse_weights

        size = frame_size(self.frame_size, self.short_side)
        found = compare(
            load_dataset(self.videos, self.dataset, self.lists),
            self.systems,
            self.out,
            self.protocol,
            replace(self.settings, size=size),
            weights=parse_weights(self.weights),
            flow=self.flow,
            hours=self.hours,
            runtime=self.runtime,
            workers=self.workers,
        )
        return 1 if found.failed else 0
