"""UT-Interaction (Ryoo and Aggarwal, 2010): six interactions of two persons, two sets of 60 clips.

The segmented clips are called ``<index>_<sequence>_<class>.avi``. Papers leave one of a set's ten
sequences out in turn, so the sequence is the group. The clips are crops of different sizes; resize
them to one size, or the size gives the class away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.by_name import clips_named
from flowpipe.datasets.names import FoundClip, without_suffix

CLASSES = ("hand-shake", "hug", "kick", "point", "punch", "push")

PATTERN = re.compile(r"(?P<index>\d+)_(?P<sequence>\d+)_(?P<label>[0-5])")
EXAMPLE = "0_1_4.avi"


def detect(root: Path, found: Sequence[FoundClip]) -> bool:
    """Return whether all clips are named like those of UT-Interaction, not in class folders.

    Names of three numbers are weak evidence: several folders that are not called ``set1`` or alike
    are class folders.
    """
    if not found or not all(PATTERN.fullmatch(without_suffix(each.path.name)) for each in found):
        return False
    folders = {each.path.parent for each in found}
    return len(folders) == 1 or all("set" in each.name.lower() for each in folders)


def ut_interaction(root: Path) -> Dataset:
    """Read a segmented set of UT-Interaction, or both.

    Parameters
    ----------
    root
        Holds the videos, loose or in folders.

    Returns
    -------
    Dataset
        ``ut-interaction``: clips ``<class>/<stem>`` ordered by sequence and index, group = sequence
        (after its folder, where the videos are in several), no splits.

    Raises
    ------
    FormatError
        A video is not named as this set names its videos.
    """
    named = clips_named(root, PATTERN, EXAMPLE)
    named.sort(key=lambda each: (each[0].parent, int(each[1]["sequence"]), int(each[1]["index"])))
    several = len({path.parent for path, _ in named}) > 1
    clips = []
    for path, match in named:
        label = CLASSES[int(match["label"])]
        place = (path.parent.relative_to(root).as_posix() + "/") if several else ""
        name = f"{label}/{place.replace('/', '_')}{match[0]}"
        clips.append(Clip(path, name, label, f"{place}{int(match['sequence'])}"))
    return Dataset("ut-interaction", tuple(clips), CLASSES)
