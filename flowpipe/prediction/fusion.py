"""A weighted sum of several classifiers as a classifier of new videos."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError
from flowpipe.prediction.base import Classifier
from flowpipe.prediction.record import Record
from flowpipe.runner import atomic, json_files
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Work
from flowpipe.runner.provenance import short_hash

FILE = "fusion.json"
FORMAT = "flowpipe fusion 1"


@dataclass(frozen=True)
class Member:
    """A classifier of a fusion.

    Attributes
    ----------
    name
        Name of its stream.
    weight
        Weight of its scores in the sum.
    folder
        Folder of the classifier.
    """

    name: str
    weight: float
    folder: Path


def write_fusion(folder: Path, members: Sequence[Member], *, softmax: bool) -> None:
    """Write a fusion with its members into an empty folder.

    Parameters
    ----------
    folder
        The folder; it is complete without the folders of the members, of which it has copies.
    members
        The classifiers.
    softmax
        Whether their probabilities are added, in place of their scores.
    """
    for number, member in enumerate(members, 1):
        shutil.copytree(member.folder, folder / str(number), copy_function=atomic.link_or_copy)
    content = {
        "format": FORMAT,
        "of": "probabilities" if softmax else "scores",
        "members": [{"name": each.name, "weight": each.weight} for each in members],
    }
    (folder / FILE).write_bytes(json_files.to_json(content))


def read_fusion(path: Path) -> tuple[list[Member], bool]:
    """Read what :func:`write_fusion` wrote.

    Returns
    -------
    list of Member, bool
        The members, and whether their probabilities are added.

    Raises
    ------
    FormatError
        The file is damaged or of another version, or a member is missing.
    """
    content = json_files.read_json(path)
    if content.get("format") != FORMAT:
        raise FormatError(
            f"{str(path)!r} has format {content.get('format')!r}; it must be {FORMAT!r}"
        )
    kind, listed = content.get("of"), content.get("members")
    if kind not in ("scores", "probabilities") or not isinstance(listed, list) or not listed:
        raise FormatError(f"{str(path)!r} is no fusion: it adds {kind!r} of {listed!r}")
    members = []
    for number, each in enumerate(listed, 1):
        weight = each.get("weight") if isinstance(each, dict) else None
        if not isinstance(weight, int | float) or not math.isfinite(weight):
            raise FormatError(f"{str(path)!r} has member {each!r}; a weight is expected")
        folder = path.parent / str(number)
        if not folder.is_dir():
            raise FormatError(f"{str(path)!r} lacks the folder {folder.name!r} of a member")
        members.append(Member(str(each.get("name")), float(weight), folder))
    return members, kind == "probabilities"


@dataclass(frozen=True, eq=False)
class FusionClassifier(Classifier):
    """A weighted sum of classifiers.

    Attributes
    ----------
    path, classes, record
        As for :class:`~flowpipe.prediction.Classifier`.
    members, weights
        The classifiers, and the weight of each.
    softmax
        Whether probabilities are added, in place of scores.
    """

    path: Path
    classes: tuple[str, ...]
    members: tuple[Classifier, ...]
    weights: tuple[float, ...]
    softmax: bool
    record: Record = field(default_factory=Record)

    def __post_init__(self) -> None:
        for member in self.members:
            if sorted(member.classes) != sorted(self.classes):
                raise FormatError(
                    f"{str(self.path)!r} adds classifiers of other classes: "
                    f"{str(member.path)!r} has {len(member.classes)}"
                )

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips, for every member."""
        return np.asarray(
            np.all([each.trained[self._columns(each)] for each in self.members], axis=0)
        )

    def description(self) -> Json:
        """Return the records of what the members extract."""
        found = {short_hash(each.description()): each.description() for each in self.members}
        return {"stage": "fusion", "extracted": found}

    def extraction(self, out: Path) -> Work[Clip]:
        """Return the work that extracts what each member scores, into a folder for each."""
        folders = {self.folder(each, out): each for each in self.members}
        return ExtractAll(tuple(each.extraction(folder) for folder, each in folders.items()))

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the members' extractions have temporary files."""
        found = [each.folders(self.folder(each, out)) for each in self.members]
        return list(dict.fromkeys(path for paths in found for path in paths))

    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return what has been extracted for each member."""
        found = [each.outputs(clip, self.folder(each, out)) for each in self.members]
        return list(dict.fromkeys(path for paths in found for path in paths))

    def scores(self, clip: Clip, extracted: Path) -> NDArray[np.float32]:
        """Return the weighted sum of the members' scores, or of their probabilities."""
        return self.fused(
            [each.scores(clip, self.folder(each, extracted)) for each in self.members]
        )

    def fused(self, scores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the weighted sum of the scores of each member, in the order of their classes."""
        total = np.zeros(len(self.classes))
        for member, weight, own in zip(self.members, self.weights, scores, strict=True):
            values = own.astype(np.float64)[self._columns(member)]
            total += weight * (special.softmax(values) if self.softmax else values)
        return total.astype(np.float32)

    def _columns(self, member: Classifier) -> list[int]:
        return [member.classes.index(label) for label in self.classes]

    @staticmethod
    def folder(member: Classifier, out: Path) -> Path:
        """Return the folder of what a member extracts, which it shares with its like."""
        return out / short_hash(member.description())


@dataclass(frozen=True)
class ExtractAll:
    """Extract what several classifiers score."""

    works: tuple[Work[Any], ...]

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Extract it, unless it is there; the first counts the progress."""
        done = []
        for number, work in enumerate(self.works):
            done.append(work(clip, advance if number == 0 else _ignore))
        warnings = dict.fromkeys(each.warning for each in done if each.warning)
        return Done(skipped=all(each.skipped for each in done), warning="; ".join(warnings) or None)


def _ignore(units: int) -> None:
    pass
