"""A labelled set by the name of its kind, or by what its folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from flowpipe.datasets import hmdb51 as hmdb51_set
from flowpipe.datasets import kth as kth_set
from flowpipe.datasets import ucf101 as ucf101_set
from flowpipe.datasets import ut_interaction as ut_interaction_set
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.files import videos_below
from flowpipe.datasets.folders import class_folders
from flowpipe.datasets.kinetics import is_kinetics_csv, kinetics
from flowpipe.datasets.lists import csv_list, tsn_lists
from flowpipe.datasets.synthetic import LIST_NAME, PARAMETERS_NAME, read_synthetic
from flowpipe.errors import FormatError, ParameterError

Kind = Literal[
    "auto",
    "folders",
    "tsn",
    "csv",
    "ucf101",
    "hmdb51",
    "kth",
    "ut-interaction",
    "kinetics",
    "synthetic",
]

_PATTERNS = {
    "ucf101": ucf101_set.PATTERN,
    "hmdb51": hmdb51_set.PATTERN,
    "kth": kth_set.PATTERN,
    "ut-interaction": ut_interaction_set.PATTERN,
}


def load(kind: Kind, root: Path, lists: Sequence[Path] = ()) -> Dataset:
    """Read a labelled set.

    Parameters
    ----------
    kind
        ``folders`` (``<class>/<clip>``), ``tsn`` (one list, or a training and a test list),
        ``csv``, a published set, ``synthetic``, or ``auto``: whatever :func:`detect` finds.
    root
        The folder of the videos; for ``csv``, ``tsn`` and ``auto`` also the list itself, whose
        paths then start from its folder.
    lists
        The list files, or for ``ucf101`` and ``hmdb51`` the folder of the official lists, where
        they are not in their usual place. For ``csv`` by default ``dataset.csv`` in the root.

    Raises
    ------
    FormatError
        A list or a name is malformed, or ``auto`` cannot tell the kind.
    ParameterError
        A folder or a list does not exist, or the kind takes no such lists.
    """
    if kind not in get_args(Kind):
        raise ParameterError(f"dataset is {kind!r}; it must be one of {', '.join(get_args(Kind))}")
    if kind == "auto":
        kind = _kind_of_list(lists[0]) if lists and lists[0].is_file() else detect(root)
    if root.is_file() and kind in ("csv", "tsn", "kinetics"):
        if lists:
            raise ParameterError(f"{str(root)!r} is a list; give a folder to go with other lists")
        root, lists = root.parent, (root,)
    match kind:
        case "tsn":
            return tsn_lists(root, lists)
        case "csv":
            return csv_list(_at_most_one(kind, lists) or root / LIST_NAME, root)
        case "kinetics":
            return kinetics(root, lists)
        case "ucf101":
            return ucf101_set.ucf101(root, _at_most_one(kind, lists))
        case "hmdb51":
            return hmdb51_set.hmdb51(root, _at_most_one(kind, lists))
    if lists:
        raise ParameterError(f"lists is {[str(path) for path in lists]}; {kind} takes none")
    match kind:
        case "kth":
            return kth_set.kth(root)
        case "ut-interaction":
            return ut_interaction_set.ut_interaction(root)
        case "synthetic":
            return read_synthetic(root)
        case _:
            return class_folders(root)


def detect(root: Path) -> Kind:
    """Tell the kind of a set from its folder, or from its list.

    A folder is, in this order, ``synthetic`` if it holds ``synthetic.json``, ``csv`` if it holds
    ``dataset.csv``, ``kinetics`` if it holds a CSV file with the columns of Kinetics, the published
    set after whose rule all its videos are named, and ``folders`` if all its videos lie in folders.

    Raises
    ------
    FormatError
        It is none of these.
    """
    if root.is_file():
        return _kind_of_list(root)
    videos = videos_below(root)
    if (root / PARAMETERS_NAME).is_file():
        return "synthetic"
    if (root / LIST_NAME).is_file():
        return "csv"
    if any(is_kinetics_csv(path) for path in sorted(root.glob("*.csv"))):
        return "kinetics"
    if not videos:
        raise FormatError(f"{str(root)!r} holds no video")
    for kind in ("ucf101", "hmdb51", "kth", "ut-interaction"):
        if all(_PATTERNS[kind].fullmatch(path.stem) for path in videos):
            return kind
    loose = [path for path in videos if path.parent == root]
    if loose:
        raise FormatError(
            f"cannot tell what kind of set {str(root)!r} is: {loose[0].name!r} lies in no class "
            f"folder, and there is no {LIST_NAME} with the labels; name the kind, or put the "
            "videos into class folders"
        )
    return "folders"


def _kind_of_list(path: Path) -> Kind:
    if path.suffix.lower() == ".csv":
        return "kinetics" if is_kinetics_csv(path) else "csv"
    if path.suffix.lower() in (".txt", ".lst", ".list"):
        return "tsn"
    raise FormatError(f"{str(path)!r} is no list of clips; that would be a .csv or a .txt file")


def _at_most_one(kind: str, lists: Sequence[Path]) -> Path | None:
    if len(lists) > 1:
        raise ParameterError(f"lists is {[str(path) for path in lists]}; {kind} takes one")
    return lists[0] if lists else None
