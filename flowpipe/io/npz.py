"""Arrays and what describes them in one npz: nothing that is read can run code.

A file holds plain arrays and, as ``description``, JSON. The bytes of a file are a function of what
is in it. A stage's file may carry a key, the digest of all that it was made from: while the key is
the same, it need not be made again.
"""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.runner.atomic import discard, place, temporary_file
from flowpipe.runner.json_files import Json

Arrays = dict[str, NDArray[Any]]

_DESCRIPTION = "description"

NPY_FAULTS = (
    OSError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy raises of a damaged npy or npz; it has Python itself parse the header."""


def save_arrays(
    path: Path,
    kind: str,
    description: Json,
    arrays: Mapping[str, NDArray[Any]],
    root: Path,
    key: str | None = None,
) -> None:
    """Write a file atomically.

    Parameters
    ----------
    path
        The npz.
    kind
        What the file is, such as ``flowpipe encoders 1``, which :func:`load_arrays` compares.
    description
        JSON.
    arrays
        Of numbers or of text, by name; not ``description``.
    root
        Output folder, for the atomic write.
    key
        What :func:`key_of` gives back.
    """
    keyed = {} if key is None else {"key": key}
    text = json.dumps({"format": kind, **keyed, **description}, ensure_ascii=True)
    temporary = temporary_file(root)
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_DESCRIPTION: np.array(text)}, **arrays)
        place(temporary, path)
    finally:
        discard(temporary)


def load_arrays(path: Path, kind: str, names: Collection[str] | None = None) -> tuple[Json, Arrays]:
    """Read a file of :func:`save_arrays`.

    Parameters
    ----------
    path, kind
        As they were given.
    names
        Read these arrays only, those of them that are there; by default all.

    Raises
    ------
    FormatError
        It is not one, not of this kind, or damaged.
    FileNotFoundError
        It is not there.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise FormatError(f"{str(path)!r} is not an npz file")
            wanted = [name for name in file.files if names is None or name in names]
            arrays = {name: file[name] for name in wanted if name != _DESCRIPTION}
            text = file[_DESCRIPTION]
        description = json.loads(text.item()) if text.dtype.kind == "U" else None
    except FileNotFoundError:
        raise
    except FormatError:
        raise
    except NPY_FAULTS as error:
        told = f"{type(error).__name__}: {error}"
        raise FormatError(f"{str(path)!r} is not a file of {kind!r}: {told}") from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != kind or not isinstance(description, dict):
        raise FormatError(f"{str(path)!r} has format {found!r}; it must be {kind!r}")
    return description, arrays


def read_through(path: Path) -> None:
    """Read every byte of an npz file, whose members have check sums.

    Raises
    ------
    FormatError
        It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            json.loads(np.lib.format.read_array(archive.open(f"{_DESCRIPTION}.npy")).item())
    except NPY_FAULTS as error:
        told = f"{type(error).__name__}: {error}"
        raise FormatError(f"{str(path)!r} is damaged: {told}") from None
    if damaged is not None:
        raise FormatError(f"{str(path)!r} is damaged in {damaged!r}")


def key_of(path: Path, kind: str) -> str | None:
    """The key of a file, None where it is not there or cannot be read."""
    try:
        description, _ = load_arrays(path, kind, ())
    except (FileNotFoundError, FormatError):
        return None
    key = description.get("key")
    return key if isinstance(key, str) else None


def take(
    path: Path, arrays: Arrays, name: str, shape: tuple[int | None, ...], kinds: str = "f"
) -> NDArray[Any]:
    """One array of a file, checked.

    Parameters
    ----------
    path
        Named in errors.
    arrays
        As read.
    name
        Of the array.
    shape
        Expected, None where any length is right.
    kinds
        Expected numpy kinds: ``f`` for floating point, ``i`` integers, ``U`` text.

    Raises
    ------
    FormatError
        It is missing, of another shape or type, or not finite.
    """
    found = arrays.get(name)
    wanted = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
    if found is None:
        raise FormatError(f"{str(path)!r} has no array {name!r}")
    fits = found.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype.kind not in kinds:
        raise FormatError(
            f"array {name!r} of {str(path)!r} is {found.dtype} {found.shape}; "
            f"{wanted} of kind {kinds!r} is expected"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise FormatError(f"array {name!r} of {str(path)!r} has numbers that are not finite")
    return found
