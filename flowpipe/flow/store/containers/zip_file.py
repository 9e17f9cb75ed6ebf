"""A zip per clip, its members stored, not compressed: ``zip``."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import META, FloatType, Layout
from flowpipe.flow.store.zips import NotPlainError, PlainZip
from flowpipe.runner.atomic import discard, place, temporary_file

_DOS_EPOCH = (1980, 1, 1, 0, 0, 0)

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


def open_sink(out: Path, clip: str, kind: Layout, dtype: FloatType) -> ZipSink:
    """Return what writes the file of a clip."""
    return ZipSink(out, clip, kind)


def open_source(root: Path, clip: str, kind: Layout) -> ZipSource:
    """Return what reads the file of a clip."""
    return ZipSource(kind.done_marker(root, clip))


def holds_meta(path: Path) -> bool:
    """Return whether a file is a zip of flow, or too damaged to say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return META in archive.namelist()
    except _ZIP_FAULTS:
        return True


class ZipSink:
    """Write a zip of flow."""

    crc32: int | None = None  # a zip has its own

    def __init__(self, out: Path, clip: str, kind: Layout) -> None:
        self._destination = kind.done_marker(out, clip)
        self._temporary = temporary_file(out)
        self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_STORED)

    def add(self, names: tuple[str, ...], parts: list[bytes]) -> None:
        for name, data in zip(names, parts, strict=True):
            member = zipfile.ZipInfo(name, _DOS_EPOCH)
            member.external_attr = 0o644 << 16
            self._zip.writestr(member, data)

    def finish(self, meta: bytes) -> None:
        self.add((META,), [meta])
        self._zip.close()
        place(self._temporary, self._destination)

    def discard(self) -> None:
        if self._zip.fp is not None:
            # Closing the archive would write its directory; only the file is to be let go.
            with contextlib.suppress(OSError):
                self._zip.fp.close()
            self._zip.fp = None
        discard(self._temporary)


class ZipSource:
    """Read a zip of flow."""

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
