"""Store trajectories in an HDF5 table with one dataset per field.

A row takes 952 bytes by default: ``info`` and ``trajectory`` are float32; descriptors, which are in
0..1, are int16 multiples of ``scale`` = 1/32767, an attribute of the dataset. That is up to eight
times finer than float16, which makes a difference to Fisher vectors. Chunks of rows are not
compressed but have checksums. Equal content gives equal files.

Strings have a fixed length, so that they lie in headers, under a checksum. HDF5 keeps strings of
variable length in a heap without one, and a single flipped bit there makes it loop for ever.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Plane
from flowpipe.errors import FormatError, ParameterError
from flowpipe.trajectories.extract import Trajectories, set_times
from flowpipe.trajectories.parameters import Storage, TrajectoryParameters

FIELDS = ("info", "trajectory", "hog", "hof", "mbhx", "mbhy")
"""Datasets of a table, in the order of the released programs' columns."""

FORMAT = "flowpipe trajectories 2"
POOLED_FORMAT = "flowpipe pooled maps 1"
"""A table whose descriptors are maps of networks; the attribute ``widths`` names them."""

_STEPS = 32767
_FAULTS = (KeyError, OSError, OverflowError, RuntimeError, TypeError, ValueError)
"""What h5py raises when it reads a damaged file."""
_CHUNK = 64
"""Rows per chunk; the last chunk is stored whole, so that larger ones would waste space."""
_BLOCK = 4096
"""Rows that are collected before they are written."""


class TableWriter:
    """Write the rows of a clip as they come; use it as a context manager.

    Writing is not atomic: the caller moves the finished file into place.

    Parameters
    ----------
    target
        Path, or a binary file opened for reading and writing.
    parameters
        Parameters of the trajectories, stored in the file.
    storage
        Type of the descriptors: int16 fixed point, or lossless float32.
    attributes
        Further attributes of the file: numbers and strings.
    """

    def __init__(
        self,
        target: Path | str | IO[bytes] | RawIOBase,
        parameters: TrajectoryParameters,
        storage: Storage = "int16",
        attributes: dict[str, str | int | float] | None = None,
    ) -> None:
        if storage not in ("int16", "float32"):
            raise ParameterError(f"storage is {storage!r}; it must be 'int16' or 'float32'")
        self._parameters = parameters
        self._pending: list[Trajectories] = []
        self._rows = 0
        self._file = h5py.File(target, "w", libver=("v110", "v110"))
        self._set({"format": FORMAT, "parameters": json.dumps(dataclasses.asdict(parameters))})
        self._set(attributes or {})
        for name, width in parameters.widths.items():
            kind = "float32" if name in ("info", "trajectory") else storage
            data = self._file.create_dataset(
                name,
                shape=(0, width),
                maxshape=(None, width),
                chunks=(_CHUNK, width),
                dtype=kind,
                track_times=False,
                fletcher32=True,
            )
            data.attrs["scale"] = 1 / _STEPS if kind == "int16" else 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._rows + sum(len(rows) for rows in self._pending)

    def append(self, rows: Trajectories) -> None:
        """Add rows. Their arrays must not be changed until they are written."""
        self._pending.append(rows)
        if len(self) - self._rows >= _BLOCK:
            self._write()

    def finish(self, length: int, width: int, height: int, **attributes: str | int | float) -> None:
        """Write the remaining rows, and what is only known at the end.

        Parameters
        ----------
        length
            Number of frames of the clip, also for ``t_pos``.
        width, height
            Size of the frames, in pixels.
        **attributes
            Further attributes of the file.
        """
        self._write()
        self._set({**attributes, "length": length, "width": width, "height": height})
        info = self._file["info"]
        for first in range(0, self._rows, _BLOCK):
            block = info[first : first + _BLOCK]
            set_times(block, self._parameters, length)
            info[first : first + _BLOCK] = block

    def _set(self, attributes: dict[str, str | int | float]) -> None:
        for name, value in attributes.items():
            self._file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value

    def _write(self) -> None:
        count = len(self) - self._rows
        if count == 0:
            return
        for name in FIELDS:
            data = self._file[name]
            data.resize(self._rows + count, axis=0)
            values = np.concatenate([getattr(rows, name) for rows in self._pending])
            if data.dtype == np.int16:
                values = np.rint(values * np.float32(_STEPS))
            data[self._rows :] = values
        self._rows += count
        self._pending.clear()


class Table:
    """Read a table of trajectories; use it as a context manager.

    Parameters
    ----------
    source
        Path, or a binary file opened for reading.

    Raises
    ------
    FormatError
        The file is not HDF5, or not a complete table of trajectories.
    """

    def __init__(self, source: Path | str | IO[bytes]) -> None:
        name = str(source)
        try:
            self._file = h5py.File(source, "r")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise FormatError(f"{name!r} is not an HDF5 file: {error}") from error
        try:
            attributes = _attributes(self._file, name)
            self.fields: tuple[str, ...] = FIELDS
            self.parameters = self._check(name, attributes)
        except BaseException as error:
            self._file.close()
            if isinstance(error, _FAULTS):
                raise FormatError(f"{name!r} is damaged: {error}") from None
            raise
        del attributes["format"], attributes["parameters"]
        self.attributes: dict[str, Any] = attributes
        """Further attributes: length, width and height of the clip, and those of the writer."""

    def _check(self, name: str, attributes: dict[str, Any]) -> TrajectoryParameters:
        stored = attributes.get("format")
        if stored not in (FORMAT, POOLED_FORMAT):
            raise FormatError(f"{name!r} has format {stored!r}; it must be {FORMAT!r}")
        if "length" not in attributes:
            raise FormatError(f"{name!r} was not finished; extract its clip again")
        try:
            parameters = TrajectoryParameters(**json.loads(attributes["parameters"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{name!r} has unknown parameters: {error}") from error
        widths = parameters.widths
        if stored == POOLED_FORMAT:
            widths = {"info": widths["info"], **_pooled_widths(name, attributes)}
        self.fields, self.widest = tuple(widths), max(widths.values())
        lengths = set()
        for field, width in widths.items():
            data = self._file.get(field)
            if not isinstance(data, h5py.Dataset) or data.ndim != 2 or data.shape[1] != width:
                raise FormatError(f"{name!r} has no dataset {field!r} of {width} columns")
            rows = data.shape[0]
            if data.id.get_storage_size() < rows * width * data.dtype.itemsize:
                raise FormatError(f"{name!r} says that {field!r} has {rows} rows and holds fewer")
            lengths.add(rows)
        if len(lengths) != 1:
            raise FormatError(f"{name!r} has datasets of {sorted(lengths)} rows; all must agree")
        return parameters

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return int(self._file["info"].shape[0])

    def read(
        self,
        rows: slice | NDArray[np.integer] | Sequence[int] = slice(None),
        fields: Sequence[str] | None = None,
    ) -> dict[str, Plane]:
        """Read fields of some rows, by default all, as float32, in the order of `rows`.

        Only the chunks that contain these rows are read.

        Raises
        ------
        ParameterError
            A row or a field does not exist.
        FormatError
            The file is damaged.
        """
        fields = self.fields if fields is None else fields
        for field in fields:
            if field not in self.fields:
                raise ParameterError(
                    f"field is {field!r}; it must be one of {', '.join(self.fields)}"
                )
        if isinstance(rows, slice):
            return {name: self._values(name, rows) for name in fields}
        index = np.asarray(rows, np.int64)
        if index.size and not 0 <= index.min() <= index.max() < len(self):
            raise ParameterError(
                f"rows are from {index.min()} to {index.max()}; they must be in 0..{len(self) - 1}"
            )
        return {name: self._read_rows(name, index) for name in fields}

    def _read_rows(self, name: str, index: NDArray[np.int64]) -> Plane:
        data = self._file[name]
        out = np.empty((len(index), data.shape[1]), np.float32)
        order = np.argsort(index, kind="stable")
        # Where most chunks contain a row of `rows`, many chunks are read together.
        span = _CHUNK if len(index) * _CHUNK < len(self) else _BLOCK
        chunks = index[order] // span
        for places in np.split(order, np.flatnonzero(np.diff(chunks)) + 1) if len(index) else []:
            first = int(index[places].min())
            block = self._values(name, slice(first, int(index[places].max()) + 1))
            out[places] = block[index[places] - first]
        return out

    def _values(self, name: str, rows: slice) -> Plane:
        data = self._file[name]
        try:
            stored = data[rows]
            scale = np.float32(data.attrs.get("scale", 1.0))
        except _FAULTS as error:
            raise FormatError(f"{self._file.filename!r} is damaged in {name!r}: {error}") from None
        return np.asarray(stored.astype(np.float32) * scale, np.float32)


def _pooled_widths(name: str, attributes: dict[str, Any]) -> dict[str, int]:
    """Return the number of columns of each descriptor of a table of pooled maps."""
    widths = json.loads(attributes["widths"])
    if not isinstance(widths, dict) or not all(type(each) is int for each in widths.values()):
        raise FormatError(f"{name!r} does not say which descriptors it has")
    return widths


def _attributes(file: h5py.File, name: str) -> dict[str, Any]:
    """Return the attributes of a table; none is read that could make HDF5 loop for ever."""
    found = {}
    for key in file.attrs:
        kind = h5py.check_string_dtype(file.attrs.get_id(key).dtype)
        if kind is not None and kind.length is None:
            raise FormatError(
                f"{name!r} is no table of this version of flowpipe: its attribute {key!r} is a "
                "string of variable length; remove it with 'flowpipe verify FOLDER --repair' and "
                "extract its clip again"
            )
        value = file.attrs[key]
        found[key] = value.decode() if isinstance(value, bytes) else value
    return found


def read_table(
    path: Path | str, rows: slice | NDArray[np.integer] | Sequence[int] = slice(None)
) -> Trajectories:
    """Read rows of a table file, by default all."""
    with Table(path) as table:
        return Trajectories(**table.read(rows))
