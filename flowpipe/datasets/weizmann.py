"""Weizmann actions (Blank, Gorelick, Shechtman, Irani and Basri, 2005): 10 classes, 9 actors.

Clips are called ``<actor>_<class>.avi``, one per actor and class: 90 clips of 180x144 pixels, taken
by a camera that stands still. In the authors' download lena runs, skips and walks twice
(``lena_walk1``, ``lena_walk2``). Papers leave one actor out in turn.
"""

from __future__ import annotations

import re
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.by_name import clips_named

ACTORS = ("daria", "denis", "eli", "ido", "ira", "lena", "lyova", "moshe", "shahar")
CLASSES = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")

PATTERN = re.compile(
    rf"(?P<actor>{'|'.join(ACTORS)})_(?P<label>{'|'.join(CLASSES)})(?P<take>[12])?"
)
EXAMPLE = "daria_walk.avi"


def weizmann(root: Path) -> Dataset:
    """Read Weizmann, or a part of it.

    Parameters
    ----------
    root
        Holds the videos, in class folders or loose.

    Returns
    -------
    Dataset
        ``weizmann``: clips ``<class>/<actor>_<class>``, group = actor, no splits.

    Raises
    ------
    FormatError
        A video is not named as this set names its videos.
    """
    clips = [
        Clip(path, f"{match['label']}/{match[0]}", match["label"], match["actor"])
        for path, match in clips_named(root, PATTERN, EXAMPLE)
    ]
    clips.sort(key=lambda clip: clip.name)
    return Dataset("weizmann", tuple(clips), CLASSES)
