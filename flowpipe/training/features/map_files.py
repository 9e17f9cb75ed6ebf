"""Files of maps: (T, H, W, C) float16 in a .npy, written and read a few maps at a time."""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.io.npz import NPY_FAULTS
from flowpipe.runner import atomic

_HEADER = 128
"""Bytes of a header, of format 1.0, which is written last: it says how many maps there are."""


class MapWriter:
    """Write the maps of a clip as they come; a context manager.

    Nothing is in place before :meth:`finish`.

    Parameters
    ----------
    path
        The .npy.
    root
        The output folder.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._temporary = atomic.temporary_file(root)
        self._file = self._temporary.open("w+b")
        self._file.write(bytes(_HEADER))
        self._shape: tuple[int, ...] | None = None
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        atomic.discard(self._temporary)

    def append(self, maps: NDArray[np.floating]) -> None:
        """Add maps, (n, H, W, C).

        Raises
        ------
        FormatError
            A value is not finite, or more than float16 holds, or the size changes.
        """
        self._shape = self._shape or maps.shape[1:]
        if maps.shape[1:] != self._shape:
            raise FormatError(f"their size changes from {self._shape} to {maps.shape[1:]}")
        with np.errstate(over="ignore"):
            halves = np.ascontiguousarray(maps, np.float16)
        if not np.isfinite(halves).all():
            raise FormatError(
                "they have values that are not finite, or more than float16 holds (65504): the "
                "network has diverged, or its weights are damaged"
            )
        self._file.write(halves.tobytes())
        self._count += len(halves)

    def finish(self) -> tuple[int, ...]:
        """Put the array in place, and return its shape."""
        assert self._shape is not None
        shape = (self._count, *self._shape)
        self._file.seek(0)
        self._file.write(_header(shape))
        self._file.close()
        atomic.place(self._temporary, self._path)
        return shape


def load_maps(path: Path) -> NDArray[np.float16]:
    """Open the maps of a clip, which stay on disk.

    Parameters
    ----------
    path
        The .npy of ``features --maps``.

    Returns
    -------
    (T, H, W, C) float16, mapped from the file, read only

    Raises
    ------
    FormatError
        The file holds no maps.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except NPY_FAULTS as error:
            raise FormatError(f"{str(path)!r} is no array: {error}") from None
        offset = file.tell()
    are_maps = version == (1, 0) and len(shape) == 4 and dtype == np.float16 and not is_fortran
    size = path.stat().st_size - offset
    if not are_maps or min(shape) < 1 or math.prod(shape) * dtype.itemsize != size:
        raise FormatError(f"{str(path)!r} holds no maps: (T, H, W, C) float16 is expected")
    return np.memmap(path, dtype, "r", offset, shape)


def checksum_of(path: Path) -> str:
    """Return the digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    described: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    header = buffer.getvalue()
    assert len(header) == _HEADER
    return header
