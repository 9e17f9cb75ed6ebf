"""A NumPy array per clip, with ``meta.json`` beside it: ``npy``."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import META, FloatType, Layout
from flowpipe.flow.store.meta import add_crc
from flowpipe.io.npz import NPY_FAULTS
from flowpipe.runner.atomic import discard, flush, place, temporary_folder


def open_sink(out: Path, clip: str, kind: Layout, dtype: FloatType) -> NpySink:
    """Return what writes the files of a clip."""
    return NpySink(out, clip, kind, dtype)


def open_source(root: Path, clip: str, kind: Layout) -> NpySource:
    """Return what reads the files of a clip."""
    return NpySource(root / f"{clip}{kind.suffix}", kind.done_marker(root, clip))


class NpySink:
    """Streams an array whose length is known at the end only; ``meta.json`` lies beside it.

    The description is put in place first: an array without one is somebody else's.
    """

    def __init__(self, out: Path, clip: str, kind: Layout, dtype: FloatType) -> None:
        self._destination = out / f"{clip}{kind.suffix}"
        self._meta = kind.done_marker(out, clip)
        self._temporary = temporary_folder(out)
        self._file = (self._temporary / "array").open("wb")
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._shape: tuple[int, ...] = (0, 2, 0, 0)
        self._header_size = 0
        self.crc32 = 0

    def add(self, names: tuple[str, ...], parts: list[NDArray[np.floating]]) -> None:
        flow = parts[0]
        self._shape = (self._shape[0] + 1, *flow.shape)
        if not self._header_size:
            self._header_size = self._file.write(self._header())
        data = np.ascontiguousarray(flow, self._dtype).tobytes()
        self.crc32 = add_crc(self.crc32, str(self._shape[0] - 1), data)
        self._file.write(data)

    def finish(self, meta: bytes) -> None:
        # NumPy pads its header so that the first axis can grow in place.
        header = self._header()
        self._file.seek(0)
        self._file.write(header)
        self._file.close()
        described = self._temporary / META
        described.write_bytes(meta)
        flush(self._temporary)  # before what is there is touched
        self._destination.unlink(missing_ok=True)
        place(described, self._meta)
        place(self._temporary / "array", self._destination)

    def _header(self) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            buffer,
            {"descr": self._dtype.str, "fortran_order": False, "shape": self._shape},
        )
        return buffer.getvalue()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk, reported already
            self._file.close()
        discard(self._temporary)


class NpySource:
    """Read an array of flow."""

    def __init__(self, path: Path, meta: Path) -> None:
        self._meta = meta
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
        return self._meta.read_bytes() if self._meta.is_file() else None

    def close(self) -> None:
        del self._array
