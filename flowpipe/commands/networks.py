"""``train``, ``evaluate``, ``fuse`` and ``two-stream``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional, arg

from flowpipe._options import NameIn, Switch
from flowpipe.commands.options import (
    Lists,
    ProtocolName,
    Splits,
    WorkerOptions,
    frame_size,
    option_value,
    reporting_workers,
)
from flowpipe.datasets.load import KINDS
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.models.clip_input import Modality
from flowpipe.models.mae import Mae
from flowpipe.training.optimisation import Schedule
from flowpipe.training.parameters import Fusion, Preset, Stream, preset, pretraining
from flowpipe.training.runtime import Runtime, TrainingRuntime
from flowpipe.training.testing import Testing

DatasetPath = Positional[Annotated[Path, arg(metavar="DATASET")]]
FlowPath = Positional[Annotated[Path, arg(metavar="FLOW")]]
StreamOptions = Annotated[Stream, arg(name="")]
RuntimeOptions = Annotated[Runtime, arg(name="")]
TrainingRuntimeOptions = Annotated[TrainingRuntime, arg(name="")]
Pretraining = Literal["none", "mae"]


@dataclass(frozen=True)
class Train:
    """Train the network of one stream on the flow or the frames of a labelled set.

    There is one network for each split of the protocol. An interrupted run resumes from its last
    checkpoint. With several GPUs: torchrun --nproc-per-node N -m flowpipe train ...
    """

    videos: DatasetPath
    """Labelled set: its folder, or its list."""
    flow: FlowPath
    """Output folder of extract-flow (with --frames for rgb), flow of another tool, or, for rgb,
    folders of frames."""
    preset: Preset = "tsn"
    """Published parameters, which the other options change: temporal segment networks (tsn), as the
    authors of the chosen --model train it (published), the original two-stream networks
    (two-stream), from weights of ImageNet or Kinetics to sets of the size of UCF101 (finetune), or
    a ResNet-18 at 112 pixels from scratch, for small sets and machines without a GPU (small)."""
    stream: StreamOptions = field(default_factory=Stream)
    pretrain: Pretraining = "none"
    """Learn to predict hidden parts of the training clips, without their labels (mae), for networks
    that begin with --weights OUT; or learn the labels (none). With mae the options of training are
    VideoMAE's by default, whatever the preset."""
    mae: Annotated[Mae, arg(name="")] = field(default_factory=Mae)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """List files of the set, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested: the official splits of the set, leave one group out,
    K folds of whole groups (such as 5-fold), or a JSON file of splits. With --pretrain mae also
    none: all clips of the folder DATASET, which need no labels."""
    split: Splits = ()
    """Names of the splits to train for."""
    final: Switch = False
    """Also train a network on all clips, with which predict labels new videos."""
    also_videos: Annotated[Path | None, arg(metavar="DATASET", help_behavior_hint="")] = None
    """Second set, with splits of the same names, that shares all but the last layer."""
    also_flow: Annotated[Path | None, arg(metavar="FLOW", help_behavior_hint="")] = None
    """Flow of the second set."""
    out: Path = Path("stream")
    """Output folder. Each split has a folder with model.safetensors, log.csv and curves.png."""
    leave_out_unusable: Switch = False
    """Leave out clips that are missing, too short or damaged, in place of an error. Each is named
    with the reason."""
    runtime: TrainingRuntimeOptions = field(default_factory=TrainingRuntime)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> Train:
        """Return the command with the values of the preset that the arguments name."""
        stream = _preset(arguments, option_value(arguments, "--modality", "flow"))
        missing: Any = tyro.MISSING
        name: Any = option_value(arguments, "--preset", "tsn")
        return cls(missing, missing, preset=name, stream=stream)

    def run(self) -> int:
        """Train."""
        from flowpipe.pipelines.labelled import labelled_flow
        from flowpipe.pipelines.train import train_networks

        if (self.also_videos is None) != (self.also_flow is None):
            raise ParameterError("--also-videos and --also-flow go together")
        if self.pretrain == "mae":
            return self._pretrain()
        if self.mae != Mae():
            raise ParameterError(
                "--mask-ratio, --decoder-width, --decoder-depth and --decoder-heads apply to "
                "--pretrain mae"
            )
        sets = [labelled_flow(self.videos, self.flow, self.protocol, self.dataset, self.lists)]
        if self.also_videos is not None and self.also_flow is not None:
            sets.append(labelled_flow(self.also_videos, self.also_flow, self.protocol))
        train_networks(
            sets,
            self.stream,
            self.out,
            splits=self.split,
            final=self.final,
            runtime=self.runtime,
            leave_out_unusable=self.leave_out_unusable,
        )
        return 0

    def _pretrain(self) -> int:
        from flowpipe.pipelines.pretrain import pretrain

        if self.also_videos is not None:
            raise ParameterError("--also-videos applies to training on labels, not to --pretrain")
        pretrain(
            self.videos,
            self.flow,
            self.out,
            self.stream,
            self.mae,
            protocol=self.protocol,
            kind=self.dataset,
            lists=self.lists,
            splits=self.split,
            final=self.final,
            runtime=self.runtime,
            leave_out_unusable=self.leave_out_unusable,
        )
        return 0


@dataclass(frozen=True)
class Evaluate:
    """Score the test clips of every split with the networks of train."""

    models: Positional[Annotated[Path, arg(metavar="STREAM")]]
    """Output folder of train."""
    videos: DatasetPath
    """Labelled set: its folder, or its list."""
    flow: FlowPath
    """Output folder of extract-flow (with --frames for rgb), flow of another tool, or, for rgb,
    folders of frames."""
    testing: Annotated[Testing, arg(name="")] = field(default_factory=Testing)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """List files of the set, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested, as for train."""
    split: Splits = ()
    """Names of the splits to test."""
    task: int = 1
    """Which of the sets that the networks were trained on this one is, from 1."""
    out: Path = Path("scores")
    """Output folder, for scores.npz, metrics.json and the classifiers."""
    leave_out_unusable: Switch = False
    """Leave out clips that are missing, too short or damaged, in place of an error. Each is named
    with the reason."""
    runtime: RuntimeOptions = field(default_factory=Runtime)

    def run(self) -> int:
        """Evaluate, and print the accuracy."""
        from flowpipe.pipelines.evaluate import evaluate
        from flowpipe.pipelines.labelled import labelled_flow

        if self.task < 1:
            raise ParameterError(f"task is {self.task}; it must be 1 or more")
        tested = labelled_flow(self.videos, self.flow, self.protocol, self.dataset, self.lists)
        evaluate(
            self.models,
            tested.dataset,
            self.flow,
            self.out,
            self.testing,
            protocol=tested.protocol,
            splits=self.split,
            task=self.task,
            runtime=self.runtime,
            leave_out_unusable=self.leave_out_unusable,
        )
        return 0


@dataclass(frozen=True)
class Fuse:
    """Add the scores of streams, of networks and of trajectories, and report the accuracy."""

    scores: Positional[Annotated[tuple[str, ...], arg(metavar="SCORES.npz[:WEIGHT]")]]
    """Files of scores with their weights, such as: fuse rgb.npz:1 flow.npz:1.5 idt.npz:0.5"""
    softmax: Switch = False
    """Add probabilities in place of the scores before the softmax."""
    out: Path = Path("fused")
    """Output folder, for fused.npz, metrics.json, report.html and the fused classifiers."""

    def run(self) -> int:
        """Fuse, and print a table."""
        from flowpipe.pipelines.fuse import fuse

        fuse(self.scores, self.out, softmax=self.softmax)
        return 0


@dataclass(frozen=True)
class TwoStream:
    """Classify a labelled set of videos by two networks, on RGB frames and on flow, and report.

    Extracts flow and frames, trains both networks for every split, tests and fuses them. An
    interrupted run resumes. A changed setting recomputes only what depends on it.
    """

    videos: DatasetPath
    """Labelled set: its folder, or its list."""
    preset: Preset = "tsn"
    """Published parameters of both networks, which the options --rgb.* and --flow.* change."""
    rgb: Stream = field(default_factory=Stream)
    flow: Stream = field(default_factory=Stream)
    testing: Annotated[Testing, arg(name="")] = field(default_factory=Testing)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """List files of the set, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested, as for train."""
    split: Splits = ()
    """Names of the splits to train and test."""
    final: Switch = False
    """Also train both networks on all clips, with which predict labels new videos."""
    fusion: Annotated[Fusion, arg(name="")] = field(default_factory=Fusion)
    idt: Annotated[Path | None, arg(metavar="SCORES.npz", help_behavior_hint="")] = None
    """Scores of idt-baseline with the same protocol, which join the fusion."""
    out: Path = Path("two-stream")
    """Output folder: metrics.json, fused.npz, report.html, and a folder per stage."""
    frame_size: Annotated[
        str | None, arg(metavar="WxH", help_behavior_hint="(default: 340x256)")
    ] = None
    """Width and height of frames and flow, in pixels."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver of TV-L1; see flowpipe doctor."""
    tvl1: Tvl1 = field(default_factory=Tvl1)
    leave_out_unusable: Switch = False
    """Leave out clips that are too short or damaged, in place of an error. Each is named with the
    reason."""
    runtime: TrainingRuntimeOptions = field(default_factory=TrainingRuntime)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    @classmethod
    def defaults(cls, arguments: Sequence[str]) -> TwoStream:
        """Return the command with the values of the preset that the arguments name."""
        missing: Any = tyro.MISSING
        name: Any = option_value(arguments, "--preset", "tsn")
        streams = [_preset(arguments, modality, prefix=f"{modality}.") for modality in _STREAMS]
        return cls(missing, preset=name, rgb=streams[0], flow=streams[1])

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.two_stream import two_stream

        for name, stream in (("rgb", self.rgb), ("flow", self.flow)):
            if stream.clip.modality != name:
                raise ParameterError(
                    f"--{name}.modality is {stream.clip.modality!r}; it must be {name}"
                )
        stage = FlowStage(
            parameters=self.tvl1,
            backend=self.backend,
            size=frame_size(self.frame_size, None, "340x256"),
            frames=True,
        )
        two_stream(
            load_dataset(self.videos, self.dataset, self.lists),
            self.out,
            self.protocol,
            stage,
            {"rgb": self.rgb, "flow": self.flow},
            self.testing,
            fusion=self.fusion,
            idt=self.idt,
            splits=self.split,
            final=self.final,
            runtime=self.runtime,
            workers=self.workers,
            leave_out_unusable=self.leave_out_unusable,
        )
        return 0


_STREAMS = ("rgb", "flow")


def _preset(arguments: Sequence[str], modality: str, prefix: str = "") -> Stream:
    """Return the preset that the arguments name; tyro reports a name that is wrong."""
    name: Any = option_value(arguments, "--preset", "tsn")
    model = option_value(arguments, f"--{prefix}model", "tsn")
    seen: Any = modality
    if name not in get_args(Preset) or seen not in get_args(Modality):
        return Stream()
    stream = preset(name, seen, model)
    if not prefix and option_value(arguments, "--pretrain", "none") == "mae":
        stream = pretraining(stream)
    # Options whose value determines what others are by default.
    deciding: dict[str, Any] = {}
    if weights := option_value(arguments, f"--{prefix}weights", ""):
        deciding["weights"] = weights
    schedule = option_value(arguments, f"--{prefix}schedule", "")
    if schedule in get_args(Schedule):
        deciding["schedule"] = schedule
    if _is_zero(option_value(arguments, f"--{prefix}backbone-rate", "")):
        deciding["backbone_rate"] = 0.0
    return stream.changed(**deciding)


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False
