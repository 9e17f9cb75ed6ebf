"""``train-stream``, ``test-stream``, ``fuse`` and ``two-stream``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpipe._options import NameIn
from flowpipe.commands.options import WorkerOptions, frame_size, reporting_workers
from flowpipe.datasets.load import KINDS
from flowpipe.errors import ParameterError
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.runner.pool import default_jobs

if TYPE_CHECKING:
    from flowpipe.pipelines.streams import LabelledFlow, Machine
    from flowpipe.training.parameters import Stream

DatasetPath = Positional[Annotated[Path, arg(metavar="DATASET")]]
FlowPath = Positional[Annotated[Path, arg(metavar="FLOW")]]
Lists = Annotated[tuple[Path, ...], arg(metavar="FILE", help_behavior_hint="(default: its own)")]
ProtocolName = Annotated[
    str | None,
    arg(
        metavar="official|loo|K-fold|FILE",
        help_behavior_hint="(default: official splits, or loo where there are none)",
    ),
]
Splits = Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")]
Preset = Literal["tsn", "two-stream", "small"]
Modality = Literal["rgb", "flow", "rgb-diff", "warped-flow"]


_OF_PRESET = "(default: the preset's)"


@dataclass(frozen=True)
class StreamOptions:
    """What differs from the preset."""

    backbone: Annotated[str | None, arg(metavar="NAME", help_behavior_hint=_OF_PRESET)] = None
    """A classification network of torchvision, such as resnet18, vgg16, efficientnet_b0 or
    mobilenet_v3_small, or cnn-m-2048."""
    weights: Annotated[str | None, arg(metavar="NAME|FILE|none", help_behavior_hint=_OF_PRESET)] = (
        None
    )
    """To begin with: none, torchvision's by name (default: its best), or a file (.pth,
    .safetensors, or model.npz of another stream)."""
    batch_norm: Annotated[
        Literal["train", "partial", "frozen"] | None, arg(help_behavior_hint=_OF_PRESET)
    ] = None
    """Which normalisations learn: all, the first only, or none."""
    dropout: Annotated[float | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Part of the features that is dropped before the last layer."""
    consensus: Annotated[
        Literal["average", "max", "attention"] | None, arg(help_behavior_hint=_OF_PRESET)
    ] = None
    """Of the segments' scores."""
    segments: Annotated[int | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Segments of a clip; each gives a snippet in training."""
    length: Annotated[int | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Flow fields, frames or differences of a snippet."""
    size: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint=_OF_PRESET)] = None
    """Side of the network's input."""
    stacking: Annotated[
        Literal["flow", "trajectory"] | None, arg(help_behavior_hint=_OF_PRESET)
    ] = None
    """Of flow: the same pixel in all fields, or along the trajectory from it."""
    subtract_mean: Annotated[bool | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Of flow: take its mean out of every field, and with it most of the camera's motion."""
    epochs: Annotated[int | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Times that every clip is seen."""
    batch_size: Annotated[int | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Clips of a step, over all processes."""
    lr: Annotated[float | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Learning rate, to begin with."""
    milestones: Annotated[tuple[float, ...] | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Parts of the epochs after which the learning rate is divided by 10."""
    clip: Annotated[float | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Largest norm of the gradient; 0 for no limit."""
    weight_decay: Annotated[float | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Of weights."""
    conv1_lr: Annotated[float | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Learning rate of the first convolution, times that of others."""
    spread_classes: Annotated[bool | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Have every batch hold all classes, for small batches of few classes."""
    seed: Annotated[int | None, arg(help_behavior_hint=_OF_PRESET)] = None
    """Everything random follows from it."""

    def stream(self, preset: Preset, modality: Modality) -> Stream:
        """The preset with these changes."""
        from flowpipe.training import parameters

        base = parameters.preset(preset, modality)
        given = {name: value for name, value in vars(self).items() if value is not None}
        if given.get("weights") == "none" and "batch_norm" not in given:
            given["batch_norm"] = "train"  # there are no statistics to freeze
        if given.get("clip") == 0:
            given["clip"] = None
        groups = {
            "snippets": ("segments", "length", "size", "stacking", "subtract_mean"),
            "network": ("backbone", "dropout", "consensus", "batch_norm"),
            "training": (
                "epochs", "batch_size", "lr", "milestones", "clip", "weight_decay", "conv1_lr",
                "spread_classes", "seed",
            ),
        }  # fmt: skip
        changed = {
            group: replace(
                getattr(base, group), **{name: given[name] for name in names if name in given}
            )
            for group, names in groups.items()
        }
        return replace(base, weights=given.get("weights", base.weights), **changed)


@dataclass(frozen=True)
class MachineOptions:
    """Where networks run; nothing of it changes the result."""

    device: str = "auto"
    """auto (a GPU where there is one), cpu, or a torch device such as cuda:1."""
    workers: Annotated[int | None, arg(help_behavior_hint="(default: 1, all for a GPU)")] = None
    """Processes that read and transform clips. 0 does it in this one."""

    def machine(self, *, every: int = 200, tensorboard: bool = False) -> Machine:
        """With the number of workers that suits the device."""
        from flowpipe.pipelines.streams import Machine
        from flowpipe.training.distributed import pick_device
        from flowpipe.training.train import Loading

        workers = self.workers
        if workers is None:
            workers = default_jobs() if pick_device(self.device).type == "cuda" else 1
        if workers < 0 or every < 1:
            raise ParameterError(
                f"workers is {workers} and checkpoint_every is {every}; "
                "they must be 0 or more, and 1 or more"
            )
        return Machine(self.device, Loading(workers, every), tensorboard)


@dataclass(frozen=True)
class TrainStream:
    """Train the network of one stream on the flow or the frames of a labelled set.

    One network for each split of the protocol. A run that was interrupted goes on from its last
    checkpoint. Several GPUs: torchrun --nproc-per-node N -m flowpipe train-stream ...
    """

    videos: DatasetPath
    """The set: its folder, or its list."""
    flow: FlowPath
    """Folder of extract-flow (with --frames for rgb)."""
    stream: Modality = "flow"
    """What the network sees; warped-flow is a folder of flow without the camera's motion."""
    preset: Preset = "tsn"
    """Temporal segment networks, the original two-stream networks, or small: ResNet-18 at 112
    pixels from scratch, for small sets and CPUs. What follows changes it."""
    options: Annotated[StreamOptions, arg(name="")] = field(default_factory=StreamOptions)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """The kind of set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """Its list files, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train: the set's official splits, leave one group out, K folds of whole groups
    (such as 5-fold), or a JSON file of splits."""
    split: Splits = ()
    """Train for these splits only."""
    also_videos: Annotated[Path | None, arg(metavar="DATASET")] = None
    """A second set, with splits of the same names, that shares all but the last layer."""
    also_flow: Annotated[Path | None, arg(metavar="FLOW")] = None
    """Its flow."""
    out: Path = Path("stream")
    """Output folder: stage.json, and model.npz, log.csv and curves.png for each split."""
    machine: Annotated[MachineOptions, arg(name="")] = field(default_factory=MachineOptions)
    checkpoint_every: Annotated[int, arg(metavar="STEPS")] = 200
    """Steps from one checkpoint to the next."""
    tensorboard: bool = False
    """Also write the curves for TensorBoard."""

    def run(self) -> int:
        """Train."""
        from flowpipe.pipelines.streams import train_stream

        if (self.also_videos is None) != (self.also_flow is None):
            raise ParameterError("--also-videos and --also-flow go together")
        sets = [_labelled(self.videos, self.flow, self.dataset, self.lists, self.protocol)]
        if self.also_videos is not None and self.also_flow is not None:
            sets.append(_labelled(self.also_videos, self.also_flow, "auto", (), self.protocol))
        train_stream(
            sets,
            self.options.stream(self.preset, self.stream),
            self.out,
            splits=self.split,
            machine=self.machine.machine(every=self.checkpoint_every, tensorboard=self.tensorboard),
        )
        return 0


@dataclass(frozen=True)
class TestStream:
    """Score the test clips of every split with the networks of train-stream."""

    videos: DatasetPath
    """The set: its folder, or its list."""
    flow: FlowPath
    """Folder of extract-flow (with --frames for rgb)."""
    models: Positional[Annotated[Path, arg(metavar="STREAM")]]
    """Folder of train-stream."""
    segments: int = 25
    """Snippets of a clip, at equal steps."""
    crops: Literal[1, 10] = 10
    """10: corners, centre and their mirror images; 1: the centre."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """The kind of set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """Its list files, where they are not in their usual place."""
    protocol: ProtocolName = None
    """As for train-stream."""
    split: Splits = ()
    """Test these splits only."""
    task: int = 1
    """Which of the sets that the networks were trained on this is."""
    out: Path = Path("scores")
    """Folder for scores.npz and metrics.json."""
    machine: Annotated[MachineOptions, arg(name="")] = field(default_factory=MachineOptions)

    def run(self) -> int:
        """Test, and print the accuracy."""
        from flowpipe.pipelines.streams import score_stream
        from flowpipe.training.evaluate import Testing

        if self.task < 1:
            raise ParameterError(f"task is {self.task}; it must be 1 or more")
        score_stream(
            self.models,
            _labelled(self.videos, self.flow, self.dataset, self.lists, self.protocol),
            Testing(self.segments, self.crops),
            self.out,
            number=self.task - 1,
            splits=self.split,
            machine=self.machine.machine(),
        )
        return 0


@dataclass(frozen=True)
class Fuse:
    """Add up the scores of streams, of networks and of trajectories, and say how good they are."""

    scores: Positional[Annotated[tuple[str, ...], arg(metavar="SCORES.npz[:WEIGHT]")]]
    """Any number, such as: fuse rgb.npz:1 flow.npz:1.5 idt.npz:0.5"""
    softmax: bool = False
    """Add probabilities instead of the scores before the softmax."""
    out: Path = Path("fused")
    """Folder for fused.npz, metrics.json and report.html."""

    def run(self) -> int:
        """Fuse, and print a table."""
        from flowpipe.classify.fusion import read_part
        from flowpipe.pipelines.twostream import fuse_streams

        parts = [read_part(text) for text in self.scores]
        fuse_streams(parts, self.out, probabilities=self.softmax)
        return 0


@dataclass(frozen=True)
class TwoStream:
    """Classify a labelled set of videos by two networks, on frames and on flow, and report.

    Extracts flow and frames, trains both streams for every split, tests and fuses them. Runs that
    were interrupted go on where they stopped, and a changed setting makes anew only what follows
    from it.
    """

    videos: DatasetPath
    """The set: its folder, or its list."""
    preset: Preset = "tsn"
    """See train-stream."""
    both: Annotated[StreamOptions, arg(name="")] = field(default_factory=StreamOptions)
    rgb: StreamOptions = field(default_factory=StreamOptions)
    flow: StreamOptions = field(default_factory=StreamOptions)
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """The kind of set; auto tells it from the folder, or says what to choose from."""
    lists: Lists = ()
    """Its list files, where they are not in their usual place."""
    protocol: ProtocolName = None
    """As for train-stream."""
    split: Splits = ()
    """Train and test for these splits only."""
    test_segments: int = 25
    """Snippets of a clip in tests."""
    test_crops: Literal[1, 10] = 10
    """Crops of a snippet in tests."""
    weights_of_fusion: tuple[float, float, float] = (1.0, 1.5, 1.0)
    """Weights of the scores of frames, flow and trajectories."""
    softmax: bool = False
    """Fuse probabilities instead of the scores before the softmax."""
    idt: Annotated[Path | None, arg(metavar="SCORES.npz")] = None
    """Scores of idt-baseline with the same protocol, which join the fusion."""
    out: Path = Path("two-stream")
    """Folder for everything: metrics.json, fused.npz, report.html, and a folder a stage."""
    frame_size: Annotated[
        str | None, arg(metavar="WxH", help_behavior_hint="(default: 340x256)")
    ] = None
    """Width and height of frames and flow."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver of TV-L1. See: flowpipe doctor."""
    tvl1: Tvl1 = field(default_factory=Tvl1)
    machine: Annotated[MachineOptions, arg(name="")] = field(default_factory=MachineOptions)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe.classify.protocols import protocol as choose_protocol
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.twostream import Fusion, two_stream
        from flowpipe.training.evaluate import Testing

        streams = {}
        for name, own in (("rgb", self.rgb), ("flow", self.flow)):
            given = {key: value for key, value in vars(own).items() if value is not None}
            options = replace(self.both, **given)
            streams[name] = options.stream(self.preset, "rgb" if name == "rgb" else "flow")
        dataset = load_dataset(self.videos, self.dataset, self.lists)
        stage = FlowStage(
            parameters=self.tvl1,
            backend=solvers.choose(self.backend, "tvl1"),
            size=frame_size(self.frame_size, None, "340x256"),
            frames=True,
        )
        return two_stream(
            dataset,
            choose_protocol(dataset, self.protocol),
            self.out,
            stage,
            streams,
            Testing(self.test_segments, self.test_crops),
            fusion=Fusion(*self.weights_of_fusion, probabilities=self.softmax),
            idt=self.idt,
            splits=self.split,
            machine=self.machine.machine(),
            workers=self.workers,
        )


def _labelled(
    videos: Path, flow: Path, kind: str, lists: tuple[Path, ...], protocol: str | None
) -> LabelledFlow:
    from flowpipe.classify.protocols import protocol as choose_protocol
    from flowpipe.datasets.load import load_dataset, with_stored
    from flowpipe.flow.store import stored_clips
    from flowpipe.pipelines.streams import LabelledFlow

    dataset = load_dataset(videos, kind, lists, videos=False)
    dataset = with_stored(dataset, [clip.name for clip in stored_clips(flow)])
    return LabelledFlow(dataset, choose_protocol(dataset, protocol), flow)
