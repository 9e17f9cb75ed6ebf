"""Find the clips of a set among the names in an output folder: the one rule for all stages.

A stage names its outputs by the path of each video from the folder that it was given, a published
set names a clip ``<class>/<file name>``, and other tools use the file name alone. So two names
belong together if one is the end of the other, folder by folder. Upper and lower case, and composed
and decomposed letters, do not matter. If all outputs lie in one folder that is called like
a set (UT-Interaction's ``set1``), it does not count. A name that fits several outputs fits none.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from flowpipe.datasets.base import Clip
from flowpipe.datasets.names import safe_name, without_suffix

_MOST_SUGGESTIONS = 20
_SET_FOLDER = re.compile(r"(?:^|[^a-z])set[_-]?\d+$", re.IGNORECASE)


def match_clips(
    clips: Iterable[Clip | str], names: Iterable[str], where: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the output of each clip.

    Parameters
    ----------
    clips
        Clips of a set, or their names.
    names
        Names of the outputs that are there.
    where
        The folder of the outputs, for the messages.

    Returns
    -------
    found, missing : dict
        By clip name: the name of its output; or why there is none.
    """
    names = list(names)
    exact = set(names)
    folded: defaultdict[str, set[str]] = defaultdict(set)
    ends: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        folded[_fold(name)].add(name)
        for end in _ends(_fold(name)):
            ends[end].add(name)
    shared = {name.rpartition("/")[0] for name in names}
    if len(shared) == 1 and _SET_FOLDER.search(min(shared)):
        for name in names:
            folded[_fold(name.rpartition("/")[2])].add(name)
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for clip in dict.fromkeys(clips):
        name = clip if isinstance(clip, str) else clip.name
        fits = {name} if name in exact else _candidates(clip, folded, ends)
        if len(fits) == 1:
            found[name] = next(iter(fits))
            owners[found[name]].append(name)
        elif fits:
            listed = ", ".join(map(repr, sorted(fits)[:3]))
            missing[name] = f"{str(where)!r} has several outputs that may be its own: {listed}"
        else:
            missing[name] = f"not in {str(where)!r}"
            if len(missing) <= _MOST_SUGGESTIONS and (near := _nearest(name, names)):
                missing[name] += f"; the nearest name there is {near!r}"
    for output, several in owners.items():
        if len(several) > 1 and output not in several:
            for name in several:
                del found[name]
                listed = ", ".join(map(repr, several[:3]))
                missing[name] = f"{output!r} in {str(where)!r} may belong to any of {listed}"
        elif len(several) > 1:
            for name in several:
                if name != output:
                    del found[name]
                    missing[name] = f"not in {str(where)!r}; {output!r} there is another clip's"
    return found, missing


def _candidates(
    clip: Clip | str, folded: dict[str, set[str]], ends: dict[str, set[str]]
) -> set[str]:
    """Return the outputs of the same name, or of which one name is the end of the other.

    Where there is none, that in which the path of the clip's video ends.
    """
    name = clip if isinstance(clip, str) else clip.name
    for key in dict.fromkeys((_fold(name), _fold(safe_name(name)))):
        if fits := folded.get(key) or ends.get(key) or _longest_end(key, folded):
            return fits
    if isinstance(clip, str):
        return set()
    return _longest_end(_fold(safe_name(without_suffix(clip.path.absolute().as_posix()))), folded)


def _longest_end(key: str, folded: dict[str, set[str]]) -> set[str]:
    return next((folded[end] for end in _ends(key) if end in folded), set())


def _ends(key: str) -> Iterable[str]:
    """Return what is left of a name without its first folder, its first two, and so on."""
    parts = key.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _nearest(name: str, names: list[str]) -> str | None:
    last = name.rpartition("/")[2]
    by_last = {each.rpartition("/")[2]: each for each in names}
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.5)
    return by_last[near[0]] if near else None
