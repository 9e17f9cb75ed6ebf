"""Convert flow from one layout to another, and copy what need not be coded again."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from flowpipe.flow import quantize
from flowpipe.flow.store.find import StoredClip
from flowpipe.flow.store.layouts import FloatType, layout
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.reader import FlowReader
from flowpipe.flow.store.writer import FlowWriter

_WRITERS_OWN = {"clip", "layout", "index_base", "n_flows", "n_images", "bound", "quality", "dtype"}
_HANDED_ON = [one.name for one in fields(FlowMeta) if one.name not in {*_WRITERS_OWN, "crc32"}]


def convert(
    clip: StoredClip,
    out: Path,
    name: str,
    *,
    bound: float | None = None,
    quality: int | None = None,
    dtype: FloatType | None = None,
) -> FlowMeta:
    """Write a clip's flow in another layout.

    JPEGs are copied byte for byte from one 8-bit layout to another with the same bound. Float
    layouts made from 8 bit remember the bound of their levels, so that going back gives the
    same levels. RGB frames go along where the new layout holds them.

    Parameters
    ----------
    clip
        The clip.
    out
        Folder of the new layout.
    name
        The new layout.
    bound
        Of the new 8-bit flow, in pixels; None keeps the one there is, else 20. For 8-bit flow
        of another tool, which does not say it, the bound that it was written with.
    quality
        Quality of JPEGs that have to be coded; None for 95.
    dtype
        Number type of a new float layout; None for float32.

    Raises
    ------
    FormatError
        The clip is not whole.
    ParameterError
        The new layout cannot hold the flow.
    """
    with FlowReader(clip, bound=bound or quantize.DEFAULT_BOUND) as reader:
        meta = reader.meta
        kind = layout(name, meta.step)
        new_bound = bound or meta.level_bound()
        copied = reader.layout.coding == kind.coding == "jpeg" and new_bound == meta.bound
        n_images = meta.n_images if kind.image else 0
        with FlowWriter(
            out, clip.name, kind, bound=new_bound, quality=quality, dtype=dtype
        ) as writer:
            for index in range(max(len(reader), n_images)):
                if index < n_images:
                    writer.add_image(reader.image_jpeg(index))
                if index >= len(reader):
                    continue
                if copied:
                    writer.add_jpegs(*reader.jpegs(index))
                else:
                    # Levels are decoded around 128 and coded around 127.5.
                    zero = 127.5 if kind.eight_bit else quantize.ZERO_LEVEL
                    writer.add_flow(reader.flow(index, zero=zero))
            known = {key: getattr(meta, key) for key in _HANDED_ON}
            if reader.video is not None:
                path = Path(os.path.relpath(reader.video, out)).as_posix()
                known["source"] = {**meta.source, "path": path}
            if not kind.eight_bit:
                known["decoded_bound"] = meta.bound or meta.decoded_bound
            return writer.commit(**known)
