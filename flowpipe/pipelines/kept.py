"""Keep trained classifiers beside the scores that evaluated them.

An output folder with ``scores.npz`` or ``fused.npz`` has ``classifiers/<split>/``: the network, the
encoders and SVMs, or the fusion of that split, with the calibration of its probabilities.
``classifiers/final/`` is the classifier that was trained on all clips.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flowpipe.classify.calibration import temperature
from flowpipe.classify.fusion import StreamScores
from flowpipe.classify.scores import Scores, SplitScores
from flowpipe.classify.splits import CLASSIFIERS, FINAL, folder_of_split
from flowpipe.errors import FormatError
from flowpipe.prediction.fusion import Member, write_fusion
from flowpipe.prediction.record import Record, read_record
from flowpipe.runner import atomic
from flowpipe.training.testing import Testing

logger = logging.getLogger(__name__)


def record_of(scores: Scores, testing: Testing | None = None, task: int = 1) -> Record:
    """Return the record of the classifiers that gave these scores to held-out clips.

    Parameters
    ----------
    scores
        Scores of the test clips of all splits; they calibrate the probabilities.
    testing, task
        Of networks: views of a clip, and which of the sets that they were trained on this one is.
    """
    clips = sum(len(split.names) for split in scores.splits)
    digests = {split.split: split.digest(scores.classes) for split in scores.splits}
    return Record(temperature(scores), clips, digests, testing or Testing(), task)


def keep_classifiers(
    files: Mapping[str, Path], record: Record, out: Path, beside: Mapping[str, Path] | None = None
) -> None:
    """Keep the classifiers of an evaluation in place of those that are there.

    Parameters
    ----------
    files
        The file of each classifier, by the name of its folder
        (:func:`flowpipe.classify.splits.split_folder`).
    record
        Their record.
    out
        The output folder.
    beside
        Files that each of them needs, by their names in its folder.
    """
    for name, path in files.items():
        add_classifier(name, path, record, out, beside)
    _keep_only(files.keys(), out)


def add_classifier(
    name: str, path: Path, record: Record, out: Path, beside: Mapping[str, Path] | None = None
) -> None:
    """Keep a classifier beside those that are there; see :func:`keep_classifiers`."""
    with atomic.new_folder(out / CLASSIFIERS / name, out) as folder:
        for there, each in {path.name: path, **(beside or {})}.items():
            atomic.link_or_copy(each, folder / there)
        record.save(folder)


def copy_classifiers(source: Path, out: Path) -> None:
    """Copy the classifiers of a stage into the folder of a recipe, in place of those there."""
    folders = [path for path in (source / CLASSIFIERS).glob("*") if path.is_dir()]
    for folder in folders:
        with atomic.new_folder(out / CLASSIFIERS / folder.name, out) as copy:
            shutil.copytree(folder, copy, copy_function=atomic.link_or_copy, dirs_exist_ok=True)
    _keep_only([folder.name for folder in folders], out)


def keep_fusion(
    streams: Sequence[StreamScores], fused: Scores, out: Path, *, softmax: bool
) -> None:
    """Keep the fusion of each split whose streams have kept their classifiers.

    Parameters
    ----------
    streams
        Scores, with their weights and the folders of their classifiers.
    fused
        Their weighted sum.
    out
        The output folder. Fusions that are there are replaced.
    softmax
        Whether probabilities were added.
    """
    record = record_of(fused)
    weighted = [stream for stream in streams if stream.weight != 0]
    kept = []
    for split in [*(each.split for each in fused.splits), FINAL]:
        folders = [_classifier(stream, split) for stream in weighted]
        missing = [
            stream.name for stream, folder in zip(weighted, folders, strict=True) if folder is None
        ]
        if missing and split != FINAL:
            logger.info(f"{split}: no fused classifier is kept, since {missing[0]} kept none")
        if missing:
            continue
        members = [
            Member(stream.name, stream.weight, folder)
            for stream, folder in zip(weighted, folders, strict=True)
            if folder is not None
        ]
        kept.append(members[0].folder.name)
        with atomic.new_folder(out / CLASSIFIERS / kept[-1], out) as folder:
            write_fusion(folder, members, softmax=softmax)
            record.save(folder)
    _keep_only(kept, out)


def _classifier(stream: StreamScores, split: str) -> Path | None:
    """Return the folder of the classifier that gave the scores of a split; FINAL has no scores."""
    if stream.classifiers is None:
        return None
    folder = folder_of_split(stream.classifiers, split)
    if folder is None:
        return None
    try:
        known = read_record(folder).scores
    except FormatError as error:
        logger.warning(str(error))
        return None

    def gave(scored: SplitScores) -> bool:
        return known.get(scored.split) == scored.digest(stream.scores.classes)

    scored = [each for each in stream.scores.splits if split in (FINAL, each.split)]
    return folder if all(map(gave, scored)) else None


def _keep_only(names: Collection[str], out: Path) -> None:
    for folder in (out / CLASSIFIERS).glob("*"):
        if folder.name not in names:
            atomic.remove_atomically(folder, out)
