"""What the sets that flowpipe makes share: their parameters on disk, and their folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.io.lossless import encode_lossless
from flowpipe.runner.atomic import discard, place, temporary_file, write_atomic
from flowpipe.runner.json_files import Json, read_json, to_json

_P = TypeVar("_P")


def from_options(kind: type[_P], parameters: _P | None, options: Mapping[str, Any]) -> _P:
    """Return parameters that are given as a whole, or as options, or the defaults.

    Raises
    ------
    ParameterError
        Both are given, or an option is unknown.
    """
    if parameters is not None and options:
        raise ParameterError(f"parameters and {', '.join(options)} exclude each other")
    try:
        return parameters or kind(**options)
    except TypeError as error:
        known = ", ".join(each.name for each in fields(kind))  # type: ignore[arg-type]
        raise ParameterError(f"{error}; known are {known}") from None


def check_integers(values: Mapping[str, object], lowest: Mapping[str, int]) -> None:
    """Raise a ParameterError unless all values are integers from their lowest, by default 1.

    ``width`` and ``height`` have to be even.
    """
    for name, value in values.items():
        low = lowest.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ParameterError(f"{name} is {value!r}; it must be an integer from {low}")
        if name in ("width", "height") and value % 2:
            raise ParameterError(f"{name} is {value}; it must be even")


def claim_folder(root: Path, name: str, wanted: Json, what: str) -> None:
    """Create the folder of a set; raise a ParameterError if it holds something else.

    Parameters
    ----------
    root
        The folder.
    name
        Name of the file of the parameters in it.
    wanted
        The parameters.
    what
        What the set is, for the message.
    """
    path = root / name
    if path.exists():
        present = read_json(path)
        differ = [each for each in wanted if present.get(each) != wanted[each]]
        if differ:
            values = ", ".join(
                f"{each} {_short(present.get(each))} not {_short(wanted[each])}" for each in differ
            )
            raise ParameterError(
                f"{str(root)!r} holds a {what} of other parameters ({values}); name another folder"
            )
    else:
        root.mkdir(parents=True, exist_ok=True)
        if any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise ParameterError(f"{str(root)!r} holds something else; name a new or empty folder")
        write_atomic(path, to_json(wanted), root)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def write_lossless(
    path: Path, frames: Iterable[NDArray[np.uint8]], frame_rate: Fraction | int, root: Path
) -> int:
    """Write BGR frames as a lossless video, atomically, and return their number.

    Parameters
    ----------
    path
        The video, below `root`. Missing parent folders are created.
    frames
        (H, W, 3) uint8, all of one even size.
    frame_rate
        Frames per second.
    root
        The folder of the set.
    """
    temporary = temporary_file(root)
    try:
        with temporary.open("wb") as file:
            count = encode_lossless(file, frames, frame_rate)
        place(temporary, path)
    finally:
        discard(temporary)
    return count
