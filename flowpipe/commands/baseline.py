"""``idt-baseline``, ``tdd-baseline``, ``encode`` and ``classify``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import NameIn, Switch
from flowpipe.classify.parameters import Svm
from flowpipe.commands.options import Splits, WorkerOptions, frame_size, reporting_workers
from flowpipe.commands.trajectories import ShortSideOption, SizeOption
from flowpipe.datasets.load import KINDS
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import ParameterError
from flowpipe.trajectories.parameters import TrajectoryStage

DatasetPath = Positional[Annotated[Path, arg(metavar="DATASET")]]
Lists = Annotated[
    tuple[Path, ...], arg(metavar="FILE", help_behavior_hint="(default: those of the data set)")
]
ProtocolName = Annotated[
    str | None,
    arg(
        metavar="official|loo|K-fold|FILE",
        help_behavior_hint="(default: official splits, or loo where there are none)",
    ),
]


@dataclass(frozen=True)
class IdtBaseline:
    """Classify a labelled data set by its (improved) dense trajectories, and report the accuracy.

    Extracts trajectories, encodes them as Fisher vectors or bags of words, and trains SVMs. An
    interrupted run resumes. A changed setting recomputes only what depends on it. The exit status
    is 1 if clips failed.
    """

    videos: DatasetPath
    """Data set: its folder, or its list."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the data set; auto recognizes it by its folder."""
    lists: Lists = ()
    """List files of the data set, if they are not in their usual place."""
    protocol: ProtocolName = None
    """Training and test clips: the official splits, leave one group out, K folds of whole groups
    (such as 5-fold), or a JSON file of splits (docs/encoding.md)."""
    out: Path = Path("idt-baseline")
    """Output folder: metrics.json, scores.npz, report.html, and a folder per stage."""
    frame_size: SizeOption = None
    """Width and height that frames are resized to, in pixels."""
    short_side: ShortSideOption = None
    """Length in pixels that the short side of frames is resized to, instead of --frame-size."""
    stage: Annotated[TrajectoryStage, arg(name="")] = field(default_factory=TrajectoryStage)
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    svm: Annotated[Svm, arg(name="")] = field(default_factory=Svm)
    final: Switch = False
    """Also fit a classifier to all clips, with which predict labels new videos."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Only extract the trajectories of the I-th of N parts of the clips, to divide this work among
    machines; a run without --shard then does the rest."""

    def run(self) -> int:
        """Run the pipeline."""
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.idt_baseline import idt_baseline

        stage = replace(self.stage, size=frame_size(self.frame_size, self.short_side))
        result = idt_baseline(
            load_dataset(self.videos, self.dataset, self.lists),
            self.out,
            self.protocol,
            stage,
            self.encoding,
            self.svm,
            final=self.final,
            workers=self.workers,
            shard=self.shard,
        )
        return 1 if result.failed else 0


@dataclass(frozen=True)
class TddBaseline:
    """Classify a labelled data set by maps of networks, pooled along its improved trajectories.

    Extracts trajectories, pools the maps of features --maps along them (TDD), encodes them as
    Fisher vectors, trains SVMs, and adds the scores of the trajectories' own descriptors. An
    interrupted run resumes. The exit status is 1 if clips failed.
    """

    videos: DatasetPath
    """Data set: its folder, or its list."""
    maps: Annotated[tuple[Path, ...], arg(metavar="DIR")]
    """Folders of features --maps, one for each layer and size of the frames; those of a network on
    frames and of one on flow. The networks must not have been trained on test clips."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the data set; auto recognizes it by its folder."""
    lists: Lists = ()
    """List files of the data set, if they are not in their usual place."""
    protocol: ProtocolName = None
    """Training and test clips, as for idt-baseline."""
    split: Splits = ()
    """Names of the splits to run, such as the one that the networks of the maps were trained on."""
    out: Path = Path("tdd-baseline")
    """Output folder: metrics.json, fused.npz, report.html, and a folder per stage."""
    frame_size: SizeOption = None
    """Width and height that frames are resized to, in pixels."""
    short_side: ShortSideOption = None
    """Length in pixels that the short side of frames is resized to, instead of --frame-size."""
    stage: Annotated[TrajectoryStage, arg(name="")] = field(default_factory=TrajectoryStage)
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    svm: Annotated[Svm, arg(name="")] = field(default_factory=Svm)
    no_idt: Switch = False
    """Leave out the scores of the trajectories' own descriptors, which are added otherwise."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Run all stages."""
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.tdd_baseline import tdd_baseline

        result = tdd_baseline(
            load_dataset(self.videos, self.dataset, self.lists),
            self.maps,
            self.out,
            self.protocol,
            replace(self.stage, size=frame_size(self.frame_size, self.short_side)),
            self.encoding,
            self.svm,
            splits=self.split,
            idt=not self.no_idt,
            workers=self.workers,
        )
        return 1 if result.failed else 0


@dataclass(frozen=True)
class Encode:
    """Encode the trajectories of a labelled data set, with encoders fitted to training clips only.

    Writes the encoders, a vector per clip and descriptor, and the kernels of every split.
    """

    videos: DatasetPath
    """Data set: its folder, or its list."""
    trajectories: Positional[Annotated[Path, arg(metavar="TRAJECTORIES")]]
    """Folder of extract-trajectories."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the data set; auto recognizes it by its folder."""
    lists: Lists = ()
    """List files of the data set, if they are not in their usual place."""
    protocol: ProtocolName = None
    """Training and test clips, as for idt-baseline."""
    out: Path = Path("vectors")
    """Output folder."""
    encoding: Annotated[Encoding, arg(name="")] = field(default_factory=Encoding)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Encode clips."""
        from flowpipe.classify.protocols import protocol
        from flowpipe.datasets.load import load_dataset, record_dataset
        from flowpipe.pipelines.encode import encode

        dataset = load_dataset(self.videos, self.dataset, self.lists)
        summary = encode(
            dataset.clips,
            protocol(dataset, self.protocol),
            self.trajectories,
            self.out,
            self.encoding,
            workers=self.workers,
        )
        record_dataset(dataset, self.out)
        return summary.exit_status


@dataclass(frozen=True)
class Classify:
    """Train SVMs on the training clips of each split and evaluate them on its test clips.

    The clips are those that encode has encoded or, with --features, of a data set whose features
    are there.
    """

    vectors: Positional[Annotated[Path, arg(metavar="VECTORS|DATASET")]]
    """Folder of encode; with --features a data set, its folder or its list."""
    features: Annotated[
        tuple[Path, ...], arg(metavar="DIR", help_behavior_hint="(default: vectors of encode)")
    ] = ()
    """Folders of the command features, whose means over time a linear SVM classifies."""
    dataset: Annotated[str, NameIn(KINDS)] = "auto"
    """Kind of the data set, with --features; auto recognizes it by its folder."""
    lists: Lists = ()
    """List files of the data set, with --features, if they are not in their usual place."""
    protocol: ProtocolName = None
    """Training and test clips, with --features, as for idt-baseline."""
    leave_out_unusable: Switch = False
    """Leave out clips without features, with --features, in place of an error. Each is named with
    the reason."""
    out: Path = Path("scores")
    """Output folder, with metrics.json, scores.npz and, of vectors, report.html."""
    svm: Annotated[Svm, arg(name="")] = field(default_factory=Svm)
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Train and evaluate."""
        if self.features:
            self._of_features()
            return 0
        from flowpipe.pipelines.classify import classify

        for name in ("dataset", "lists", "protocol", "leave_out_unusable"):
            if getattr(self, name) != getattr(type(self), name):
                raise ParameterError(
                    f"{name} is {getattr(self, name)!r}; it applies to --features, and encode has "
                    "recorded it for its vectors"
                )
        classify(
            self.vectors,
            self.out,
            self.svm,
            title=self.vectors.absolute().name,
            workers=self.workers,
        )
        return 0

    def _of_features(self) -> None:
        from flowpipe.datasets.load import load_dataset
        from flowpipe.pipelines.classify_features import classify_features

        classify_features(
            load_dataset(self.vectors, self.dataset, self.lists),
            self.features,
            self.out,
            self.svm,
            protocol=self.protocol,
            leave_out_unusable=self.leave_out_unusable,
            workers=self.workers,
        )
