"""KTH actions (Schuldt, Laptev and Caputo, 2004): 6 classes, 25 persons, 4 scenarios, 599 clips.

Clips are called ``person<NN>_<class>_d<scenario>_uncomp.avi``; the scenarios are outdoors, outdoors
with changing scale, outdoors with other clothes, and indoors. ``person13_handclapping_d3`` does not
exist. The authors' division by persons trains on eight, validates on eight and tests on nine.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.by_name import clips_named
from flowpipe.errors import ParameterError

CLASSES = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
TRAINING = frozenset((11, 12, 13, 14, 15, 16, 17, 18))
VALIDATION = frozenset((1, 4, 19, 20, 21, 23, 24, 25))
TEST = frozenset((2, 3, 5, 6, 7, 8, 9, 10, 22))

PATTERN = re.compile(
    rf"person(?P<person>\d\d)_(?P<label>{'|'.join(CLASSES)})_d(?P<scenario>[1-4])(?:_uncomp)?"
)
EXAMPLE = "person01_boxing_d1_uncomp.avi"


def kth(root: Path, scenarios: Collection[int] = (1, 2, 3, 4)) -> Dataset:
    """Read KTH, or a part of it.

    Parameters
    ----------
    root
        Holds the videos, in class folders or loose.
    scenarios
        Which of the scenarios 1 to 4 to take.

    Returns
    -------
    Dataset
        ``kth``: clips ``<class>/<stem>``, group ``personNN``, and of the persons that are there the
        splits ``persons`` (training and validation persons against test persons, as papers report)
        and ``validation`` (training against validation persons).

    Raises
    ------
    FormatError
        A video is not named as this set names its videos.
    """
    if not scenarios or not set(scenarios) <= {1, 2, 3, 4}:
        raise ParameterError(f"scenarios is {scenarios!r}; it must be some of 1, 2, 3 and 4")
    clips = []
    for path, match in clips_named(root, PATTERN, EXAMPLE):
        if int(match["scenario"]) in scenarios:
            label, person = match["label"], f"person{match['person']}"
            clips.append(Clip(path, f"{label}/{match[0]}", label, person))
    clips.sort(key=lambda clip: clip.name)
    splits = (
        _by_person("persons", clips, TRAINING | VALIDATION, TEST),
        replace(_by_person("validation", clips, TRAINING, VALIDATION), validation=True),
    )
    return Dataset("kth", tuple(clips), CLASSES, splits)


def _by_person(
    name: str, clips: list[Clip], train: Collection[int], test: Collection[int]
) -> Split:
    halves = (
        tuple(clip.name for clip in clips if clip.group in {f"person{n:02d}" for n in persons})
        for persons in (train, test)
    )
    train_names, test_names = halves
    return Split(name, train_names, test_names)
