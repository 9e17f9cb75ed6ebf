"""Write and read JSON objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError

Json = dict[str, Any]


def to_json(value: Mapping[str, Any]) -> bytes:
    """Return indented JSON, keys in the order given; ASCII only, so that any file name survives."""
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()


def read_json(path: Path, data: bytes | None = None) -> Json:
    """Read a JSON object.

    Parameters
    ----------
    path
        The file; named in errors.
    data
        Its content, if it has been read already.

    Raises
    ------
    FormatError
        The content is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes() if data is None else data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(
            f"{str(path)!r} holds a JSON {type(value).__name__}; an object is expected"
        )
    return value
