"""A folder per clip, or several: ``frames``, ``denseflow``, ``tsfusion``, ``flo``, and others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import META, FloatType, Layout
from flowpipe.flow.store.meta import add_crc
from flowpipe.flow.store.third_party import is_axis
from flowpipe.runner.atomic import discard, flush, place, temporary_folder


def open_sink(out: Path, clip: str, kind: Layout, dtype: FloatType) -> FolderSink:
    """Return what writes the files of a clip."""
    return FolderSink(out, clip, kind)


def open_source(root: Path, clip: str, kind: Layout) -> FolderSource:
    """Return what reads the files of a clip."""
    return FolderSource(dict(kind.folders(root, clip)), kind.done_marker(root, clip))


class FolderSink:
    """Write the folder of a clip, or its folders."""

    def __init__(self, out: Path, clip: str, kind: Layout) -> None:
        self._folders = kind.folders(out, clip)
        self._done = kind.done_marker(out, clip)
        self._in_progress = kind.in_progress_marker(out, clip)
        self._temporary = temporary_folder(out)
        for prefix, _ in self._folders:
            (self._temporary / prefix).mkdir(exist_ok=True)
        self.crc32 = 0

    def add(self, names: tuple[str, ...], parts: list[bytes]) -> None:
        for name, data in zip(names, parts, strict=True):
            (self._temporary / name).write_bytes(data)
            self.crc32 = add_crc(self.crc32, name, data)

    def finish(self, meta: bytes) -> None:
        if len(self._folders) == 1:
            (self._temporary / META).write_bytes(meta)
            place(self._temporary, self._folders[0][1])
            return
        mark = self._temporary / META
        mark.write_bytes(meta)
        flush(self._temporary)  # before what is there is touched
        self._in_progress.parent.mkdir(parents=True, exist_ok=True)
        self._in_progress.touch()
        self._done.unlink(missing_ok=True)
        for prefix, folder in self._folders:
            if any((self._temporary / prefix).iterdir()):
                place(self._temporary / prefix, folder)
            else:
                discard(folder)
        place(mark, self._done)
        self._in_progress.unlink(missing_ok=True)

    def discard(self) -> None:
        discard(self._temporary)


class FolderSource:
    """Read the folder of a clip, or its folders."""

    def __init__(self, folders: dict[str, Path], meta: Path) -> None:
        self._folders = folders
        self._meta = meta

    def read(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise FormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        raise ParameterError("a folder of flow holds no arrays")

    def names(self) -> list[str]:
        return [
            name
            for prefix, folder in self._folders.items()
            if folder.is_dir()
            for name in names_in(folder, f"{prefix}/" if prefix else "")
        ]

    def meta(self) -> bytes | None:
        return self._meta.read_bytes() if self._meta.is_file() else None

    def close(self) -> None:
        pass

    def _path(self, name: str) -> Path:
        prefix, _, member = name.rpartition("/")
        folder = self._folders.get(prefix)
        return folder / member if folder else self._folders[""] / name


def names_in(folder: Path, prefix: str = "") -> list[str]:
    """Return the names in the folder of a clip, and in its folders of x and y."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(f"{prefix}{entry.name}")
            if is_axis(entry.name) and entry.is_dir():
                with os.scandir(entry.path) as members:
                    names += [f"{names[-1]}/{member.name}" for member in members]
    return names
