"""``features``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import Switch
from flowpipe.commands.options import WorkerOptions, reporting_workers
from flowpipe.training.features.sources import PublishedNetwork
from flowpipe.training.features.stage import FeatureStage


@dataclass(frozen=True)
class Features:
    """Compute features of windows of every clip: of a network, or Fisher vectors of trajectories.

    Writes an array per clip, (T, F) float32, as ActionFormer, OpenTAD, MS-TCN or video_features
    have it, and a JSON record beside it. An interrupted run resumes.
    """

    source: Positional[Annotated[Path, arg(metavar="FOLDER")]]
    """Folder of flow or frames in any layout, or of extract-trajectories."""
    classifier: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Output folder of train or idt-baseline, or the folder of one of its splits."""
    published: Annotated[PublishedNetwork, arg(name="")] = field(default_factory=PublishedNetwork)
    stage: Annotated[FeatureStage, arg(name="")] = field(default_factory=FeatureStage)
    out: Path = Path("features")
    """Output folder."""
    device: str = "auto"
    """Device of a network: a GPU if there is one (auto), cpu, or a torch device such as cuda:1."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Process only the I-th of N parts of the clips, to divide a run among machines."""
    overwrite: Switch = False
    """Compute features again that are up to date."""

    def run(self) -> int:
        """Compute the features, and print a summary."""
        from flowpipe.pipelines.features import extract_features

        return extract_features(
            self.source,
            self.out,
            self.classifier,
            self.stage,
            self.published,
            device=self.device,
            workers=self.workers,
            shard=self.shard,
            overwrite=self.overwrite,
        ).exit_status
