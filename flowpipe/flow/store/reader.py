"""Read the flow of one clip from any layout, ours or another tool's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.layouts import (
    META,
    Layout,
    LayoutName,
    foreign_layout,
    layout,
)
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.sources import Source, open_source
from flowpipe.runner.json_files import read_json
from flowpipe.runner.provenance import RECORDS

_BY_SUFFIX: dict[str, LayoutName] = {".zip": "zip", ".npy": "npy", ".h5": "h5"}
_TSFUSION = ("u", "v")
_TSFUSION_MEMBER = re.compile(r"(?:u/)?frame\d{6,}\.jpg")


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
        here = Path(os.path.abspath(root))
        yield StoredClip(here.parent, here.name, None)
        return
    marks = root / RECORDS / "clips"
    if marks.is_dir():
        for mark in sorted(marks.rglob("*.json")):
            yield StoredClip(root, mark.relative_to(marks).with_suffix("").as_posix(), "tsfusion")
        return
    if all((root / part).is_dir() for part in _TSFUSION):
        folders = [
            folder.relative_to(root / "u").as_posix()
            for folder, _, names in _walk(root / "u")
            if any(_TSFUSION_MEMBER.fullmatch(name) for name in names)
        ]
        if folders:
            yield from (StoredClip(root, name, "tsfusion") for name in folders)
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


def flow_to_read(source: Path, out: Path) -> list[StoredClip]:
    """The clips of a folder of flow, for a stage that makes something of them in another folder.

    Raises
    ------
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    clips = sorted(stored_clips(source), key=lambda clip: clip.name)
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    if source.resolve() == out.resolve():
        raise ParameterError(
            f"what is made of the flow in {str(source)!r} cannot go into its own folder; "
            "name another"
        )
    return clips


def read_flow(path: str | os.PathLike[str], bound: float | None = None) -> NDArray[np.float32]:
    """Read the stored flow of one clip, in any layout or as another tool wrote it.

    Parameters
    ----------
    path
        The clip's file or folder.
    bound
        Bound in pixels of 8-bit flow that does not say which it has; by default 20.

    Returns
    -------
    (N, 2, H, W) float32
        Displacement in pixels, x then y, of N pairs of frames. Level 128 of 8-bit flow is zero.

    Raises
    ------
    FormatError
        There is no flow, or it is damaged.
    ParameterError
        The folder holds several clips.

    Examples
    --------
    >>> import flowpipe
    >>> flow = flowpipe.read_flow("flow/zoom/g01_c01_still.zip")
    >>> flow.shape
    (19, 2, 120, 160)
    """
    clips = list(stored_clips(Path(path)))
    if len(clips) != 1:
        names = ", ".join(repr(clip.name) for clip in clips[:3])
        raise ParameterError(
            f"{str(path)!r} holds {len(clips)} clips of flow{f' ({names}, ...)' if clips else ''}; "
            "give the file or the folder of one"
        )
    with FlowReader(clips[0], bound=bound or quantize.DEFAULT_BOUND) as reader:
        return np.stack([reader.flow(index) for index in range(len(reader))])


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
    described : bool
        Whether it is flowpipe's, with a ``meta.json``; else ``meta`` is what the files show.

    Raises
    ------
    FormatError
        It is not flow, or not whole. The path is named.
    """

    def __init__(self, clip: StoredClip | Path, *, bound: float = quantize.DEFAULT_BOUND) -> None:
        if isinstance(clip, Path):
            found = list(stored_clips(clip))
            if len(found) != 1:
                raise FormatError(f"{str(clip)!r} holds {len(found)} clips of flow, not one")
            clip = found[0]
        self.clip = clip
        self._source: Source = open_source(clip.root, clip.name, clip.layout)
        try:
            self.meta, self.layout, self.described = _describe(clip, self._source, bound)
        except BaseException:
            self._source.close()
            raise
        # As text: a name for messages goes with each member that is decoded.
        folders = self.layout.folders(clip.root, clip.name)
        self._folders = {part: f"{folder}{os.sep}" for part, folder in folders if part}
        self._whole = f"{clip.path}{os.sep}"

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

    @property
    def video(self) -> Path | None:
        """Where the video that it was made from is, or was; None where that is not known."""
        path = self.meta.source.get("path")
        if not isinstance(path, str):
            return None
        # A clip may be opened by its own path, from inside the output folder.
        above = self.meta.clip.count("/") - self.clip.name.count("/")
        return Path(self.clip.root, *[".."] * above, path)

    def names(self) -> set[str]:
        """Names of all that is stored; in a .npy the indices of the flow fields."""
        return set(self._source.names())

    def jpegs(self, index: int) -> tuple[bytes, bytes]:
        """The coded x and y of flow field ``index``, in 8-bit layouts."""
        x, y = self.layout.flow_members(self._checked(index, len(self)))
        return self._source.read(x), self._source.read(y)

    def levels(self, index: int, bound: float | None = None) -> NDArray[np.uint8]:
        """(2, H, W) grey levels of flow field ``index``.

        Parameters
        ----------
        index
            Counted from 0.
        bound
            In pixels, for float flow that does not say which bound it has; by default 20. Stored
            levels are returned as they are, and float flow that was converted from 8 bit is coded
            with the bound that it had, so that every layout of a clip gives the same levels.
        """
        if self.layout.coding != "jpeg":
            return quantize.to_uint8(self.flow(index, zero=127.5), self.meta.level_bound(bound))
        names = self.layout.flow_members(self._checked(index, len(self)))
        x, y = (codecs.decode_grey(self._source.read(name), self._place(name)) for name in names)
        if x.shape != y.shape:
            raise FormatError(f"{names} in {str(self.clip.path)!r} differ in size")
        return np.stack([x, y])

    def flow(self, index: int, *, zero: float = quantize.ZERO_LEVEL) -> NDArray[np.float32]:
        """(2, H, W) float32 flow field ``index`` in pixels, x then y.

        Parameters
        ----------
        index
            Counted from 0.
        zero
            Level of zero flow in 8 bit, and in float layouts that were made from 8 bit; see
            :func:`flowpipe.flow.quantize.from_uint8`.
        """
        names = self.layout.flow_members(self._checked(index, len(self)))
        match self.layout.coding:
            case "jpeg":
                flow = quantize.from_uint8(self.levels(index), self.meta.level_bound())
            case "flo":
                flow = codecs.decode_flo(self._source.read(names[0]), self._place(names[0]))
            case "kitti":
                flow = codecs.decode_kitti(self._source.read(names[0]), self._place(names[0]))
            case "float":
                flow = self._source.array(index, names)
        decoded_bound = self.meta.bound or self.meta.decoded_bound
        if decoded_bound and zero != quantize.ZERO_LEVEL:
            flow += np.float32((quantize.ZERO_LEVEL - zero) * 2 * decoded_bound / 255.0)
        return flow

    def image_jpeg(self, index: int) -> bytes:
        """The coded RGB frame ``index``, counted from 0."""
        self._checked(index, self.meta.n_images)
        return self._source.read(self.layout.image_member(index))

    def image(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR frame ``index``, counted from 0."""
        name = self.layout.image_member(index)
        return codecs.decode_bgr(self.image_jpeg(index), self._place(name))

    def read(self, member: str) -> bytes:
        """The bytes of one member.

        Raises
        ------
        FormatError
            It is missing or damaged.
        """
        return self._source.read(member)

    def _place(self, member: str) -> str:
        """Where a member lies, for messages."""
        part, _, name = member.rpartition("/")
        return self._folders.get(part, self._whole) + name

    def _checked(self, index: int, length: int) -> int:
        if not 0 <= index < length:
            raise IndexError(f"{str(self.clip.path)!r} has {length} of these; asked for {index}")
        return index


def _describe(clip: StoredClip, source: Source, bound: float) -> tuple[FlowMeta, Layout, bool]:
    name = str(clip.path)
    data = source.meta()
    if data is not None:
        meta = FlowMeta.from_json(read_json(clip.mark, data), name)
        if clip.layout and meta.layout != clip.layout:
            raise FormatError(f"{name!r} says that its layout is {meta.layout!r}")
        return meta, layout(meta.layout, meta.step), True
    if clip.layout == "zip":
        raise FormatError(f"{name!r} holds no {META}; it is not a zip of flow")
    kind, n_flows, step = _foreign(clip, source)
    blank = FlowMeta(
        clip=clip.name,
        layout=kind.name,
        width=0,
        height=0,
        n_frames=n_flows + abs(step),
        n_flows=n_flows,
        step=step,
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
    return replace(meta, width=width, height=height), kind, False


def _foreign(clip: StoredClip, source: Source) -> tuple[Layout, int, int]:
    """Layout, length and step of flow that another tool wrote."""
    names = source.names()
    if clip.layout == "tsfusion":
        n_flows = sum(_TSFUSION_MEMBER.fullmatch(name) is not None for name in names)
        found = (layout("tsfusion"), n_flows, 1)
    elif clip.layout == "npy":
        found = (layout("npy"), len(names), 1)
    else:
        found = foreign_layout(names) or (layout("frames"), 0, 1)
    if found[1] == 0:
        raise FormatError(f"{str(clip.path)!r} holds no flow in a known layout")
    return found
