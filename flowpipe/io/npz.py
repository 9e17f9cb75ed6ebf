"""Write and read arrays with a JSON description in one npz file, without pickles.

Reading a file never runs code. The bytes of a file depend only on its contents. A file may carry a
key, the digest of everything that it was computed from: it is up to date while the key is the same.
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
"""Exceptions that numpy raises for a damaged npy or npz file; Python itself parses its header."""


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
        The npz file.
    kind
        Format of the file, such as ``flowpipe encoders 1``, which :func:`load_arrays` checks.
    description
        Any JSON object.
    arrays
        Arrays of numbers or of text by name, except the name ``description``.
    root
        The output folder, for the atomic write.
    key
        The key that :func:`key_of` returns.
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
    """Read a file written by :func:`save_arrays`.

    Parameters
    ----------
    path, kind
        The file, and its format as it was given to :func:`save_arrays`.
    names
        Names of the arrays to read, if they exist; by default all.

    Returns
    -------
    dict, dict
        The description and the arrays.

    Raises
    ------
    FormatError
        The file is damaged, or has another format.
    FileNotFoundError
        The file does not exist.
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
        message = f"{type(error).__name__}: {error}"
        raise FormatError(f"{str(path)!r} is not a file of {kind!r}: {message}") from None
    recorded = description.get("format") if isinstance(description, dict) else None
    if recorded != kind or not isinstance(description, dict):
        raise FormatError(f"{str(path)!r} has format {recorded!r}; it must be {kind!r}")
    return description, arrays


def read_through(path: Path) -> None:
    """Read every byte of an npz file and compare the checksums of its members.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            json.loads(np.lib.format.read_array(archive.open(f"{_DESCRIPTION}.npy")).item())
    except NPY_FAULTS as error:
        message = f"{type(error).__name__}: {error}"
        raise FormatError(f"{str(path)!r} is damaged: {message}") from None
    if damaged is not None:
        raise FormatError(f"{str(path)!r} is damaged in {damaged!r}")


def key_of(path: Path, kind: str) -> str | None:
    """Return the key of a file, or None if it is missing or cannot be read."""
    try:
        description, _ = load_arrays(path, kind, ())
    except (FileNotFoundError, FormatError):
        return None
    key = description.get("key")
    return key if isinstance(key, str) else None


def take(
    path: Path, arrays: Arrays, name: str, shape: tuple[int | None, ...], kinds: str = "f"
) -> NDArray[Any]:
    """Return an array of a file after checking it.

    Parameters
    ----------
    path
        The file, named in errors.
    arrays
        Arrays of the file.
    name
        Name of the array.
    shape
        Expected shape; None for a dimension of any length.
    kinds
        Expected numpy kinds: ``f`` for floating point, ``i`` for integers, ``U`` for text.

    Raises
    ------
    FormatError
        The array is missing, has another shape or type, or is not finite.
    """
    array = arrays.get(name)
    expected = "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"
    if array is None:
        raise FormatError(f"{str(path)!r} has no array {name!r}")
    fits = array.ndim == len(shape) and all(
        length in (None, actual) for length, actual in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype.kind not in kinds:
        raise FormatError(
            f"array {name!r} of {str(path)!r} is {array.dtype} {array.shape}; "
            f"{expected} of kind {kinds!r} is expected"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FormatError(f"array {name!r} of {str(path)!r} has numbers that are not finite")
    return array
