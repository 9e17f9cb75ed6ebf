"""Read the flow of one clip from any layout, ours or another tool's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.containers import Source
from flowpipe.flow.store.find import StoredClip, stored_clips
from flowpipe.flow.store.layouts import META, Layout, layout
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.third_party import KNOWN, ThirdPartyFlow, recognize
from flowpipe.runner.json_files import read_json

_TSFUSION = layout("tsfusion")


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
        return np.stack([reader.flow(index, allow_unknown=True) for index in range(len(reader))])


class FlowReader:
    """The flow of one clip; a context manager, with random access.

    Parameters
    ----------
    clip
        Where it lies, or the path of its file or folder.
    bound
        Displacement in pixels that saturates the grey levels, for flow that does not say it: 8-bit
        flow of another tool, and flow that is stored as floating point.

    Attributes
    ----------
    level_bound : float
        The bound of the grey levels: the one that is stored, else `bound`. Float flow that was
        converted from 8 bit keeps the bound of those levels.
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
        kind = layout(clip.layout or "frames")
        self._source: Source = kind.files.open_source(clip.root, clip.name, kind)
        try:
            self.meta, self.layout, self.described = _describe(clip, self._source, bound)
            self.level_bound = self.meta.level_bound(bound)
        except BaseException:
            self._source.close()
            raise
        # As text: a name for messages goes with each member that is decoded.
        folders = self.layout.folders(clip.root, clip.name)
        self._folders = {part: f"{folder}{os.sep}" for part, folder in folders if part}
        self._whole = f"{clip.path}{os.sep}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._source.close()

    def __len__(self) -> int:
        """Return the number of flow fields."""
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
        """Return the names of all that is stored; in a .npy the indices of the flow fields."""
        return set(self._source.names())

    def jpegs(self, index: int) -> tuple[bytes, bytes]:
        """Return the coded x and y of flow field ``index``, in 8-bit layouts."""
        x, y = self.layout.flow_members(self._checked(index, len(self)))
        return self._source.read(x), self._source.read(y)

    def levels(self, index: int) -> NDArray[np.uint8]:
        """Return (2, H, W) grey levels of flow field ``index``, counted from 0.

        Stored levels are returned as they are. Flow stored as floating point is coded with
        ``level_bound``, so that every layout of a clip gives the same levels.
        """
        if not self.layout.eight_bit:
            return quantize.to_uint8(self.flow(index, zero=127.5), self.level_bound)
        names = self.layout.flow_members(self._checked(index, len(self)))
        planes = [codecs.decode_grey(self._source.read(name), self._place(name)) for name in names]
        for plane in planes:
            self._check_size(plane.shape, index)
        return np.stack(planes)

    def flow(
        self, index: int, *, zero: float = quantize.ZERO_LEVEL, allow_unknown: bool = False
    ) -> NDArray[np.float32]:
        """Return (2, H, W) float32 flow field ``index`` in pixels, x then y.

        Parameters
        ----------
        index
            Counted from 0.
        zero
            Level of zero flow in 8 bit, and in float layouts that were made from 8 bit; see
            :func:`flowpipe.flow.quantize.from_uint8`.
        allow_unknown
            Return flow with pixels that are not finite, or marked as unknown: ground truth has
            such (not-a-number in KITTI, above 1e9 in Middlebury).

        Raises
        ------
        FormatError
            It is missing or damaged, differs in size from the rest of the clip, or is unknown in
            places.
        """
        names = self.layout.flow_members(self._checked(index, len(self)))
        match self.layout.coding:
            case "jpeg" | "png":
                flow = quantize.from_uint8(self.levels(index), self.level_bound)
            case "flo":
                flow = codecs.decode_flo(self._source.read(names[0]), self._place(names[0]))
            case "kitti":
                flow = codecs.decode_kitti(self._source.read(names[0]), self._place(names[0]))
            case "float":
                flow = self._source.array(index, names)
        if not self.layout.eight_bit:
            self._check_size(flow.shape[1:], index)
            if not allow_unknown:
                quantize.check_known(flow, f"flow field {index} of {str(self.clip.path)!r}")
        decoded_bound = self.meta.bound or self.meta.decoded_bound
        if decoded_bound and zero != quantize.ZERO_LEVEL:
            flow += np.float32((quantize.ZERO_LEVEL - zero) * 2 * decoded_bound / 255.0)
        return flow

    def image_jpeg(self, index: int) -> bytes:
        """Return the coded RGB frame ``index``, counted from 0."""
        self._checked(index, self.meta.n_images)
        return self._source.read(self.layout.image_member(index))

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 BGR frame ``index``, counted from 0."""
        name = self.layout.image_member(index)
        return codecs.decode_bgr(self.image_jpeg(index), self._place(name))

    def read(self, member: str) -> bytes:
        """Return the bytes of one member.

        Raises
        ------
        FormatError
            It is missing or damaged.
        """
        return self._source.read(member)

    def _place(self, member: str) -> str:
        """Return where a member lies, for messages."""
        part, _, name = member.rpartition("/")
        folder = self._folders.get(part)
        return self._whole + member if folder is None else folder + name

    def _check_size(self, shape: tuple[int, ...], index: int) -> None:
        meta = self.meta
        if tuple(shape) != (meta.height, meta.width):
            says = "meta.json says" if self.described else "field 0 is"
            raise FormatError(
                f"flow field {index} of {str(self.clip.path)!r} is {shape[1]}x{shape[0]}; "
                f"{says} {meta.width}x{meta.height}"
            )

    def _checked(self, index: int, length: int) -> int:
        if not 0 <= index < length:
            raise IndexError(f"{str(self.clip.path)!r} has {length} of these; asked for {index}")
        return index


def _describe(clip: StoredClip, source: Source, bound: float) -> tuple[FlowMeta, Layout, bool]:
    name = str(clip.path)
    data = source.meta()
    if data is not None:
        meta = FlowMeta.from_json(read_json(clip.done_marker, data), name)
        if clip.layout and meta.layout != clip.layout:
            raise FormatError(f"{name!r} says that its layout is {meta.layout!r}")
        return meta, layout(meta.layout, meta.step), True
    found = _third_party(clip, source)
    kind, step = found.layout, found.layout.step
    if not found.n_flows:
        height, width, _ = codecs.decode_bgr(source.read(kind.image_member(0)), name).shape
    elif kind.eight_bit:
        height, width = codecs.decode_grey(source.read(kind.flow_members(0)[0]), name).shape
    else:
        members = kind.flow_members(0)
        decode = codecs.decode_flo if kind.coding == "flo" else codecs.decode_kitti
        flow = (
            source.array(0, members)
            if kind.coding == "float"
            else decode(source.read(members[0]), name)
        )
        height, width = flow.shape[1:]
    meta = FlowMeta(
        clip=clip.name,
        layout=kind.name,
        width=width,
        height=height,
        n_frames=found.n_flows + abs(step) if found.n_flows else found.n_images,
        n_flows=found.n_flows,
        n_images=found.n_images,
        index_base=kind.base,
        step=step,
        bound=bound if kind.eight_bit else None,
    )
    return meta, kind, False


def _third_party(clip: StoredClip, source: Source) -> ThirdPartyFlow:
    """Return what the names of the files of another tool show."""
    where, names = str(clip.path), source.names()
    kind = layout(clip.layout or "frames")
    if kind.is_file and kind.coding != "float":
        raise FormatError(f"{where!r} holds no {META}; it is not a {clip.layout} of flow")
    if kind.is_file and not kind.flow:
        found: ThirdPartyFlow | None = ThirdPartyFlow(kind, len(names))
    else:
        found = recognize(names, where, hdf5=kind.is_file, frames_only=True)
    if found is None or not found.n_flows + found.n_images:
        listed = ", ".join(map(repr, sorted(names)[:3]))
        raise FormatError(f"{where!r} holds no flow: found {listed or 'nothing'}; {KNOWN}")
    if clip.layout:
        entry = replace(found.layout, name=kind.name, parts=kind.parts)
        return replace(found, layout=entry)
    return found
