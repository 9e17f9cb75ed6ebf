"""What the readers of published sets share: clips whose names follow the set's rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from flowpipe.datasets.find import find_clips, folder
from flowpipe.datasets.names import FoundClip, without_suffix
from flowpipe.errors import FormatError

Rule = re.Pattern[str]


def stem(entry: FoundClip) -> str:
    """Return the file name of a clip without its suffix."""
    return without_suffix(entry.path.name)


def clips_named(root: Path, rule: Rule, example: str) -> list[tuple[Path, re.Match[str]]]:
    """List the clips below a folder, each of whose names (no suffix) has to follow a rule.

    Raises
    ------
    FormatError
        A clip has another name; the message gives the example.
    """
    named = []
    for entry in find_clips(folder(root)):
        match = rule.fullmatch(stem(entry))
        if match is None:
            raise FormatError(
                f"{str(entry.path)!r} is not named like {example!r}, as every video of this set "
                "is; move it out of the folder, or read the folder as another kind of set"
            )
        named.append((entry.path, match))
    return named


def named_like(
    name: str,
    rule: Rule,
    label_of: Callable[[re.Match[str]], str] = lambda match: match["label"],
) -> Callable[[Path, Sequence[FoundClip]], bool]:
    """Return a function that tells whether all clips of a folder are named like those of a set.

    The function raises a FormatError where the folders of the clips contradict their names: clips
    in several folders that are not called like the classes in the names.

    Parameters
    ----------
    name
        The set's name, for the message.
    rule
        The rule of the names.
    label_of
        Return the class in a name.
    """

    def detect(root: Path, found: Sequence[FoundClip]) -> bool:
        matches = [rule.fullmatch(stem(entry)) for entry in found]
        if not found or not all(matches):
            return False
        folders = {entry.path.parent for entry in found}
        for entry, match in zip(found, matches, strict=True):
            assert match is not None
            label = label_of(match)
            inner = len(folders) > 1 and entry.path.parent != root
            if inner and _plain(entry.path.parent.name) != _plain(label):
                raise FormatError(
                    f"{str(entry.path)!r} is named like a clip of {name} of the class {label!r}, "
                    f"but lies in the folder {entry.path.parent.name!r}; name the kind: --dataset "
                    f"{name} goes by the names, --dataset folders by the folders"
                )
        return True

    return detect


def _plain(label: str) -> str:
    return re.sub(r"[\W_]+", "", label.casefold())
