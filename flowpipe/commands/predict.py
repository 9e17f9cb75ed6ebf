"""``predict``."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpipe.commands.options import Inputs, WorkerOptions, reporting_workers
from flowpipe.errors import ParameterError
from flowpipe.prediction.live.parameters import Live
from flowpipe.training.optimisation import Precision
from flowpipe.training.testing import Crops

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predict:
    """Label new videos with a trained classifier, or a network with published weights.

    Flow, frames or trajectories are extracted exactly as those of the training clips. Probabilities
    are calibrated on held-out clips where the classifier was evaluated; otherwise they are the
    softmax of the scores, and a note says so. The exit status is 1 if videos failed.
    """

    classifier: Positional[Annotated[Path, arg(metavar="CLASSIFIER")]]
    """Output folder of idt-baseline, two-stream, evaluate, probe, fuse or train, or the folder of
    one of its splits; or, with --weights, a network and the classes that it knows, such as
    i3d-kinetics400."""
    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    weights: Annotated[
        str | None, arg(metavar="FILE", help_behavior_hint="(default: those of the classifier)")
    ] = None
    """Published weights, in place of a classifier of one's own: a file (.safetensors, .pth), or a
    name of torchvision's, such as KINETICS400_V1."""
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
    test_clips: Annotated[
        int | Literal["all"] | None,
        arg(metavar="N|all", help_behavior_hint="(default: as it was evaluated)"),
    ] = None
    """Number of snippets or clips of a video that a network sees, at equal steps; all: every frame
    once."""
    crops: Annotated[
        Crops | None, arg(metavar="1|3|10", help_behavior_hint="(default: as it was evaluated)")
    ] = None
    """Crops of each: the centre (1), three along the longer side (3), or corners, centre and their
    mirror images (10)."""
    amp: Annotated[
        Precision | None,
        arg(
            metavar="{auto,float32,bfloat16,float16}",
            help_behavior_hint="(default: as it was evaluated)",
        ),
    ] = None
    """Numbers that a network computes with; float16 takes a GPU. With bfloat16, processors that
    have it (AVX512-BF16, AMX) are faster, and scores change in the third digit."""
    device: str = "auto"
    """Device of a network: a GPU if there is one (auto), cpu, or a torch device such as cuda:1."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Part of the videos to label, the I-th of N, to divide a run among machines."""
    live: Annotated[str | None, arg(metavar="SOURCE", help_behavior_hint="(default: videos)")] = (
        None
    )
    """Label a camera (0 or /dev/video0), a network stream (rtsp://..., http://...), a named pipe or
    standard input (-), or a file at its own pace, in place of videos. A JSON object per label is
    written to the terminal."""
    overlay: Annotated[
        Path | None, arg(metavar="FILE", help_behavior_hint="(default: no video)")
    ] = None
    """File (.mp4) to write the frames of --live to, with their labels."""
    live_options: Annotated[Live, arg(name="")] = field(default_factory=Live)

    def run(self) -> int:
        """Label the videos."""
        from flowpipe.pipelines.predict import formatted, predict
        from flowpipe.prediction import load_classifier
        from flowpipe.prediction.load import with_views
        from flowpipe.runner import atomic

        if self.top < 1:
            raise ParameterError(f"top is {self.top}; it must be 1 or more")
        if self.live is not None:
            return self._run_live(self.live)
        self._refuse(("overlay", "live_options"), "it applies to --live SOURCE")
        classifier = load_classifier(self.classifier, device=self.device, weights=self.weights)
        classifier = with_views(classifier, self.test_clips, self.crops, self.amp)
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
            atomic.write_atomic(self.out, text.encode(), self.out.parent)
            atomic.remove_stale(self.out.parent)
        return 1 if found.failed else 0

    def _run_live(self, source: str) -> int:
        from flowpipe.io.stream import StreamError
        from flowpipe.pipelines.live import json_line, predict_live
        from flowpipe.prediction import load_classifier

        others = (
            "videos", "format", "out", "cache", "draw", "test_clips", "crops", "amp", "workers",
            "shard",
        )  # fmt: skip
        self._refuse(others, "with --live it must be left out")
        classifier = load_classifier(self.classifier, device=self.device, weights=self.weights)
        labels = predict_live(classifier, source, self.live_options, overlay=self.overlay)
        written = 0
        with closing(labels):
            try:
                for prediction in labels:
                    sys.stdout.write(json_line(prediction, self.top))
                    sys.stdout.flush()
                    written += 1
            except KeyboardInterrupt:
                return 0  # how a run on a camera ends
            except StreamError as error:
                if not written:
                    raise
                logger.error(f"flowpipe: {error}")
                return 1
        return 0

    def _refuse(self, names: tuple[str, ...], reason: str) -> None:
        """Raise a ParameterError if one of the options was given."""
        for each in fields(self):
            default = () if each.name == "videos" else each.default
            if each.default_factory is not MISSING:
                default = each.default_factory()
            value = getattr(self, each.name)
            if each.name in names and value != default:
                given = _changed(value, default) if is_dataclass(value) else (each.name, value)
                raise ParameterError(f"{given[0]} is {given[1]!r}; {reason}")


def _changed(value: Any, default: Any) -> tuple[str, Any]:
    """Return the first option of a group that differs from its default."""
    names = [each.name for each in fields(value)]
    name = next(name for name in names if getattr(value, name) != getattr(default, name))
    return name, getattr(value, name)
