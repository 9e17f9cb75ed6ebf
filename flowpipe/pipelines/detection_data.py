"""A set of videos with labelled intervals, and the stored features of its videos."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from flowpipe.classify.interval_splits import all_videos, interval_splits
from flowpipe.classify.splits import FINAL, split_folder
from flowpipe.datasets.base import Split
from flowpipe.datasets.intervals import IntervalSet, load_intervals
from flowpipe.datasets.load import AUTO
from flowpipe.errors import ParameterError
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.detection.steps import FeatureFolder, Steps, open_features, read_steps
from flowpipe.training.detection.windows import StepLabels, step_labels

logger = logging.getLogger(__name__)

AnyPath = str | PathLike[str]


@dataclass(frozen=True)
class LabelledSteps:
    """Videos with labelled intervals, their features, and the splits.

    Attributes
    ----------
    dataset
        The videos and their intervals, within the lengths of the videos.
    folders
        The features, in the order in which they are joined.
    steps
        Features of each video, by its name.
    splits
        Training and test videos.
    """

    dataset: IntervalSet
    folders: Sequence[FeatureFolder]
    steps: dict[str, Steps]
    splits: tuple[Split, ...]

    @property
    def records(self) -> list[Json]:
        """Stages of the features."""
        return [folder.record for folder in self.folders]

    @property
    def n_features(self) -> int:
        """Size of a step's feature."""
        return int(next(iter(self.steps.values())).features.shape[1])

    def labels(self, name: str) -> StepLabels:
        """Return the classes of the steps of a video."""
        dataset = self.dataset
        intervals, unclear = dataset.intervals[name], dataset.ambiguous.get(name, ())
        return step_labels(self.steps[name], intervals, dataset.classes, unclear)

    def of(self, names: Sequence[str]) -> list[Steps]:
        """Return the features of videos."""
        return [self.steps[name] for name in names]

    def chosen(self, names: Sequence[str], *, final: bool = False) -> list[Split]:
        """Return the splits of these names, all where there are none.

        Raises
        ------
        ParameterError
            There is no such split.
        """
        known = {split.name: split for split in self.splits}
        for name in names:
            if name not in known:
                raise ParameterError(
                    f"{self.dataset.name!r} has no split {name!r}; there are "
                    f"{', '.join(map(repr, known))}"
                )
        splits = [known[name] for name in names] or list(self.splits)
        return splits + [all_videos(list(self.steps))] * final

    def folder(self, split: Split, out: Path) -> Path:
        """Return the folder of a split in an output folder."""
        names = [each.name for each in self.splits]
        number = names.index(split.name) + 1 if split.name != FINAL else 0
        return out / split_folder(number, split.name)

    def description(self) -> Json:
        """Return what tells the features and the splits apart, without any label."""
        return {
            "set": self.dataset.name,
            "classes": list(self.dataset.classes),
            "splits": provenance.digest([[s.name, s.train, s.test] for s in self.splits]),
            "features": self.records,
        }

    def training_labels(self, split: Split) -> str:
        """Return a digest of the intervals of a split's training videos."""
        dataset = self.dataset
        return provenance.digest(
            [
                [name, *([[each.start, each.end, each.label] for each in part[name]]
                         for part in (dataset.intervals, dataset.ambiguous) if name in part)]
                for name in split.train
            ]
        )  # fmt: skip


def labelled_steps(
    dataset: IntervalSet | AnyPath,
    features: Sequence[AnyPath] | AnyPath,
    protocol: str | None = None,
    *,
    videos: AnyPath | None = None,
    kind: str = AUTO,
    leave_out_unusable: bool = False,
) -> LabelledSteps:
    """Return a set with its features and the splits.

    Parameters
    ----------
    dataset
        The set, or what :func:`flowpipe.load_intervals` takes. Its videos may be gone: only the
        features are read.
    features
        Folders of :func:`flowpipe.extract_features`.
    protocol
        As for :func:`flowpipe.classify.interval_splits.interval_splits`.
    videos, kind
        As for :func:`flowpipe.load_intervals`.
    leave_out_unusable
        Leave out videos without features, or with damaged ones, in place of an error.

    Raises
    ------
    ParameterError, FormatError
        The folders hold no such features, or the set is malformed.
    UnusableClipsError
        Videos have no features; all are listed.
    """
    given = [features] if isinstance(features, str | PathLike) else list(features)
    folders = open_features(given)
    if not isinstance(dataset, IntervalSet):
        dataset = load_intervals(dataset, videos, kind, stored=list(folders[0].clips))
    elif videos is not None or kind != AUTO:
        raise ParameterError("videos and kind apply to a set that is named by its file")
    names = [clip.name for clip in (*dataset.clips, *dataset.absent)]
    found, missing = read_steps(folders, names)
    if missing and not leave_out_unusable:
        raise UnusableClipsError(missing, len(names))
    for name, reason in missing.items():
        logger.warning(f"left out: {name}: {reason}")
    if not found:
        raise ParameterError(f"{dataset.name!r} has no video with features")
    durations = {name: each.frames / each.frame_rate for name, each in found.items()}
    notes = dataset.notes
    dataset = dataset.within(durations)
    for note in dataset.notes[len(notes) :]:
        logger.warning(note)
    return LabelledSteps(dataset, folders, found, interval_splits(dataset, list(found), protocol))
