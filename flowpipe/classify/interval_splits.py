"""Which videos of a set with labelled intervals train a detector, and which test it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from flowpipe.classify.protocols import MOST_SPLITS
from flowpipe.classify.splits import FINAL, read_splits
from flowpipe.datasets.base import Clip, Split
from flowpipe.datasets.intervals import IntervalSet
from flowpipe.errors import ParameterError


def interval_splits(
    dataset: IntervalSet, names: Sequence[str], wanted: str | None = None
) -> tuple[Split, ...]:
    """Return the splits that a user names.

    Parameters
    ----------
    dataset
        The set.
    names
        Its videos that can be used.
    wanted
        ``official``, ``loo`` (leave one group out), ``5-fold`` (or another number, of whole
        groups), a JSON file of splits, or None: the official splits where the set has some, else
        leave one group out.

    Raises
    ------
    ParameterError, FormatError
        It is none of these, or not possible on this set.
    """
    clips = [clip for clip in (*dataset.clips, *dataset.absent) if clip.name in set(names)]
    if wanted in (None, "official") and dataset.splits:
        return _given(dataset.splits, names, dataset.name)
    if wanted == "official":
        raise ParameterError(f"{dataset.name!r} has no official splits; use loo, 5-fold or a list")
    if wanted in (None, "loo"):
        return _divided(clips, dataset.name, None)
    if folds := re.fullmatch(r"(\d+)-fold", wanted):
        return _divided(clips, dataset.name, int(folds[1]))
    path = Path(wanted)
    if path.suffix != ".json" or not path.exists():
        raise ParameterError(
            f"protocol is {wanted!r}; it must be 'official', 'loo', a number of folds such as "
            "'5-fold', or a JSON file of splits that exists"
        )
    return _given(read_splits(path), names, str(path))


def all_videos(names: Sequence[str]) -> Split:
    """Return the split that trains on all videos and tests none."""
    return Split(FINAL, tuple(names), ())


def _given(splits: Sequence[Split], names: Sequence[str], where: str) -> tuple[Split, ...]:
    there, kept = set(names), []
    for split in splits:
        halves = []
        for half, kind in ((split.train, "training"), (split.test, "test")):
            halves.append(tuple(name for name in half if name in there))
            if not halves[-1]:
                raise ParameterError(
                    f"split {split.name!r} of {where!r} has no {kind} video with features"
                )
        kept.append(Split(split.name, halves[0], halves[1]))
    return tuple(kept)


def _divided(clips: Sequence[Clip], where: str, folds: int | None) -> tuple[Split, ...]:
    groups = [clip.name if clip.group is None else clip.group for clip in clips]
    count = len(set(groups))
    if count < 2:
        raise ParameterError(
            f"{where!r} has {count} group of videos; dividing it needs two or more"
        )
    if folds is None and count > MOST_SPLITS:
        raise ParameterError(
            f"leaving out one of the {count} groups of {where!r} at a time trains {count} "
            "detectors; ask for fewer by --protocol 5-fold"
        )
    if folds is not None and not 2 <= folds <= count:
        raise ParameterError(
            f"the number of folds is {folds}; it must be 2 to {count}, the groups of {where!r}"
        )
    splitter = LeaveOneGroupOut() if folds is None else GroupKFold(folds)
    splits = []
    for number, (train, test) in enumerate(splitter.split(clips, groups=groups), 1):
        name = f"without {groups[test[0]]}" if folds is None else f"fold {number}"
        halves = [tuple(clips[i].name for i in half) for half in (train, test)]
        splits.append(Split(name, halves[0], halves[1]))
    # In the order of the videos rather than of the groups as text, where 10 comes before 2.
    place = {clip.name: number for number, clip in enumerate(clips)}
    return tuple(sorted(splits, key=lambda split: place[split.test[0]]))
