"""Where the parts of one clip are read from: a zip, folders, an array, an HDF5 file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import META, LayoutName, layout
from flowpipe.flow.store.zips import NotPlainError, PlainZip
from flowpipe.io.npz import NPY_FAULTS


class Source(Protocol):
    """The stored parts of a clip."""

    def read(self, name: str) -> bytes:
        """The bytes of a coded member."""

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        """The (2, H, W) flow field ``index`` of a float layout, whose members are ``names``."""

    def names(self) -> list[str]:
        """Names of all members; in a .npy the indices of the flow fields."""

    def meta(self) -> bytes | None:
        """What ``meta.json`` holds, None where there is none."""

    def close(self) -> None:
        """Close the files."""


def open_source(root: Path, clip: str, name: LayoutName | None) -> Source:
    """Open a clip for reading.

    Parameters
    ----------
    root
        The output folder.
    clip
        Name of the clip.
    name
        Its layout; None for one folder a clip.

    Raises
    ------
    FormatError
        It is not there or not whole. The path is named.
    """
    kind = layout(name or "frames")
    mark = kind.mark(root, clip)
    match name:
        case "zip":
            return _ZipSource(mark)
        case "npy":
            return _NpySource(root / f"{clip}{kind.suffix}", mark)
        case "h5":
            return _H5Source(mark)
        case _:
            return _FolderSource(dict(kind.folders(root, clip)), mark)


# A flipped bit can call a stored member compressed, or encrypted, or place it anywhere.
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


class _ZipSource:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip: PlainZip | zipfile.ZipFile = _opened(path)
        except _ZIP_FAULTS as error:
            raise FormatError(f"{str(path)!r} is not a whole zip: {error}") from None

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except KeyError:
            raise FormatError(f"{str(self._path)!r} lacks {name!r}") from None
        except _ZIP_FAULTS as error:
            raise FormatError(f"{name!r} in {str(self._path)!r} is damaged: {error}") from None

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        raise ParameterError("a zip of flow holds no arrays")

    def names(self) -> list[str]:
        return self._zip.namelist()

    def meta(self) -> bytes | None:
        return self.read(META) if META in self._zip.namelist() else None

    def close(self) -> None:
        self._zip.close()


def _opened(path: Path) -> PlainZip | zipfile.ZipFile:
    try:
        return PlainZip(path)
    except NotPlainError:
        return zipfile.ZipFile(path)


class _FolderSource:
    def __init__(self, folders: dict[str, Path], mark: Path) -> None:
        self._folders = folders
        self._mark = mark

    def read(self, name: str) -> bytes:
        prefix, _, member = name.rpartition("/")
        path = self._folders[prefix] / member
        try:
            return path.read_bytes()
        except OSError as error:
            raise FormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        raise ParameterError("a folder of flow holds no arrays")

    def names(self) -> list[str]:
        return [
            f"{prefix}/{entry.name}" if prefix else entry.name
            for prefix, folder in self._folders.items()
            if folder.is_dir()
            for entry in folder.iterdir()
        ]

    def meta(self) -> bytes | None:
        return self._mark.read_bytes() if self._mark.is_file() else None

    def close(self) -> None:
        pass


class _NpySource:
    def __init__(self, path: Path, mark: Path) -> None:
        self._mark = mark
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except NPY_FAULTS as error:
            raise FormatError(f"{str(path)!r} is not a whole .npy: {error}") from None
        if array.ndim != 4 or array.shape[1] != 2 or array.dtype.kind != "f":
            raise FormatError(
                f"{str(path)!r} holds {array.dtype} of shape {array.shape}; "
                "flow is floating point (N, 2, H, W)"
            )
        self._array = array

    def read(self, name: str) -> bytes:
        raise ParameterError("a .npy of flow holds no coded members")

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        return np.array(self._array[index], np.float32)

    def names(self) -> list[str]:
        return [str(index) for index in range(len(self._array))]

    def meta(self) -> bytes | None:
        return self._mark.read_bytes() if self._mark.is_file() else None

    def close(self) -> None:
        del self._array


_LARGEST = 1 << 27  # pixels
_H5_FAULTS = (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError)


class _H5Source:
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
            for name in names:
                data = self._file[name]
                if data.id.get_storage_size() == 0 or data.size > _LARGEST:
                    raise ValueError(f"{name} claims to be {data.shape} and is not there")
            return np.stack([np.asarray(self._file[name], np.float32) for name in names])
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
