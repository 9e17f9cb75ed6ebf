"""The files of encoding: fitted encoders, and the vectors of a clip.

They hold arrays and JSON; reading a file runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.encoding.base import ClipEncoder
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import FormatError
from flowpipe.io.npz import Arrays, load_arrays, save_arrays, take
from flowpipe.runner.json_files import Json

Encoders = dict[str, ClipEncoder]
"""Fitted encoders by descriptor."""

ENCODERS_FORMAT = "flowpipe encoders 1"
VECTORS_FORMAT = "flowpipe vectors 1"


def encoder_path(out: Path, split: int, descriptor: str) -> Path:
    """Return the file of the encoder of a split, numbered from 1."""
    return out / f"encoders/{vector_name(split, descriptor)}.npz"


def vectors_path(out: Path, clip: str) -> Path:
    """Return the file of the vectors of a clip."""
    return out / f"vectors/{clip}.npz"


def vector_name(split: int, descriptor: str) -> str:
    """Return the name of a vector within the file of its clip."""
    return f"{split}-{descriptor}"


def save_encoders(
    path: Path, encoders: Encoders, encoding: Encoding, root: Path, key: str | None = None
) -> None:
    """Write fitted encoders with the parameters that they were made with."""
    arrays = {
        f"{descriptor}.{name}": array
        for descriptor, encoder in encoders.items()
        for name, array in encoder.to_arrays().items()
    }
    save_arrays(path, ENCODERS_FORMAT, {"encoding": asdict(encoding)}, arrays, root, key)


def load_encoders(path: Path) -> tuple[Encoders, Encoding]:
    """Read what :func:`save_encoders` wrote.

    Raises
    ------
    FormatError
        The file does not hold encoders, or their shapes do not fit together.
    """
    description, arrays = load_arrays(path, ENCODERS_FORMAT)
    try:
        encoding = encoding_of(description["encoding"])
        encoders: Encoders = {}
        for descriptor in encoding.descriptors:
            encoders[descriptor] = encoding.create()
            encoders[descriptor].from_arrays(partial(_take, path, arrays, descriptor))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{str(path)!r} has unknown encoders: {error}") from None
    return encoders, encoding


def encoding_of(record: Json) -> Encoding:
    """Return the parameters that a record describes.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is no such record.
    """
    values: dict[str, Any] = dict(record)
    for name in ("descriptors", "pyramid"):
        values[name] = tuple(values[name])
    return Encoding(**values)


def save_vectors(
    path: Path,
    vectors: Mapping[str, NDArray[np.floating]],
    description: Json,
    root: Path,
    key: str | None = None,
) -> None:
    """Write vectors of one clip by name."""
    save_arrays(path, VECTORS_FORMAT, {"vectors": description}, dict(vectors), root, key)


def load_vectors(path: Path, names: Sequence[str]) -> tuple[dict[str, NDArray[np.float32]], Json]:
    """Read some of the vectors that :func:`save_vectors` wrote, and nothing else of the file.

    Raises
    ------
    FormatError
        The file does not hold them.
    """
    description, arrays = load_arrays(path, VECTORS_FORMAT, names)
    vectors = {
        name: take(path, arrays, name, (None,)).astype(np.float32, copy=False) for name in names
    }
    about = description.get("vectors")
    return vectors, about if isinstance(about, dict) else {}


def _take(
    path: Path, arrays: Arrays, descriptor: str, name: str, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    return take(path, arrays, f"{descriptor}.{name}", shape)
