"""``train-detector``, ``evaluate-detector`` and ``detect``."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional, arg

from flowpipe._options import NameIn, Switch
from flowpipe.classify.finding import Finding, sliding
from flowpipe.commands.options import Inputs, ProtocolName, Splits, option_value
from flowpipe.datasets.intervals.load import INTERVAL_SETS
from flowpipe.datasets.load import AUTO
from flowpipe.models.detectors import DETECTORS
from flowpipe.training.detection.parameters import (
    DetectorPreset,
    DetectorTraining,
    detector_preset,
)

_KINDS: Mapping[str, object] = ChainMap[str, Any](INTERVAL_SETS, {AUTO: None})

IntervalsPath = Positional[Annotated[Path, arg(name="intervals", metavar="SET")]]
FeatureFolders = Positional[Annotated[tuple[Path, ...], arg(metavar="FEATURES")]]


@dataclass(frozen=True)
class TrainDetector:
    """Train detectors on the features of videos with labelled intervals.

    There is one detector for each split of the protocol. An interrupted run resumes from its last
    checkpoint.
    """

    dataset: IntervalsPath
    """Videos with labelled intervals: a CSV file with the header path,start,end,label, a file of
    ActivityNet or THUMOS, or a folder that holds one of these."""
    features: FeatureFolders
    """Output folders of features; several, such as of frames and of flow, are joined."""
    preset: DetectorPreset = "small"
    """Parameters, which the other options change: for sets of some thousand steps on a CPU (small),
    or as the authors train OadTR on THUMOS (published)."""
    parameters: Annotated[DetectorTraining, arg(name="")] = field(default_factory=DetectorTraining)
    videos: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: beside the set)")
    ] = None
    """Folder of the videos."""
    kind: Annotated[str, NameIn(_KINDS)] = AUTO
    """Kind of the set; auto tells it from the file."""
    protocol: ProtocolName = None
    """Which videos train and which are tested: the official splits of the set, leave one group out,
    K folds of whole groups (such as 5-fold), or a JSON file of splits."""
    split: Splits = ()
    """Names of the splits to train for."""
    final: Switch = False
    """Also train a detector on all videos, with which detect finds intervals in new videos."""
    networks: Annotated[
        tuple[Path, ...], arg(metavar="FILE|DIR", help_behavior_hint="(default: none)")
    ] = ()
    """Networks that the features come from, files of weights or output folders of train, which are
    kept with the detectors: detect computes features of new videos by them."""
    out: Path = Path("detector")
    """Output folder. Each split has a folder with detector.safetensors, log.csv and curves.png."""
    leave_out_unusable: Switch = False
    """Leave out videos without features, or with damaged ones, in place of an error."""
    device: str = "auto"
    """Device of the detector: a GPU if there is one (auto), cpu, or a torch device."""
    checkpoint_every: Annotated[int, arg(metavar="STEPS")] = 200
    """Number of training steps between checkpoints."""

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> TrainDetector:
        """Return the command with the values of the preset that the arguments name."""
        missing: Any = tyro.MISSING
        name: Any = option_value(arguments, "--preset", "small")
        model = option_value(arguments, "--model", "oadtr")
        if name not in get_args(DetectorPreset) or model not in DETECTORS:
            return cls(missing, missing)
        return cls(missing, missing, preset=name, parameters=detector_preset(name, model))

    def run(self) -> int:
        """Train."""
        from flowpipe.pipelines.train_detector import train_detector

        train_detector(
            self.dataset,
            self.features,
            self.out,
            self.parameters,
            protocol=self.protocol,
            splits=self.split,
            final=self.final,
            networks=self.networks,
            videos=self.videos,
            kind=self.kind,
            leave_out_unusable=self.leave_out_unusable,
            device=self.device,
            checkpoint_every=self.checkpoint_every,
        )
        return 0


@dataclass(frozen=True)
class EvaluateDetector:
    """Score the test videos of every split with its detector, in one pass, and find intervals."""

    detector: Positional[Annotated[Path, arg(metavar="DETECTOR")]]
    """Output folder of train-detector."""
    dataset: IntervalsPath
    """Videos with labelled intervals, as for train-detector."""
    features: FeatureFolders
    """Output folders of features, in the order of train-detector."""
    finding: Annotated[Finding, arg(name="")] = field(default_factory=sliding)
    videos: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: beside the set)")
    ] = None
    """Folder of the videos."""
    kind: Annotated[str, NameIn(_KINDS)] = AUTO
    """Kind of the set; auto tells it from the file."""
    protocol: ProtocolName = None
    """Which videos train and which are tested, as for train-detector."""
    split: Splits = ()
    """Names of the splits to test."""
    out: Path = Path("detector-scores")
    """Output folder, for scores.npz, metrics.json and report.html."""
    leave_out_unusable: Switch = False
    """Leave out videos without features, or with damaged ones, in place of an error."""
    device: str = "auto"
    """Device of the detector: a GPU if there is one (auto), cpu, or a torch device."""

    def run(self) -> int:
        """Evaluate, and print the mean average precisions."""
        from flowpipe.pipelines.evaluate_detector import evaluate_detector

        evaluate_detector(
            self.detector,
            self.dataset,
            self.features,
            self.out,
            self.finding,
            protocol=self.protocol,
            splits=self.split,
            videos=self.videos,
            kind=self.kind,
            leave_out_unusable=self.leave_out_unusable,
            device=self.device,
        )
        return 0


@dataclass(frozen=True)
class Detect:
    """Find intervals of actions in new videos, frame by frame, with a trained detector.

    Flow and features are computed as those of the training. Each interval is written as soon as it
    is over. The exit status is 1 if videos failed.
    """

    detector: Positional[Annotated[Path, arg(metavar="DETECTOR")]]
    """Output folder of train-detector, with the networks of its features (--networks), or the
    folder of one of its splits."""
    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    finding: Annotated[Finding, arg(name="")] = field(default_factory=Finding)
    format: Literal["csv", "jsonl"] = "csv"
    """How intervals are written to the terminal: as CSV, or as a JSON object per line."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: none)")] = None
    """Folder for intervals.csv, intervals.json, and report.html with frames and a time line of each
    video."""
    device: str = "auto"
    """Device of the networks: a GPU if there is one (auto), cpu, or a torch device."""

    def run(self) -> int:
        """Find the intervals, and write each when it is over."""
        from flowpipe.pipelines.detect import HEADER, detect, line

        if self.format == "csv":
            print(HEADER, flush=True)
        detections = detect(
            self.detector,
            self.videos,
            self.out,
            self.finding,
            device=self.device,
            found=lambda clip, found: print(line(clip, found, self.format), end="", flush=True),
        )
        return 1 if detections.failed else 0
