"""Which clips train and which are tested: official splits, groups left out, folds, a given list.

Unlabelled and missing clips are left out and listed in the notes, as are classes without training
clips.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

from flowpipe.classify.scores import ClassScores, SplitScores
from flowpipe.classify.splits import FINAL, parse_split, read_splits
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner.json_files import Json, read_json

logger = logging.getLogger(__name__)

MOST_SPLITS = 50
"""Splits of leave-one-out that need not be asked for."""
_SHOWN = 3


@dataclass(frozen=True)
class Protocol:
    """Say how a set is evaluated.

    Attributes
    ----------
    name
        ``official``, ``leave-one-group-out``, ``5-fold`` or the name of a list.
    classes
        Class names; the position is the class index.
    splits
        Of labelled clips that are there.
    labels
        Class name of every clip of the splits.
    notes
        What the user should know.
    """

    name: str
    classes: tuple[str, ...]
    splits: tuple[Split, ...]
    labels: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> Set[str]:
        """Return the names of the clips of the splits."""
        return self.labels.keys()

    def indices(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the class indices of clips."""
        index = {label: i for i, label in enumerate(self.classes)}
        return np.array([index[self.labels[name]] for name in names], np.int64)

    def scored(self, split: str, names: Sequence[str], scores: ClassScores) -> SplitScores:
        """Return the scores of a split's test clips with the true classes of the clips.

        Scores are computed and stored without labels: a corrected label changes no score.
        """
        return SplitScores(split, tuple(names), self.indices(names), scores)

    def training_labels(self) -> list[dict[str, str]]:
        """Return the class name of each training clip, by clip name, for each split."""
        return [{name: self.labels[name] for name in split.train} for split in self.splits]

    def among(self, present: Set[str], lost: str = "failed") -> Protocol:
        """Return the protocol of the clips that are present; `lost` says in the notes why.

        A split whose test clips are all absent is left out.

        Raises
        ------
        ParameterError
            A split has no training clips, or no split has test clips.
        """
        absent = sorted(set(self.labels) - present)
        if not absent:
            return self
        splits = []
        for split in self.splits:
            train = tuple(name for name in split.train if name in present)
            test = tuple(name for name in split.test if name in present)
            if not train:
                raise ParameterError(
                    f"split {split.name!r} has no training clip left: all of them {lost}"
                )
            if test or not split.test:
                splits.append(Split(split.name, train, test))
        if self.splits and not splits:
            raise ParameterError(
                f"split {self.splits[0].name!r} has no test clip left: all of them {lost}"
            )
        notes = [
            f"{_count(absent, 'clip')} left out, since {_these(absent)} {lost}: {_some(absent)}"
        ]
        if len(splits) < len(self.splits):
            names = [split.name for split in self.splits]
            gone = [name for name in names if name not in {split.name for split in splits}]
            notes.append(f"{_count(gone, 'split')} left out without test clips: {_some(gone)}")
        labels = {name: label for name, label in self.labels.items() if name in present}
        return replace(self, splits=tuple(splits), labels=labels, notes=(*self.notes, *notes))

    def to_json(self) -> Json:
        """Return what :func:`protocol_from_json` reads."""
        return {
            "name": self.name,
            "notes": list(self.notes),
            "classes": list(self.classes),
            "labels": dict(self.labels),
            "splits": [
                {"name": split.name, "train": list(split.train), "test": list(split.test)}
                for split in self.splits
            ],
        }


def protocol(dataset: Dataset, wanted: str | PathLike[str] | None = None) -> Protocol:
    """Return the protocol that a user names.

    Parameters
    ----------
    dataset
        The set to be evaluated.
    wanted
        ``official``, ``loo`` (leave one group out), ``5-fold`` (or another number), a JSON file
        as :func:`~flowpipe.classify.splits.read_splits` reads it, or None: the official splits
        where the set has some, else leave one group out, of at most 50 groups.

    Returns
    -------
    Protocol
        Its notes begin with those of the set.

    Raises
    ------
    ParameterError, FormatError
        It is none of these, or not possible on this set.

    Examples
    --------
    >>> import flowpipe
    >>> from flowpipe.datasets.base import Clip, Dataset
    >>> clips = [Clip(f"{c}/{n}.avi", f"{c}/{n}", c, f"actor{n}") for c in "ab" for n in (1, 2)]
    >>> dataset = Dataset("toy", tuple(clips), ("a", "b"))
    >>> for split in flowpipe.protocol(dataset).splits:
    ...     print(split.name, split.train, split.test)
    without actor1 ('a/2', 'b/2') ('a/1', 'b/1')
    without actor2 ('a/1', 'b/1') ('a/2', 'b/2')
    """
    chosen = _chosen(dataset, wanted)
    logger.info(
        f"protocol {chosen.name}: {_count(chosen.splits, 'split')}, and so a classifier or network "
        f"for each"
    )
    return replace(chosen, notes=(*dataset.notes, *chosen.notes))


def _chosen(dataset: Dataset, wanted: str | PathLike[str] | None) -> Protocol:
    if wanted is None and not dataset.splits:
        number = len(set(_groups(_labelled(dataset)[0])))
        if number > MOST_SPLITS:
            what = "groups" if any(clip.group for clip in dataset.clips) else "clips without groups"
            raise ParameterError(
                f"{dataset.name!r} has no official splits; leaving out one of its {number} {what} "
                f"at a time trains {number} classifiers or networks. Ask for that by --protocol "
                "loo, or for fewer by --protocol 5-fold"
            )
        wanted = "loo"
    if wanted in (None, "official"):
        return official(dataset)
    if wanted == "loo":
        return leave_one_group_out(dataset)
    if folds := re.fullmatch(r"(\d+)-fold", str(wanted)):
        return k_fold(dataset, int(folds[1]))
    path = Path(wanted or "")
    if path.suffix != ".json" or not path.exists():
        raise ParameterError(
            f"protocol is {str(wanted)!r}; it must be 'official', 'loo', a number of folds such as "
            "'5-fold', or a JSON file of splits that exists"
        )
    return given(dataset, read_splits(path), path.stem)


def final_split(protocol: Protocol) -> Split:
    """Return the split that trains on all clips and tests none."""
    return Split(FINAL, tuple(protocol.names), ())


def protocol_from_json(path: Path) -> Protocol:
    """Read what :meth:`Protocol.to_json` gave.

    Raises
    ------
    FormatError
        The file does not hold it.
    """
    content = read_json(path)
    splits = content.get("splits")
    classes, labels = content.get("classes"), content.get("labels")
    if not isinstance(splits, list) or not isinstance(classes, list):
        raise FormatError(f"{str(path)!r} has no lists 'splits' and 'classes'")
    if not isinstance(labels, dict) or any(label not in classes for label in labels.values()):
        raise FormatError(f"{str(path)!r} must have 'labels', a class of 'classes' for each clip")
    parsed = tuple(parse_split(path, number, entry) for number, entry in enumerate(splits, 1))
    unknown = {name for split in parsed for name in (*split.train, *split.test)} - set(labels)
    if unknown:
        raise FormatError(f"{str(path)!r} has no label of {min(unknown)!r}")
    notes = tuple(str(note) for note in content.get("notes", ()))
    return Protocol(str(content.get("name")), tuple(classes), parsed, labels, notes)


def official(dataset: Dataset) -> Protocol:
    """Return the set's own splits, without those that are for validation only.

    Raises
    ------
    ParameterError
        It has none, or one of their halves has no clip.
    """
    if not dataset.splits:
        raise ParameterError(
            f"{dataset.name!r} has no official splits; use leave-one-group-out, k-fold or a list"
        )
    reported = [split for split in dataset.splits if not split.validation]
    return given(dataset, reported or dataset.splits, "official")


def leave_one_group_out(dataset: Dataset) -> Protocol:
    """Test each group once, by a classifier trained on all others.

    A clip without a group is a group of its own, so that without any groups this is leaving one
    clip out.

    Raises
    ------
    ParameterError
        There are fewer than two groups, or no labelled clips.
    """
    clips, notes = _labelled(dataset)
    groups = _groups(clips)
    if len(set(groups)) < 2:
        raise ParameterError(
            f"{dataset.name!r} has the one group {groups[0]!r}; leaving one out needs two or more"
        )
    splits = []
    for train, test in LeaveOneGroupOut().split(clips, groups=groups):
        splits.append(_split(clips, f"without {groups[test[0]]}", train, test))
    # In the order of the clips rather than of the groups as text, where 10 comes before 2.
    first = {f"without {group}": i for i, group in reversed(list(enumerate(groups)))}
    splits.sort(key=lambda split: first[split.name])
    return _protocol("leave-one-group-out", dataset, splits, notes)


def k_fold(dataset: Dataset, k: int, seed: int = 0) -> Protocol:
    """Divide the groups into k folds, with classes spread as evenly as the groups allow.

    Raises
    ------
    ParameterError
        k is below 2 or above the number of groups, or no clip is labelled.
    """
    clips, notes = _labelled(dataset)
    groups = _groups(clips)
    if not 2 <= k <= len(set(groups)):
        raise ParameterError(
            f"k is {k}; it must be 2 to {len(set(groups))}, the number of groups of "
            f"{dataset.name!r}"
        )
    labels = [clip.label for clip in clips]
    rare = [label for label, count in Counter(labels).items() if count < k]
    if len(rare) == len(set(labels)):
        # Nothing to spread evenly: deal out the groups.
        order = np.random.default_rng(seed).permutation(sorted(set(groups)))
        fold_of = {group: i % k for i, group in enumerate(order.tolist())}
        member = np.array([fold_of[group] for group in groups])
        parts = [(np.flatnonzero(member != i), np.flatnonzero(member == i)) for i in range(k)]
    else:
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # Of classes with fewer clips than folds, which the notes speak of where it matters.
            warnings.simplefilter("ignore", UserWarning)
            parts = list(splitter.split(clips, labels, groups))
    splits = [
        _split(clips, f"fold {i}", train, test)
        for i, (train, test) in enumerate(parts, 1)
        if len(test)
    ]
    if len(splits) < k:
        notes.append(f"{len(splits)} folds instead of {k}: the groups are too unlike in size")
    return _protocol(f"{k}-fold", dataset, splits, notes)


def given(dataset: Dataset, splits: Sequence[Split], name: str = "given") -> Protocol:
    """Use splits that are given by clip name.

    Raises
    ------
    ParameterError
        A name occurs twice in one half, two splits share a name, one is called ``final``, or a half
        has no usable clip.
    """
    clips, notes = _labelled(dataset)
    usable = {clip.name for clip in clips}
    present = {clip.name for clip in dataset.clips}
    twice = [label for label, count in Counter(split.name for split in splits).items() if count > 1]
    if twice:
        raise ParameterError(f"two splits of {name!r} are called {twice[0]!r}")
    if any(split.name == FINAL for split in splits):
        raise ParameterError(
            f"a split of {name!r} is called {FINAL!r}, as is the one of all clips; rename it"
        )
    kept, absent = [], set()
    for split in splits:
        halves = []
        for half, names in (("training", split.train), ("test", split.test)):
            repeated = [each for each, count in Counter(names).items() if count > 1]
            if repeated:
                raise ParameterError(
                    f"split {split.name!r} has {_some(repeated)} more than once in its {half} half"
                )
            absent.update(set(names) - present)
            halves.append(tuple(each for each in names if each in usable))
            if not halves[-1]:
                raise ParameterError(
                    f"split {split.name!r} has no {half} clip that is there and labelled"
                )
        kept.append(Split(split.name, halves[0], halves[1]))
    if not kept:
        raise ParameterError(f"{name!r} has no splits")
    if absent:
        notes.append(f"{_count(absent, 'clip')} of the splits not there: {_some(sorted(absent))}")
    return _protocol(name, dataset, kept, notes)


def _labelled(dataset: Dataset) -> tuple[list[Clip], list[str]]:
    clips = [clip for clip in dataset.clips if clip.label is not None]
    if not clips:
        raise ParameterError(f"{dataset.name!r} has no labelled clips; there is nothing to learn")
    without = [clip.name for clip in dataset.clips if clip.label is None]
    if not without:
        return clips, []
    return clips, [f"{_count(without, 'clip')} without a label left out: {_some(without)}"]


def _groups(clips: Sequence[Clip]) -> list[str]:
    return [clip.name if clip.group is None else clip.group for clip in clips]


def _split(clips: Sequence[Clip], name: str, train: Any, test: Any) -> Split:
    return Split(name, tuple(clips[i].name for i in train), tuple(clips[i].name for i in test))


def _protocol(name: str, dataset: Dataset, splits: Sequence[Split], notes: list[str]) -> Protocol:
    label_of = {clip.name: str(clip.label) for clip in dataset.clips}
    for split in splits:
        learnt = {label_of[each] for each in split.train}
        lost = Counter(label_of[each] for each in split.test if label_of[each] not in learnt)
        for label, count in sorted(lost.items()):
            notes.append(
                f"{split.name}: class {label!r} has no training clip, so its "
                f"{_count(range(count), 'test clip')} cannot be recognised and "
                f"count{'s' * (count == 1)} as wrong"
            )
        if len(learnt) < 2:
            raise ParameterError(
                f"{split.name} of {name} trains on the one class {min(learnt)!r}; "
                "at least two are needed"
            )
    used = {each for split in splits for each in (*split.train, *split.test)}
    labels = {name: label for name, label in label_of.items() if name in used}
    return Protocol(name, dataset.classes, tuple(splits), labels, tuple(notes))


def _count(items: Any, noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"


def _these(items: Sequence[str]) -> str:
    return "it" if len(items) == 1 else "they"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown + (", ..." if len(names) > _SHOWN else "")
