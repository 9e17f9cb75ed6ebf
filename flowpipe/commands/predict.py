"""``predict``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpipe.commands.options import Inputs, WorkerOptions, reporting_workers
from flowpipe.errors import ParameterError
from flowpipe.training.testing import Testing


@dataclass(frozen=True)
class Predict:
    """Label new videos with a trained classifier.

    Flow, frames or trajectories are extracted exactly as those of the training clips. Probabilities
    are calibrated on held-out clips where the classifier was evaluated; otherwise they are the
    softmax of the scores, and a note says so. The exit status is 1 if videos failed.
    """

    classifier: Positional[Annotated[Path, arg(metavar="CLASSIFIER")]]
    """Output folder of idt-baseline, two-stream, evaluate, fuse or train, or the folder of one of
    its splits."""
    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    top: Annotated[int, arg(metavar="K")] = 5
    """Number of classes to show for each video."""
    format: Literal["table", "csv", "jsonl"] = "table"
    """How labels are written: as a table, as CSV with a row per class, or as a JSON object per
    line."""
    out: Annotated[
        Path | None, arg(metavar="FILE", help_behavior_hint="(default: the terminal)")
    ] = None
    """File to write the labels to."""
    cache: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(default: keep nothing)")
    ] = None
    """Folder that keeps what is extracted, so that an interrupted run resumes."""
    draw: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(default: draw nothing)")
    ] = None
    """Folder for an mp4 of each video with its labels, and with the trajectories that speak for the
    first label, the brighter the more, if the classifier is on trajectories."""
    testing: Annotated[Testing, arg(name="")] = field(default_factory=Testing)
    device: str = "auto"
    """Device of a network: a GPU if there is one (auto), cpu, or a torch device such as cuda:1."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Part of the videos to label, the I-th of N, to divide a run among machines."""

    def run(self) -> int:
        """Label the videos."""
        from flowpipe.pipelines.predict import formatted, predict
        from flowpipe.prediction import load_classifier
        from flowpipe.runner.atomic import write_atomic

        if self.top < 1:
            raise ParameterError(f"top is {self.top}; it must be 1 or more")
        testing = None if self.testing == Testing() else self.testing
        classifier = load_classifier(self.classifier, testing, self.device)
        found = predict(
            classifier,
            self.videos,
            cache=self.cache,
            draw=self.draw,
            workers=self.workers,
            shard=self.shard,
        )
        if not all(each.calibrated for each in found.predictions):
            print("note: the probabilities are not calibrated", file=sys.stderr)
        text = formatted(found.predictions, self.format, self.top)
        if self.out is None:
            sys.stdout.write(text)
        else:
            write_atomic(self.out, text.encode(), self.out.parent)
        return 1 if found.failed else 0
