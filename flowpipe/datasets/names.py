"""Clip names: safe for files, lists and terminals, and distinct."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowpipe.datasets.base import VIDEO_SUFFIXES
from flowpipe.errors import ParameterError

# Control characters, halves of surrogate pairs (undecodable bytes), and what looks encoded.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\ud800-\udfff]|%(?=[0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class FoundClip:
    """Hold a video or a folder of frames, and its path from the folder that was searched."""

    path: Path
    name: str
    """The path, with the suffix."""


def safe_name(name: str) -> str:
    """Return a clip name in which odd characters are written as ``%XX``.

    Control characters and undecodable bytes are encoded, and a ``%`` that could be taken for such a
    code, so that different names stay different. Spaces, quotes and letters of any script are kept.
    """
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), name)


def _bytes(char: str) -> bytes:
    undecodable = "\udc80" <= char <= "\udcff"  # as os.fsdecode passes such a byte on
    return char.encode(errors="surrogateescape" if undecodable else "surrogatepass")


def without_suffix(name: str) -> str:
    """Return a name without the suffix of a video; any other name is returned as it is."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name


def clip_names(found: Sequence[FoundClip]) -> list[str]:
    """Return a safe, distinct name for each clip: its path without the suffix.

    Clips that differ in nothing but the suffix keep it. Clips of the same name from several places
    get as many folders of their paths before it as tell them apart.

    Raises
    ------
    ParameterError
        Two clips cannot be told apart by their paths.
    """
    names = [without_suffix(entry.name) for entry in found]
    for depth in range(64):
        clashes = _clashes(names)
        if not clashes:
            return [safe_name(name) for name in names]
        for group in clashes:
            full = [_deepened(found[index], depth) for index in group]
            bare = [without_suffix(name) for name in full]
            better = bare if len(set(bare)) == len(bare) and depth else full
            for index, name in zip(group, better, strict=True):
                names[index] = name
    raise ParameterError(f"clips cannot be told apart by name, such as {found[0].name!r}")


def _clashes(names: list[str]) -> list[list[int]]:
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        by_name[name].append(index)
    groups = [group for group in by_name.values() if len(group) > 1]
    # A clip "a" beside a folder "a" of other clips would be that folder in layouts of folders.
    folders = {str(parent) for name in names for parent in Path(name).parents}
    return groups + [
        group for name, group in by_name.items() if len(group) == 1 and name in folders
    ]


def _deepened(entry: FoundClip, depth: int) -> str:
    parts = Path(os.path.abspath(entry.path)).parts[1:]
    return "/".join(parts[-(len(Path(entry.name).parts) + depth) :])
