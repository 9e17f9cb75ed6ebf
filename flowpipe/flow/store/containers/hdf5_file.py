"""An HDF5 file per clip, with a data set of x and of y per field: ``h5``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import META, FloatType, Layout
from flowpipe.flow.store.meta import add_crc
from flowpipe.io.hdf5 import DeferredErrorFile
from flowpipe.runner.atomic import discard, place, temporary_file

_LARGEST = 1 << 27  # pixels
_H5_FAULTS = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


def open_sink(out: Path, clip: str, kind: Layout, dtype: FloatType) -> Hdf5Sink:
    """Return what writes the file of a clip."""
    return Hdf5Sink(out, clip, kind, dtype)


def open_source(root: Path, clip: str, kind: Layout) -> Hdf5Source:
    """Return what reads the file of a clip."""
    return Hdf5Source(kind.done_marker(root, clip))


def holds_meta(path: Path) -> bool:
    """Return whether a file is HDF5 of flow, or too damaged to say."""
    try:
        with h5py.File(path, "r") as file:
            return META in file
    except _H5_FAULTS:
        return True


class Hdf5Sink:
    """Write an HDF5 file of flow."""

    def __init__(self, out: Path, clip: str, kind: Layout, dtype: FloatType) -> None:
        self._destination = kind.done_marker(out, clip)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._temporary = temporary_file(out)
        self._bytes = DeferredErrorFile(self._temporary)
        self._file = h5py.File(self._bytes, "w")
        self._count = 0
        self.crc32 = 0

    def add(self, names: tuple[str, ...], parts: list[NDArray[np.floating]]) -> None:
        flow = np.ascontiguousarray(parts[0], self._dtype)
        for name, plane in zip(names, flow, strict=True):
            self._file.create_dataset(name, data=plane, chunks=plane.shape, fletcher32=True)
        self._bytes.check()
        self.crc32 = add_crc(self.crc32, str(self._count), flow.tobytes())
        self._count += 1

    def finish(self, meta: bytes) -> None:
        self._file.create_dataset(META, data=np.bytes_(meta))
        self._file.close()
        self._bytes.close()
        self._bytes.check()
        place(self._temporary, self._destination)

    def discard(self) -> None:
        self._file.close()
        self._bytes.close()
        discard(self._temporary)


class Hdf5Source:
    """Read an HDF5 file of flow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except _H5_FAULTS as error:
            raise FormatError(f"{str(path)!r} is not a whole HDF5 file: {error}") from None

    def read(self, name: str) -> bytes:
        raise ParameterError("an HDF5 file of flow holds no coded members")

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        try:
            planes = [self._file[name] for name in names]
            for name, data in zip(names, planes, strict=True):
                if data.id.get_storage_size() == 0 or data.size > _LARGEST:
                    raise ValueError(f"{name} claims to be {data.shape} and is not there")
            return np.stack([np.asarray(data, np.float32) for data in planes])
        except _H5_FAULTS as error:
            raise FormatError(f"{str(self._path)!r}: {names} cannot be read: {error}") from None

    def names(self) -> list[str]:
        try:
            return list(self._file)
        except _H5_FAULTS as error:
            raise FormatError(f"{str(self._path)!r} is damaged: {error}") from None

    def meta(self) -> bytes | None:
        try:
            return bytes(self._file[META][()]) if META in self._file else None
        except _H5_FAULTS as error:
            raise FormatError(f"{str(self._path)!r}: {META} is damaged: {error}") from None

    def close(self) -> None:
        self._file.close()
