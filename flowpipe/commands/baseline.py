"""``idt-baseline``, ``encode`` and ``classify``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpipe.classify.parameters import Svm
from flowpipe.commands.options import WorkerOptions, frame_size, reporting_workers
from flowpipe.datasets.load import Kind
from flowpipe.encoding.parameters import Encoding

DatasetPath = Positional[Annotated[Path, arg(metavar="DATASET")]]
Lists = Annotated[tuple[Path, ...], arg(metavar="FILE", help_behavior_hint="(default: its own)")]
ProtocolName = Annotated[
    str | None,
    arg(
        metavar="official|loo|K-fold|FILE",
        help_behavior_hint="(default: official splits, or loo where there are none)",
    ),
]


@dataclass(frozen=True)
class IdtBaseline:
    """Classify a labelled set of videos by (improved) dense trajectories, and report how well.

    Computes trajectories, Fisher vectors or bags of words, and SVMs. An interrupted run resumes.
    A changed setting recomputes only what depends on it. The exit status is 1 if clips failed.
    """

    videos: DatasetPath
    """The set: its folder, or its list."""
    dataset: Kind = "auto"
    """What the set is; auto tells from its folder."""
    lists: Lists = ()
    """Its list files, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested: the set's official splits, leave one group out, K
    folds of whole groups (such as 5-fold), or a JSON file of splits (docs/encoding.md)."""
    out: Path = Path("idt-baseline")
    """Folder for everything: metrics.json, scores.npz, report.html, and a folder a stage."""
    kind: Literal["idt", "dt"] = "idt"
    """Improved dense trajectories, or plain ones."""
    size: Annotated[str | None, arg(metavar="WxH")] = None
    """Width and height of the frames, in pixels; without a size each video's own."""
    short_side: Annotated[int | None, arg(metavar="N")] = None
    """Scale to this short side in pixels, keeping the aspect ratio, instead of --size."""
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    svm: Annotated[Svm, arg(name="")] = field(default_factory=Svm)
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Extract the trajectories of the I-th of N parts of the clips only, and stop. It divides this
    work among machines; a run without --shard then does the rest."""

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe.datasets.load import load
        from flowpipe.pipelines.idt_baseline import idt_baseline
        from flowpipe.trajectories.parameters import TrajectoryParameters
        from flowpipe.trajectories.stage import TrajectoryStage

        dataset = load(self.dataset, self.videos, self.lists)
        stage = TrajectoryStage(
            TrajectoryParameters(kind=self.kind), size=frame_size(self.size, self.short_side)
        )
        result = idt_baseline(
            dataset,
            self.out,
            self.protocol,
            stage,
            self.encoding,
            self.svm,
            workers=self.workers,
            shard=self.shard,
        )
        return 1 if result.failed else 0


@dataclass(frozen=True)
class Encode:
    """Turn the trajectories of a labelled set into vectors, fitted to the training clips alone.

    Writes the encoders, a vector per clip and descriptor, and the kernels of every split.
    """

    videos: DatasetPath
    """The set: its folder, or its list."""
    trajectories: Positional[Annotated[Path, arg(metavar="TRAJECTORIES")]]
    """Folder of extract-trajectories."""
    dataset: Kind = "auto"
    """What the set is; auto tells from its folder."""
    lists: Lists = ()
    """Its list files, where they are not in their usual place."""
    protocol: ProtocolName = None
    """Which clips train and which are tested; see idt-baseline."""
    out: Path = Path("vectors")
    """Output folder. Its stage.json says how the vectors in it were made."""
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Encode, and print a summary."""
        from flowpipe.classify.protocols import choose
        from flowpipe.datasets.load import load
        from flowpipe.pipelines.encode import encode

        dataset = load(self.dataset, self.videos, self.lists)
        return encode(
            dataset.clips,
            choose(dataset, self.protocol),
            self.trajectories,
            self.out,
            self.encoding,
            root=self.videos if self.videos.is_dir() else self.videos.parent,
            workers=self.workers,
        ).exit_status


@dataclass(frozen=True)
class Classify:
    """Train SVMs on the encoded clips of each split and evaluate them on its test clips."""

    vectors: Positional[Annotated[Path, arg(metavar="VECTORS")]]
    """Folder of encode."""
    out: Path = Path("scores")
    """Folder for metrics.json, scores.npz and report.html."""
    svm: Annotated[Svm, arg(name="")] = field(default_factory=Svm)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Classify, and print the accuracies."""
        from flowpipe.pipelines.classify import classify

        classify(
            self.vectors,
            self.out,
            self.svm,
            title=self.vectors.absolute().name,
            workers=self.workers,
        )
        return 0
