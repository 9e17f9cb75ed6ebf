"""Tables of maps pooled along trajectories: ``info``, and a field per descriptor.

Descriptors are float16, as the maps are. :class:`flowpipe.trajectories.table.Table` reads them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import POOLED_FORMAT

_CHUNK = 64


class PooledWriter:
    """Write the rows of a clip as they come; a context manager.

    Parameters
    ----------
    target
        A binary file opened for reading and writing.
    parameters
        Parameters of the trajectories.
    widths
        Number of columns of each descriptor.
    attributes
        Attributes of the file: numbers and strings.
    """

    def __init__(
        self,
        target: IO[bytes] | Any,
        parameters: TrajectoryParameters,
        widths: Mapping[str, int],
        attributes: Mapping[str, Any],
    ) -> None:
        self._file = h5py.File(target, "w", libver=("v110", "v110"))
        described = {
            "format": POOLED_FORMAT,
            "parameters": json.dumps(dataclasses.asdict(parameters)),
            "widths": json.dumps(dict(widths)),
            **attributes,
        }
        for name, value in described.items():
            self._file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
        for name, width in {"info": parameters.widths["info"], **widths}.items():
            self._file.create_dataset(
                name,
                shape=(0, width),
                maxshape=(None, width),
                chunks=(_CHUNK, width),
                dtype="float32" if name == "info" else "float16",
                track_times=False,
                fletcher32=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, rows: Mapping[str, NDArray[np.floating]]) -> None:
        """Add rows of all fields."""
        for name, values in rows.items():
            data = self._file[name]
            before = data.shape[0]
            data.resize(before + len(values), axis=0)
            data[before:] = values


def blocks_of(ends: NDArray[np.integer], rows: int = 1024, frames: int = 64) -> Iterator[slice]:
    """Yield blocks of tracks, in the order of their ends, of a few rows and frames each.

    Examples
    --------
    >>> list(blocks_of(np.array([20, 21, 300]), rows=8, frames=64))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    first = 0
    while first < len(ends):
        behind = int(np.searchsorted(ends, ends[first] + frames))
        yield slice(first, min(behind, first + rows))
        first = min(behind, first + rows)


def is_pooled_with(path: Path, key: str) -> bool:
    """Return whether a finished table carries a key."""
    try:
        with h5py.File(path, "r") as file:
            stored = file.attrs.get("key")
    except OSError:
        return False
    return isinstance(stored, bytes) and stored.decode() == key
