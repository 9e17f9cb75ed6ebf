"""Read the flow of one clip from any layout, ours or another tool's."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.artifacts import read_json
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.layouts import (
    BOOKKEEPING,
    META,
    Layout,
    LayoutName,
    foreign_layout,
    layout,
)
from flowpipe.flow.store.meta import FlowMeta

_BY_SUFFIX: dict[str, LayoutName] = {".zip": "zip", ".npy": "npy", ".h5": "h5"}
_TSFUSION = ("u", "v")


@dataclass(frozen=True, slots=True)
class StoredClip:
    """Where the flow of one clip lies.

    Attributes
    ----------
    root
        The output folder.
    name
        Name of the clip.
    layout
        None for a folder, whose layout its ``meta.json`` or its file names tell.
    """

    root: Path
    name: str
    layout: LayoutName | None

    @property
    def mark(self) -> Path:
        """The path whose presence says that the clip is whole."""
        return layout(self.layout or "frames").mark(self.root, self.name)

    @property
    def path(self) -> Path:
        """The clip's file, or its (first) folder."""
        if self.layout in ("npy", "zip", "h5"):
            return self.root / f"{self.name}{layout(self.layout).suffix}"
        return layout(self.layout or "frames").folders(self.root, self.name)[0][1]


def stored_clips(root: Path) -> Iterator[StoredClip]:
    """Every clip with flow under a folder, or the one that a file or a folder holds, by name.

    Raises
    ------
    FormatError
        The path does not exist, or is a file of another kind.
    """
    if root.is_file():
        if root.suffix not in _BY_SUFFIX:
            raise FormatError(f"{str(root)!r} is not a flow file (.zip, .npy or .h5)")
        yield StoredClip(root.parent, root.stem, _BY_SUFFIX[root.suffix])
        return
    if not root.is_dir():
        raise FormatError(f"{str(root)!r} does not exist; a folder or file of flow is expected")
    if _holds_flow(sorted(entry.name for entry in root.iterdir())):
        yield StoredClip(root.parent, root.name, None)
        return
    marks = root / BOOKKEEPING / "clips"
    if marks.is_dir():
        for mark in sorted(marks.rglob("*.json")):
            yield StoredClip(root, mark.relative_to(marks).with_suffix("").as_posix(), "tsfusion")
        return
    if all((root / part).is_dir() for part in _TSFUSION):
        for folder, _, names in _walk(root / "u"):
            if any(name.startswith("frame") for name in names):
                yield StoredClip(root, folder.relative_to(root / "u").as_posix(), "tsfusion")
        return
    for folder, folders, names in _walk(root):
        if folder != root and _holds_flow(names):
            yield StoredClip(root, folder.relative_to(root).as_posix(), None)
            folders.clear()
            continue
        for name in names:
            path = folder / name
            if path.suffix in _BY_SUFFIX:
                clip = path.relative_to(root).as_posix()[: -len(path.suffix)]
                yield StoredClip(root, clip, _BY_SUFFIX[path.suffix])


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), folders, sorted(name for name in names if not name.startswith("."))


def _holds_flow(names: list[str]) -> bool:
    return META in names or foreign_layout(names) is not None


class FlowReader:
    """The flow of one clip; a context manager, with random access.

    Parameters
    ----------
    clip
        Where it lies, or the path of its file or folder.
    bound
        Of 8-bit flow whose folder does not say it (another tool's), in pixels.

    Attributes
    ----------
    meta : FlowMeta
        What is known of it.
    layout : Layout
        How it is laid out.

    Raises
    ------
    FormatError
        It is not flow, or not whole. The path is named.
    """

    def __init__(self, clip: StoredClip | Path, *, bound: float = 20.0) -> None:
        if isinstance(clip, Path):
            found = list(stored_clips(clip))
            if len(found) != 1:
                raise FormatError(f"{str(clip)!r} holds {len(found)} clips of flow, not one")
            clip = found[0]
        self.clip = clip
        self._source: _Source = _source(clip)
        try:
            self.meta, self.layout = _describe(clip, self._source, bound)
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._source.close()

    def __len__(self) -> int:
        """Number of flow fields."""
        return self.meta.n_flows

    def jpegs(self, index: int) -> tuple[bytes, bytes]:
        """The coded x and y of flow field ``index``, in 8-bit layouts."""
        x, y = self.layout.flow_members(self._checked(index, len(self)))
        return self._source.read(x), self._source.read(y)

    def levels(self, index: int) -> NDArray[np.uint8]:
        """(2, H, W) grey levels of flow field ``index``, in 8-bit layouts."""
        names = self.layout.flow_members(self._checked(index, len(self)))
        return np.stack([codecs.decode_grey(self._source.read(name), name) for name in names])

    def flow(self, index: int) -> NDArray[np.float32]:
        """(2, H, W) float32 flow field ``index`` in pixels, x then y, counted from 0."""
        names = self.layout.flow_members(self._checked(index, len(self)))
        match self.layout.coding:
            case "jpeg":
                return quantize.from_uint8(self.levels(index), self.meta.bound or 20.0)
            case "flo":
                return codecs.decode_flo(self._source.read(names[0]), names[0])
            case "kitti":
                return codecs.decode_kitti(self._source.read(names[0]), names[0])
            case "float":
                return self._source.array(index, names)

    def image_jpeg(self, index: int) -> bytes:
        """The coded RGB frame ``index``, counted from 0."""
        self._checked(index, self.meta.n_images)
        return self._source.read(self.layout.image_member(index))

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR frame ``index``, counted from 0."""
        return codecs.decode_bgr(self.image_jpeg(index), self.layout.image_member(index))

    def read(self, member: str) -> bytes:
        """The bytes of one member.

        Raises
        ------
        FormatError
            It is missing or damaged.
        """
        return self._source.read(member)

    def _checked(self, index: int, length: int) -> int:
        if not 0 <= index < length:
            raise IndexError(f"{str(self.clip.path)!r} has {length} of these; asked for {index}")
        return index


class _Source(Protocol):
    """The stored parts of a clip."""

    def read(self, name: str) -> bytes: ...

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]: ...

    def names(self) -> list[str]: ...

    def meta(self) -> bytes | None: ...

    def close(self) -> None: ...


def _source(clip: StoredClip) -> _Source:
    match clip.layout:
        case "zip":
            return _ZipSource(clip.path)
        case "npy":
            return _NpySource(clip.path, clip.mark)
        case "h5":
            return _H5Source(clip.path)
        case _:
            parts = layout(clip.layout or "frames").folders(clip.root, clip.name)
            return _FolderSource(dict(parts), clip.mark)


def _describe(clip: StoredClip, source: _Source, bound: float) -> tuple[FlowMeta, Layout]:
    name = str(clip.path)
    data = source.meta()
    if data is not None:
        meta = FlowMeta.from_json(read_json(clip.mark, data), name)
        if clip.layout and meta.layout != clip.layout:
            raise FormatError(f"{name!r} says that its layout is {meta.layout!r}")
        return meta, layout(meta.layout, meta.step)
    if clip.layout == "zip":
        raise FormatError(f"{name!r} holds no {META}; it is not a zip of flow")
    kind, n_flows = _foreign(clip, source)
    blank = FlowMeta(
        clip=clip.name, layout=kind.name, width=0, height=0, n_frames=0, n_flows=n_flows
    )
    names = set(source.names())
    n_images = 0
    while kind.image and kind.image_member(n_images) in names:
        n_images += 1
    eight_bit = kind.coding == "jpeg"
    meta = replace(
        blank, n_images=n_images, index_base=kind.base, bound=bound if eight_bit else None
    )
    if eight_bit:
        height, width = codecs.decode_grey(source.read(kind.flow_members(0)[0]), name).shape
    else:
        first = kind.flow_members(0)
        decode = codecs.decode_flo if kind.coding == "flo" else codecs.decode_kitti
        flow = (
            source.array(0, first)
            if kind.coding == "float"
            else decode(source.read(first[0]), name)
        )
        height, width = flow.shape[1:]
    return replace(meta, width=width, height=height, n_frames=n_flows + 1), kind


def _foreign(clip: StoredClip, source: _Source) -> tuple[Layout, int]:
    """Layout and length of flow that another tool wrote."""
    names = source.names()
    if clip.layout == "tsfusion":
        known = layout("tsfusion")
        return known, sum(name.startswith("u/frame") for name in names)
    if clip.layout == "h5":
        return layout("h5"), sum(name.startswith("flow_x_") for name in names)
    if clip.layout == "npy":
        return layout("npy"), len(names)
    found = foreign_layout(names)
    if found is None:
        raise FormatError(f"{str(clip.path)!r} holds no flow in a known layout")
    return found


class _ZipSource:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise FormatError(f"{str(path)!r} is not a whole zip: {error}") from None

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except KeyError:
            raise FormatError(f"{str(self._path)!r} lacks {name!r}") from None
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError) as error:
            raise FormatError(f"{name!r} in {str(self._path)!r} is damaged: {error}") from None

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        raise ParameterError("a zip of flow holds no arrays")

    def names(self) -> list[str]:
        return self._zip.namelist()

    def meta(self) -> bytes | None:
        return self.read(META) if META in self._zip.NameToInfo else None

    def close(self) -> None:
        self._zip.close()


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
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
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


class _H5Source:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise FormatError(f"{str(path)!r} is not a whole HDF5 file: {error}") from None

    def read(self, name: str) -> bytes:
        raise ParameterError("an HDF5 file of flow holds no coded members")

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        try:
            return np.stack([np.asarray(self._file[name], np.float32) for name in names])
        except (KeyError, OSError, ValueError) as error:
            raise FormatError(f"{str(self._path)!r}: {names} cannot be read: {error}") from None

    def names(self) -> list[str]:
        return list(self._file)

    def meta(self) -> bytes | None:
        try:
            return bytes(self._file[META][()]) if META in self._file else None
        except (OSError, TypeError, ValueError) as error:
            raise FormatError(f"{str(self._path)!r}: {META} is damaged: {error}") from None

    def close(self) -> None:
        self._file.close()
