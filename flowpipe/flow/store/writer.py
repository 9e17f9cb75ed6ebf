"""Write the flow of one clip in any layout, whole or not at all.

Members are written in a fixed order with fixed time stamps: the same frames, parameters and
solver give the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.layouts import META, Layout
from flowpipe.flow.store.meta import FloatType, FlowMeta, summed
from flowpipe.flow.store.ownership import foreign_path
from flowpipe.io.hdf5 import DeferredErrorFile
from flowpipe.runner.atomic import discard, flush, place, temporary_file, temporary_folder
from flowpipe.runner.json_files import to_json

_DOS_EPOCH = (1980, 1, 1, 0, 0, 0)


class FlowWriter:
    """Writes the flow of one clip; nothing appears until :meth:`commit`.

    A context manager: left without a commit, it leaves nothing behind.

    Parameters
    ----------
    out
        The output folder.
    clip
        Name of the clip.
    kind
        The layout.
    bound
        Of 8-bit layouts, in pixels.
    quality
        Of the JPEG coding, 1 to 100.
    dtype
        Of float layouts.
    """

    def __init__(
        self,
        out: Path,
        clip: str,
        kind: Layout,
        *,
        bound: float = quantize.DEFAULT_BOUND,
        quality: int = 95,
        dtype: FloatType = "float32",
    ) -> None:
        self.layout = kind
        self.n_flows = 0
        self.n_images = 0
        self._out, self._clip = out, clip
        self._bound, self._quality, self._dtype = bound, quality, dtype

    def __enter__(self) -> Self:
        foreign = foreign_path(self._out, self._clip, self.layout)
        if foreign is not None:
            raise FormatError(
                f"{str(foreign)!r} is there already and is not flowpipe's; "
                "move it away, or choose another output folder"
            )
        self._sink = _sink(self._out, self._clip, self.layout, self._dtype)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sink.discard()

    def add_flow(self, flow: NDArray[np.float32]) -> None:
        """Append one flow field, (2, H, W) float32 in pixels."""
        names = self.layout.flow_members(self.n_flows)
        parts: list[Any]
        match self.layout.coding:
            case "jpeg":
                levels = quantize.to_uint8(flow, self._bound)
                parts = [codecs.encode_jpeg(plane, self._quality) for plane in levels]
            case "flo":
                parts = [codecs.encode_flo(flow)]
            case "kitti":
                parts = [codecs.encode_kitti(flow)]
            case "float":
                parts = [flow]
        self._sink.add(names, parts)
        self.n_flows += 1

    def add_jpegs(self, x: bytes, y: bytes) -> None:
        """Append one flow field that is JPEG already, to an 8-bit layout."""
        self._sink.add(self.layout.flow_members(self.n_flows), [x, y])
        self.n_flows += 1

    def add_image(self, image: NDArray[np.uint8] | bytes) -> None:
        """Append one RGB frame: (H, W, 3) uint8 BGR, or its JPEG."""
        data = image if isinstance(image, bytes) else codecs.encode_jpeg(image, self._quality)
        self._sink.add((self.layout.image_member(self.n_images),), [data])
        self.n_images += 1

    def commit(self, **known: Any) -> FlowMeta:
        """Put the clip at its place.

        Parameters
        ----------
        **known
            The fields of :class:`FlowMeta` that the writer cannot know.
        """
        eight_bit = self.layout.coding == "jpeg"
        meta = FlowMeta(
            clip=self._clip,
            layout=self.layout.name,
            index_base=self.layout.base,
            n_flows=self.n_flows,
            n_images=self.n_images,
            bound=self._bound if eight_bit else None,
            quality=self._quality if eight_bit or self.n_images else None,
            dtype=self._dtype if self.layout.coding == "float" else None,
            **known,
        )
        if self._sink.crc32 is not None:
            meta = meta.sealed(self._sink.crc32)
        self._sink.finish(to_json(meta.to_json()))
        return meta


class _Sink(Protocol):
    """Takes the coded parts of a clip and puts them in place at the end."""

    @property
    def crc32(self) -> int | None:
        """Check sum of all members so far; None where the container has its own."""

    def add(self, names: tuple[str, ...], parts: list[Any]) -> None:
        """Append members: bytes, or in float layouts one (2, H, W) array."""

    def finish(self, meta: bytes) -> None:
        """Write the description and move everything to its place."""

    def discard(self) -> None:
        """Remove what is not in place."""


def _sink(out: Path, clip: str, kind: Layout, dtype: FloatType) -> _Sink:
    match kind.name:
        case "zip":
            return _ZipSink(out, clip, kind)
        case "npy":
            return _NpySink(out, clip, kind, dtype)
        case "h5":
            return _H5Sink(out, clip, kind, dtype)
        case _:
            return _FolderSink(out, clip, kind)


class _ZipSink:
    crc32: int | None = None  # a zip has its own

    def __init__(self, out: Path, clip: str, kind: Layout) -> None:
        self._destination = kind.mark(out, clip)
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


class _FolderSink:
    def __init__(self, out: Path, clip: str, kind: Layout) -> None:
        self._folders = kind.folders(out, clip)
        self._mark = kind.mark(out, clip)
        self._claim = kind.claim(out, clip)
        self._temporary = temporary_folder(out)
        for prefix, _ in self._folders:
            (self._temporary / prefix).mkdir(exist_ok=True)
        self.crc32 = 0

    def add(self, names: tuple[str, ...], parts: list[bytes]) -> None:
        for name, data in zip(names, parts, strict=True):
            (self._temporary / name).write_bytes(data)
            self.crc32 = summed(self.crc32, name, data)

    def finish(self, meta: bytes) -> None:
        if len(self._folders) == 1:
            (self._temporary / META).write_bytes(meta)
            place(self._temporary, self._folders[0][1])
            return
        mark = self._temporary / META
        mark.write_bytes(meta)
        flush(self._temporary)  # before what is there is touched
        self._claim.parent.mkdir(parents=True, exist_ok=True)
        self._claim.touch()
        self._mark.unlink(missing_ok=True)
        for prefix, folder in self._folders:
            if any((self._temporary / prefix).iterdir()):
                place(self._temporary / prefix, folder)
            else:
                discard(folder)
        place(mark, self._mark)
        self._claim.unlink(missing_ok=True)

    def discard(self) -> None:
        discard(self._temporary)


class _NpySink:
    """Streams an array whose length is known at the end only; ``meta.json`` lies beside it.

    The description is put in place first: an array without one is somebody else's.
    """

    def __init__(self, out: Path, clip: str, kind: Layout, dtype: FloatType) -> None:
        self._destination = out / f"{clip}{kind.suffix}"
        self._mark = kind.mark(out, clip)
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
        self.crc32 = summed(self.crc32, str(self._shape[0] - 1), data)
        self._file.write(data)

    def finish(self, meta: bytes) -> None:
        # NumPy pads its header so that the first axis can grow in place.
        header = self._header()
        self._file.seek(0)
        self._file.write(header)
        self._file.close()
        mark = self._temporary / META
        mark.write_bytes(meta)
        flush(self._temporary)  # before what is there is touched
        self._destination.unlink(missing_ok=True)
        place(mark, self._mark)
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


class _H5Sink:
    def __init__(self, out: Path, clip: str, kind: Layout, dtype: FloatType) -> None:
        self._destination = kind.mark(out, clip)
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
        self.crc32 = summed(self.crc32, str(self._count), flow.tobytes())
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
