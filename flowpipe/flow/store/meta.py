"""``meta.json``, the description of the flow of one clip."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from flowpipe.errors import FormatError
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store.layouts import LAYOUTS, META, FloatType
from flowpipe.runner.json_files import Json, to_json

FORMAT = "flowpipe-flow-1"


@dataclass(frozen=True, slots=True)
class FlowMeta:
    """Describe the flow of a clip, as its ``meta.json``.

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
        Over all members and this description itself (:func:`add_crc`); None in a zip, which has
        check sums of its own.
    """

    clip: str
    layout: str
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

    def level_bound(self, given: float | None = None) -> float:
        """Return the bound, in pixels, of the flow's grey levels: its own, else `given`, else 20.

        Float flow that was converted from 8 bit keeps the bound of those levels.
        """
        return self.bound or self.decoded_bound or given or DEFAULT_BOUND

    def to_json(self) -> Json:
        """Return what is written."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Json, name: str) -> FlowMeta:
        """Check what was read, and return it; ``name`` is for the FormatError."""
        if value.get("format") != FORMAT:
            raise FormatError(f"{name!r} has format {value.get('format')!r}, not {FORMAT!r}")
        known = {one.name for one in fields(cls)}
        try:
            meta = cls(**{key: item for key, item in value.items() if key in known})
        except TypeError as error:
            raise FormatError(f"{name!r} does not describe flow: {error}") from None
        for keys, fits, expected in _EXPECTED:
            for key in keys:
                if not fits(getattr(meta, key)):
                    raise FormatError(
                        f"{name!r}: {key} is {getattr(meta, key)!r}; {expected} is expected"
                    )
        return meta

    def with_checksum(self, total: int) -> FlowMeta:
        """Return this with the check sum over the members, ``total``, and over itself."""
        data = to_json(replace(self, crc32=None).to_json())
        return replace(self, crc32=add_crc(total, META, data))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_EXPECTED: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("width", "height", "n_frames", "n_flows", "n_images", "index_base"),
        lambda value: type(value) is int and value >= 0,
        "a count",
    ),
    (("step",), lambda value: type(value) is int and value != 0, "a number other than 0"),
    (
        ("bound", "decoded_bound"),
        lambda value: value is None or (_is_number(value) and value > 0),
        "a positive number",
    ),
    (("fps",), lambda value: _is_number(value) and value >= 0, "a number"),
    (("dtype",), lambda value: value in (None, *get_args(FloatType)), "float32 or float16"),
    (("clip",), lambda value: isinstance(value, str), "a name"),
    (("layout",), lambda value: value in LAYOUTS, f"one of {', '.join(LAYOUTS)}"),
    (("source", "parameters"), lambda value: isinstance(value, dict), "an object"),
)


def add_crc(total: int, name: str, data: bytes) -> int:
    """Add a member to a check sum over members, in which their order does not matter."""
    return (total + zlib.crc32(data, zlib.crc32(name.encode()))) & 0xFFFFFFFF
