"""Name the folders of splits and of classifiers, and the split of all clips."""

from __future__ import annotations

import re
from pathlib import Path

from flowpipe.classify.protocols import FINAL as FINAL
from flowpipe.classify.protocols import Protocol
from flowpipe.datasets.base import Split

CLASSIFIERS = "classifiers"
"""Folder of the classifiers, beside the scores that evaluated them."""


def final_split(protocol: Protocol) -> Split:
    """Return the split that trains on all clips and tests none."""
    return Split(FINAL, tuple(protocol.labels), ())


def split_folder(number: int, name: str) -> str:
    """Return the name of the folder of a split, which has a number from 1 in its protocol."""
    return FINAL if name == FINAL else f"{number:02d}-{_safe(name)}"


def folder_of_split(folder: Path, name: str) -> Path | None:
    """Return the folder that :func:`split_folder` names for a split, if it is in a folder."""
    if name == FINAL:
        found = [folder / FINAL]
    else:
        found = [each for each in folder.glob("*-*") if each.name.partition("-")[2] == _safe(name)]
    return found[0] if len(found) == 1 and found[0].is_dir() else None


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)
