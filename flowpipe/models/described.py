"""Files of networks that flowpipe has trained: safetensors with a description as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.names import State
from flowpipe.runner import atomic
from flowpipe.runner.json_files import Json


def save_described(path: Path, state: State, description: Json, root: Path) -> None:
    """Write weights and their description atomically.

    Parameters
    ----------
    path
        The file.
    state
        Weights by name.
    description
        JSON, with its ``format``, and ``about``, an object.
    root
        Output folder, for the atomic write.
    """
    kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # One entry: several would be written in an order that differs from run to run.
    data = safetensors.torch.save(kept, {"flowpipe": json.dumps(description, sort_keys=True)})
    atomic.write_atomic(path, data, root)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Read a file that flowpipe has written, within ``with``.

    Parameters
    ----------
    path
        The file.
    what
        What it holds, for errors, such as ``trained network``.

    Raises
    ------
    FormatError
        It does not exist, or what is in it does not fit together.
    """
    if not path.is_file():
        raise FormatError(f"{str(path)!r} does not exist; a {what} is expected")
    try:
        yield
    except (
        SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError, RecursionError,
        RuntimeError, AssertionError, ParameterError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise FormatError(f"{str(path)!r} is not a whole {what}: {reason}") from None


def read_described(path: Path, wanted: str) -> tuple[State, Json]:
    """Return the weights and the description in a file of a format; within :func:`reading`."""
    with safe_open(path, "pt") as file:
        description = _description(file.metadata(), wanted)
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118


def read_description(path: Path, wanted: str) -> Json:
    """Return the description in a file of a format, without its weights; see `read_described`."""
    with safe_open(path, "pt") as file:
        return _description(file.metadata(), wanted)


def about_any(path: Path) -> Json | None:
    """Return what is known of a network of any format; None of a file of somebody else."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get("flowpipe", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None  # whoever reads the weights says what is wrong with it
    about = described.get("about") if isinstance(described, dict) else None
    return about if isinstance(about, dict) else None


def _description(metadata: dict[str, str] | None, wanted: str) -> Json:
    description = json.loads((metadata or {}).get("flowpipe", "null"))
    if not isinstance(description, dict) or "format" not in description:
        raise ValueError("it has no description by flowpipe")
    if description["format"] != wanted:
        raise ValueError(f"it is a {description['format']!r}, not a {wanted!r}")
    if not isinstance(description.get("about"), dict):
        raise TypeError("about is no object")
    return description
