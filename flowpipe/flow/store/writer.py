"""Write the flow of one clip in any layout, whole or not at all.

Members are written in a fixed order with fixed time stamps: the same frames, parameters and
solver give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.containers import Sink
from flowpipe.flow.store.layouts import QUALITY, FloatType, Layout
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.ownership import third_party_path
from flowpipe.runner.json_files import to_json


class FlowWriter:
    """Write the flow of one clip; nothing appears until :meth:`commit`.

    A context manager: without a commit, it leaves nothing behind.

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
        bound: float | None = None,
        quality: int | None = None,
        dtype: FloatType | None = None,
    ) -> None:
        self.layout = kind
        self.n_flows = 0
        self.n_images = 0
        self._out, self._clip = out, clip
        self._size: tuple[int, int] | None = None
        self._bound = quantize.DEFAULT_BOUND if bound is None else bound
        self._quality = QUALITY if quality is None else quality
        self._dtype: FloatType = dtype or "float32"

    def __enter__(self) -> Self:
        other = third_party_path(self._out, self._clip, self.layout)
        if other is not None:
            raise FormatError(
                f"{str(other)!r} is there already and is not flowpipe's; "
                "move it away, or choose another output folder"
            )
        self._sink: Sink = self.layout.files.open_sink(
            self._out, self._clip, self.layout, self._dtype
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._sink.discard()

    def add_flow(self, flow: NDArray[np.float32]) -> None:
        """Append one flow field, (2, H, W) float32 in pixels.

        Raises
        ------
        FormatError
            A value is not finite or unknown, or the size is not that of the fields before.
        """
        what = f"flow field {self.n_flows} of {self._clip!r}"
        quantize.check_known(flow, what)
        self._check_size((flow.shape[2], flow.shape[1]), what)
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
            case "png":
                parts = [codecs.encode_png(p) for p in quantize.to_uint8(flow, self._bound)]
        self._sink.add(names, parts)
        self.n_flows += 1

    def add_jpegs(self, x: bytes, y: bytes) -> None:
        """Append one flow field that is JPEG already, to an 8-bit layout.

        Raises
        ------
        FormatError
            The size is not that of the fields before.
        """
        for data in (x, y):
            size = codecs.image_size(data)
            if size is not None:
                self._check_size(size, f"flow field {self.n_flows} of {self._clip!r}")
        self._sink.add(self.layout.flow_members(self.n_flows), [x, y])
        self.n_flows += 1

    def add_image(self, image: NDArray[np.uint8] | bytes) -> None:
        """Append one RGB frame: (H, W, 3) uint8 BGR, or its JPEG."""
        data = image if isinstance(image, bytes) else codecs.encode_jpeg(image, self._quality)
        self._sink.add((self.layout.image_member(self.n_images),), [data])
        self.n_images += 1

    def _check_size(self, size: tuple[int, int], what: str) -> None:
        if self._size is None:
            self._size = size
        if size != self._size:
            width, height = self._size
            raise FormatError(f"{what} is {size[0]}x{size[1]}; field 0 is {width}x{height}")

    def commit(self, **known: Any) -> FlowMeta:
        """Put the clip at its place.

        Parameters
        ----------
        **known
            The fields of :class:`FlowMeta` that the writer cannot know.
        """
        eight_bit = self.layout.eight_bit
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
            meta = meta.with_checksum(self._sink.crc32)
        self._sink.finish(to_json(meta.to_json()))
        return meta
