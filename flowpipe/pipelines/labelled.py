"""A labelled set with the flow of its clips: what networks are trained and tested on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from flowpipe.classify.metrics import Metrics
from flowpipe.classify.protocols import Protocol, final_split
from flowpipe.classify.protocols import protocol as choose_protocol
from flowpipe.classify.splits import FINAL, choose_splits, split_folder, split_identity
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.find import find_clips
from flowpipe.datasets.load import AUTO, load_dataset
from flowpipe.datasets.names import clip_names
from flowpipe.errors import FormatError
from flowpipe.flow.store import stored_clips
from flowpipe.models.clip_input import ClipInput
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import digest
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.datasets import stream_clips

logger = logging.getLogger(__name__)

UNLABELLED = "none"
"""The protocol of all clips of a folder, without labels."""
ALL = "all"
"""Their class."""


@dataclass(frozen=True)
class LabelledFlow:
    """A labelled set and the flow of its clips.

    Attributes
    ----------
    dataset, protocol
        The clips, and which of them train and which are tested.
    flow
        Output folder of ``extract-flow``, or flow of another tool.
    whole
        The protocol with the clips that cannot be used, if some were left out.
    """

    dataset: Dataset
    protocol: Protocol
    flow: Path
    whole: Protocol | None = None

    def labelled(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Return clips with their class indices."""
        return list(zip(names, self.protocol.indices(names).tolist(), strict=True))

    def clips(self, names: Sequence[str]) -> list[tuple[str | Clip, int]]:
        """Return the clips of the set with their class indices; outputs may be named otherwise."""
        by_name = {clip.name: clip for clip in (*self.dataset.clips, *self.dataset.absent)}
        return [(by_name.get(name, name), index) for name, index in self.labelled(names)]

    def description(self) -> Json:
        """Return what tells the flow and the splits apart, without any label."""
        return {
            "set": self.dataset.name,
            "protocol": self.protocol.name,
            "classes": list(self.protocol.classes),
            "splits": digest([[s.name, s.train, s.test] for s in self.protocol.splits]),
            # Flow of other tools has no record.
            "flow": provenance.read_stage(self.flow),
        }

    def identity(self, name: str) -> Json:
        """Return what tells a split from others of the same clips, of those left out, too."""
        protocol = self.whole or self.protocol
        split = replace(self, protocol=protocol).split(name)
        return split_identity(protocol.names, split)

    def split(self, name: str) -> Split:
        """Return the split of a name; FINAL is the one that trains on all clips."""
        names = {split.name for split in self.protocol.splits}
        if name == FINAL and name not in names:
            return final_split(self.protocol)
        return self.chosen([name])[0]

    def chosen(self, names: Sequence[str]) -> list[Split]:
        """Return the splits of these names, all where there are none."""
        of = f"{self.protocol.name} of {self.dataset.name}"
        return choose_splits(self.protocol.splits, names, of)

    def folder(self, split: Split, out: Path) -> Path:
        """Return the folder of a split in an output folder."""
        names = [each.name for each in self.protocol.splits]
        number = names.index(split.name) + 1 if split.name in names else 0
        return out / split_folder(number, split.name)


def labelled_flow(
    dataset: Dataset | str | PathLike[str],
    flow: str | PathLike[str],
    protocol: Protocol | str | PathLike[str] | None = None,
    kind: str = AUTO,
    lists: Sequence[str | PathLike[str]] = (),
) -> LabelledFlow:
    """Return a set with its flow and a protocol.

    Parameters
    ----------
    dataset
        The set, or its folder or list. Its videos may be gone: only the flow is read.
    flow
        The flow of its clips.
    protocol
        The protocol, or what :func:`flowpipe.protocol` takes.
    kind, lists
        As for :func:`flowpipe.load_dataset`.
    """
    if not isinstance(dataset, Dataset):
        stored = [clip.name for clip in stored_clips(Path(flow), frames_only=True)]
        dataset = load_dataset(dataset, kind, lists, stored=stored)
    if not isinstance(protocol, Protocol):
        protocol = choose_protocol(dataset, protocol)
    return LabelledFlow(dataset, protocol, Path(flow))


def unlabelled_flow(videos: str | PathLike[str], flow: str | PathLike[str]) -> LabelledFlow:
    """Return all clips of a folder with their flow, whether they have labels or not.

    Parameters
    ----------
    videos
        Folder of the clips, or the folder of their flow, where they may be gone.
    flow
        The flow of the clips.

    Returns
    -------
    LabelledFlow
        Its protocol has no splits, and one class, of all clips.

    Raises
    ------
    ParameterError, FormatError
        The folder does not exist, or holds no clips.
    """
    root = Path(videos)
    if root.is_dir() and root.resolve() == Path(flow).resolve():
        stored = sorted(clip.name for clip in stored_clips(root, frames_only=True))
        clips = [Clip(root / name, name, ALL) for name in stored]
    else:
        found = find_clips(root)
        names = clip_names(found)
        clips = [Clip(each.path, n, ALL) for each, n in zip(found, names, strict=True)]
    if not clips:
        raise FormatError(f"{str(root)!r} holds no video, and no folder of frames")
    dataset = Dataset(root.resolve().name, tuple(clips), (ALL,), kind=UNLABELLED)
    labels = {clip.name: ALL for clip in clips}
    logger.info(f"{dataset.name}: {len(clips)} clips, whose labels are not read")
    return LabelledFlow(dataset, Protocol(UNLABELLED, (ALL,), (), labels), Path(flow))


def with_usable_clips(
    labelled: LabelledFlow,
    splits: Sequence[str],
    clip: ClipInput,
    *,
    train: bool = True,
    test: bool = False,
    leave_out: bool = False,
) -> LabelledFlow:
    """Check all clips that networks are trained or tested on, before the work.

    Parameters
    ----------
    labelled
        The set with its flow.
    splits
        Names of the splits whose clips are checked.
    clip
        What the networks see.
    train, test
        Check training clips; check test clips.
    leave_out
        Return the set without the clips that cannot be used, in place of an error.

    Raises
    ------
    UnusableClipsError
        Clips are missing, too short or damaged; all are listed.
    ParameterError
        No clip of a split is left.
    """
    chosen = [labelled.split(name) for name in splits]
    halves = [(each.train if train else ()) + (each.test if test else ()) for each in chosen]
    names = list(dict.fromkeys(name for half in halves for name in half))
    try:
        stream_clips(labelled.flow, labelled.clips(names), clip, sampling="centre", transform=None)
    except UnusableClipsError as error:
        if not leave_out:
            raise
        protocol = without_clips(labelled.protocol, error.reasons)
        return replace(labelled, protocol=protocol, whole=labelled.whole or labelled.protocol)
    return labelled


def without_clips(protocol: Protocol, reasons: Mapping[str, str]) -> Protocol:
    """Return a protocol without the clips that cannot be used, which are logged with the reason."""
    for name, reason in reasons.items():
        logger.warning(f"left out: {name}: {reason}")
    return protocol.among(protocol.names - reasons.keys(), "cannot be used")


def accuracy_line(name: str, metrics: Metrics) -> str:
    """Return a line of a table for the terminal."""
    accuracy = metrics.accuracy
    return (
        f"{name:24s} {100 * accuracy.value:5.1f} % of {int(metrics.confusion.sum())} tests "
        f"(95 %: {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}), "
        f"mean class accuracy {100 * metrics.mean_class_accuracy.value:.1f} %"
    )
