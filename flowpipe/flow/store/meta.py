"""``meta.json``: what is said of one clip's flow."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from flowpipe.artifacts import Json
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import LayoutName, layout

FloatType = Literal["float32", "float16"]

FORMAT = "flowpipe-flow-1"
_COUNTS = ("width", "height", "n_frames", "n_flows", "n_images", "index_base")


@dataclass(frozen=True, slots=True)
class FlowMeta:
    """What ``meta.json`` says of a clip's flow.

    Attributes
    ----------
    clip
        Name of the clip.
    layout, index_base
        How it is laid out.
    width, height
        Of the flow, in pixels.
    n_frames, n_flows, n_images
        Frames decoded, flow fields and RGB frames stored.
    step
        Frames from the first to the second of a pair; negative for backward flow.
    bound, quality
        Of the 8-bit coding in pixels, and of the JPEG coding; None where there is none.
    dtype
        Of float layouts.
    source
        The video: ``path`` from the output folder, ``bytes``, ``fingerprint``, ``sha256``,
        ``width``, ``height``.
    method, parameters, solver, solver_version
        What computed the flow.
    fps
        Mean frames a second of the video, 0 where unknown.
    times
        Presentation time of each frame in seconds.
    truncated
        The video ended before its container said; this is the flow of what could be decoded.
    decoded_bound
        In float layouts that were converted from 8 bit, the bound of those levels.
    crc32
        Over all members (:func:`summed`), in layouts without check sums of their own.
    """

    clip: str
    layout: LayoutName
    width: int
    height: int
    n_frames: int
    n_flows: int
    n_images: int = 0
    index_base: int = 1
    step: int = 1
    bound: float | None = None
    quality: int | None = None
    dtype: FloatType | None = None
    source: Json = field(default_factory=dict)
    method: str | None = None
    parameters: Json = field(default_factory=dict)
    solver: str | None = None
    solver_version: str | None = None
    fps: float = 0.0
    times: list[float | None] | None = None
    truncated: bool = False
    decoded_bound: float | None = None
    crc32: int | None = None

    def to_json(self) -> Json:
        """As it is written."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Json, name: str) -> FlowMeta:
        """Check and take over what was read; ``name`` is for the FormatError."""
        if value.get("format") != FORMAT:
            raise FormatError(f"{name!r} has format {value.get('format')!r}, not {FORMAT!r}")
        known = {one.name for one in fields(cls)}
        try:
            meta = cls(**{key: item for key, item in value.items() if key in known})
            layout(meta.layout, meta.step)
        except (TypeError, ParameterError) as error:
            raise FormatError(f"{name!r} does not describe flow: {error}") from None
        for key in _COUNTS:
            number = getattr(meta, key)
            if type(number) is not int or number < 0:
                raise FormatError(f"{name!r}: {key} is {number!r}; a count is expected")
        for key in ("source", "parameters"):
            if not isinstance(getattr(meta, key), dict):
                raise FormatError(
                    f"{name!r}: {key} is {getattr(meta, key)!r}; an object is expected"
                )
        return meta


def summed(total: int | None, name: str, data: bytes) -> int:
    """Add a member to a check sum over members, in which their order does not matter."""
    return ((total or 0) + zlib.crc32(data, zlib.crc32(name.encode()))) & 0xFFFFFFFF
