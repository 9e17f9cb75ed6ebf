"""Sets laid out as one folder per class: ``root/<class>/<clip>``."""

from __future__ import annotations

from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.files import folder, names_below, videos_below
from flowpipe.errors import FormatError


def class_folders(root: Path) -> Dataset:
    """Read ``root/<class>/<clip>``: the name of the folder is the label.

    Parameters
    ----------
    root
        The folder of the class folders. A class may have sub-folders; a folder without any video
        is no class.

    Returns
    -------
    Dataset
        Named like the folder, classes in the order of their names, no groups, no splits.

    Raises
    ------
    FormatError
        A video lies outside the class folders, or there is none at all.
    """
    paths = videos_below(folder(root))
    for path in paths:
        if path.parent == root:
            raise FormatError(
                f"{str(path)!r} lies in no class folder; it should be in {root}/<class>/"
            )
    if not paths:
        raise FormatError(f"{str(root)!r} holds no video; they should be in {root}/<class>/")
    clips = tuple(
        Clip(path, name, label=path.relative_to(root).parts[0])
        for path, name in zip(paths, names_below(root, paths), strict=True)
    )
    classes = tuple(sorted({path.relative_to(root).parts[0] for path in paths}))
    return Dataset(root.resolve().name, clips, classes)
