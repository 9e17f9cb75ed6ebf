"""Read a labelled set by the name of its kind, or by what its folder holds."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from flowpipe.datasets.base import Dataset
from flowpipe.datasets.duplicates import group_duplicates
from flowpipe.datasets.facts import check_against_facts
from flowpipe.datasets.find import find_clips, folder
from flowpipe.datasets.kinetics import is_kinetics_csv
from flowpipe.datasets.lists import csv_list
from flowpipe.datasets.table import DATASETS, LIST_NAME
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import json_files
from flowpipe.runner.atomic import write_atomic
from flowpipe.runner.provenance import RECORDS

logger = logging.getLogger(__name__)

AUTO = "auto"
KINDS: Mapping[str, object] = ChainMap[str, Any](DATASETS, {AUTO: None})
"""What ``--dataset`` takes."""
_MOST_NOTES = 4

AnyPath = str | PathLike[str]


def load_dataset(
    path: AnyPath,
    kind: str = AUTO,
    lists: Sequence[AnyPath] = (),
    *,
    class_names: AnyPath | None = None,
    stored: Iterable[str] | None = None,
) -> Dataset:
    """Read a labelled set of videos, or of folders of frames.

    What the set is taken for, and what is odd about it, is logged.

    Parameters
    ----------
    path
        The folder of the videos; for the kinds ``csv``, ``tsn``, ``kinetics`` and ``auto`` also the
        list itself, whose paths then start from its folder.
    kind
        A name in :data:`flowpipe.datasets.table.DATASETS`, or ``auto``: what :func:`detect` finds.
    lists
        The list files, or for ``ucf101`` and ``hmdb51`` the folder of the official lists, where
        they are not in their usual place. For ``csv`` by default ``dataset.csv`` in the folder.
    class_names
        For ``tsn``, a file with a class name a line, ``name`` or ``index name``.
    stored
        Names of the outputs of a stage, such as flow, which are enough where videos are gone: a
        listed clip with such an output counts as one that is on disk.

    Returns
    -------
    Dataset
        Clips with labels and groups, classes, official splits. Byte-identical clips are in one
        group. What differs from a published set is in ``notes``.

    Raises
    ------
    FormatError
        A list or a name is malformed, the kind cannot be told from the folder, or there are several
        ways to read it; the message names the kinds.
    ParameterError
        A folder or a list does not exist, or the kind takes no such lists.

    Examples
    --------
    >>> import flowpipe, pathlib, tempfile
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for clip in ("run/1.avi", "run/2.avi", "jump/1.avi"):
    ...     (root / clip).parent.mkdir(exist_ok=True)
    ...     (root / clip).touch()
    >>> dataset = flowpipe.load_dataset(root)
    >>> dataset.kind, dataset.classes, [clip.name for clip in dataset.clips]
    ('folders', ('jump', 'run'), ['jump/1', 'run/1', 'run/2'])
    """
    root, files = Path(path), [Path(each) for each in lists]
    if kind not in KINDS:
        raise ParameterError(f"dataset is {kind!r}; it must be one of {', '.join(KINDS)}")
    if kind == AUTO:
        kind = _kind_of_list(files[0]) if files and files[0].is_file() else detect(root)
    entry = DATASETS[kind]
    if root.is_file() and entry.lists != "none":
        if files:
            raise ParameterError(f"{str(root)!r} is a list; give a folder to go with other lists")
        root, files = root.parent, [root]
    if files and entry.lists == "none":
        raise ParameterError(f"lists is {[str(each) for each in files]}; {kind} takes none")
    if len(files) > 1 and entry.lists == "one":
        raise ParameterError(f"lists is {[str(each) for each in files]}; {kind} takes one")
    if class_names is not None and kind != "tsn":
        raise ParameterError(f"class_names is {str(class_names)!r}; only tsn takes class names")
    options = {} if class_names is None else {"class_names": Path(class_names)}
    dataset = replace(entry.read(root, files, **options), kind=kind)
    if not dataset.absent and not dataset.clips:
        source = files[0] if files else root
        raise FormatError(f"{str(source)!r} holds no clip of the kind {kind}")
    if not dataset.clips and stored is None:
        raise FormatError(
            f"none of the {len(dataset.absent)} clips of {dataset.name!r} that are listed is on "
            f"disk; the first should be {str(dataset.absent[0].path)!r}. Paths of lists start from "
            f"{str(root)!r}"
        )
    dataset = _with_stored(group_duplicates(dataset), stored or ())
    dataset = replace(dataset, notes=(*dataset.notes, *_fewer(check_against_facts(dataset))))
    logger.info(dataset.describe())
    for note in dataset.notes:
        logger.warning(note)
    return dataset


def detect(root: Path) -> str:
    """Tell the kind of a set from its folder, or from its list.

    The entries of :data:`flowpipe.datasets.table.DATASETS` are asked in their order.

    Raises
    ------
    FormatError
        It is none of these, or it could be several.
    """
    if root.is_file():
        return _kind_of_list(root)
    found = find_clips(folder(root))
    for kind, entry in DATASETS.items():
        if entry.detect(root, found):
            return kind
    if not found:
        raise FormatError(f"{str(root)!r} holds no video, and no folder of frames")
    loose = next((each.path.name for each in found if each.path.parent == root), "")
    raise FormatError(
        f"cannot tell what kind of set {str(root)!r} is: {loose!r} lies in no class folder, and "
        f"there is no {LIST_NAME} with the labels; put the videos into class folders, or name the "
        f"kind: --dataset {', '.join(DATASETS)}"
    )


def read_csv(root: Path, path: Path | None = None) -> Dataset:
    """Read a CSV file, by default ``dataset.csv`` in the folder."""
    return csv_list(path or root / LIST_NAME, root)


def _with_stored(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Return the set with those absent clips among its clips that have stored outputs."""
    from flowpipe.datasets.match import match_clips

    if not dataset.absent:
        return dataset
    found, _ = match_clips((*dataset.clips, *dataset.absent), names, Path())
    return dataset.with_absent([clip.name for clip in dataset.absent if clip.name in found])


def record_dataset(dataset: Dataset, out: Path) -> None:
    """Write what a set was taken for into the records of an output folder."""
    write_atomic(out / RECORDS / "dataset.json", json_files.to_json(dataset.description()), out)


def _kind_of_list(path: Path) -> str:
    if path.suffix.lower() == ".csv":
        return "kinetics" if is_kinetics_csv(path) else "csv"
    if path.suffix.lower() in (".txt", ".lst", ".list"):
        return "tsn"
    raise FormatError(f"{str(path)!r} is no list of clips; that would be a .csv or a .txt file")


def _fewer(notes: Sequence[str]) -> list[str]:
    if len(notes) <= _MOST_NOTES:
        return list(notes)
    return [*notes[:_MOST_NOTES], f"and {len(notes) - _MOST_NOTES} more differences of this kind"]
