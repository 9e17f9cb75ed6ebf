"""How flow is laid out on disk: the names, index bases and codings that other tools know.

========== ============================= ================================ ===== ==================
layout     one clip is                   flow members                     base  as written by
========== ============================= ================================ ===== ==================
zip        ``<clip>.zip``, stored        ``flow_{x,y}_%05d.jpg``          1     flowpipe
frames     ``<clip>/``                   ``flow_{x,y}_%05d.jpg``          1     yjxiong/dense_flow
denseflow  ``<clip>/``                   ``flow_{x,y}[_p2]_%05d.jpg``     0     open-mmlab/denseflow
tsfusion   ``u/<clip>/``, ``v/<clip>/``  ``frame%06d.jpg``                1     twostreamfusion data
flo        ``<clip>/``                   ``flow_%05d.flo``                1     (Middlebury)
kitti-png  ``<clip>/``                   ``flow_%05d.png``                1     (KITTI)
npy        ``<clip>.npy``                array (N, 2, H, W)               -     numpy
h5         ``<clip>.h5``                 ``/flow_{x,y}_%05d`` float       0     open-mmlab/denseflow
========== ============================= ================================ ===== ==================

RGB frames are ``img_%05d.jpg`` with the base of the layout, in tsfusion
``jpegs_256/<clip>/frame%06d.jpg``; npy and h5 hold none. ``meta.json`` is a member of the zip, a
file of the folder, a data set of the HDF5 file, ``<clip>.npy.json`` beside the array, and
``.flowpipe/clips/<clip>.json`` in tsfusion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from flowpipe.errors import ParameterError
from flowpipe.runner.provenance import RECORDS

LayoutName = Literal["zip", "frames", "denseflow", "tsfusion", "npy", "flo", "kitti-png", "h5"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)

META = "meta.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and coding of one layout.

    Attributes
    ----------
    name
        As on the command line.
    suffix
        Of the clip's file, or "" where a clip is a folder.
    coding
        Of one flow field.
    flow
        Member names of one flow field with ``{i}`` for its index: x and y, or both in one.
    image
        Member name of an RGB frame, None where the layout holds none.
    base
        Index of the first flow field and of the first frame.
    """

    name: LayoutName
    suffix: str
    coding: Literal["jpeg", "flo", "kitti", "float"]
    flow: tuple[str, ...]
    image: str | None
    base: int

    @property
    def is_file(self) -> bool:
        """Whether a clip is one file."""
        return bool(self.suffix)

    def flow_members(self, index: int) -> tuple[str, ...]:
        """Member names of the flow field ``index``, counted from 0."""
        return tuple(name.format(i=index + self.base) for name in self.flow)

    def image_member(self, index: int) -> str:
        """Member name of the frame ``index``, counted from 0."""
        if self.image is None:
            raise ParameterError(f"layout {self.name} holds no frames")
        return self.image.format(i=index + self.base)

    def folders(self, out: Path, clip: str) -> tuple[tuple[str, Path], ...]:
        """Where the parts of a clip lie: (prefix of its members, folder)."""
        if self.name == "tsfusion":
            return tuple((part, out / part / clip) for part in ("u", "v", "jpegs_256"))
        return (("", out / clip),)

    def mark(self, out: Path, clip: str) -> Path:
        """The path whose presence says that the clip is whole."""
        if self.is_file:
            suffix = ".npy.json" if self.name == "npy" else self.suffix
            return out / f"{clip}{suffix}"
        if self.name == "tsfusion":
            return out / RECORDS / "clips" / f"{clip}.json"
        return out / clip / META

    def outputs(self, out: Path, clip: str, *, frames: bool) -> list[Path]:
        """Files and folders of a clip that is whole, with or without RGB frames."""
        if self.is_file:
            return sorted({out / f"{clip}{self.suffix}", self.mark(out, clip)})
        parts = [
            folder for prefix, folder in self.folders(out, clip) if frames or "jpegs" not in prefix
        ]
        return [*parts, self.mark(out, clip)]

    def claim(self, out: Path, clip: str) -> Path:
        """What stands while several folders of ours are put in place or taken away."""
        return out / RECORDS / "unfinished" / f"{clip}.json"


def layout(name: LayoutName, step: int = 1) -> Layout:
    """The layout of that name.

    Parameters
    ----------
    name
        One of :data:`LAYOUTS`.
    step
        Frames from the first to the second of a pair; denseflow writes it into its names.

    Raises
    ------
    ParameterError
        There is no such layout.
    """
    pair = ("flow_x_{i:05d}", "flow_y_{i:05d}")
    stepped = tuple(
        name.replace("_{i", f"_{'p' if step > 0 else 'm'}{abs(step)}_{{i") for name in pair
    )
    like_denseflow = pair if step == 1 else stepped
    images = "img_{i:05d}.jpg"
    match name:
        case "zip":
            return Layout(name, ".zip", "jpeg", _with(pair, ".jpg"), images, 1)
        case "frames":
            return Layout(name, "", "jpeg", _with(pair, ".jpg"), images, 1)
        case "denseflow":
            return Layout(name, "", "jpeg", _with(like_denseflow, ".jpg"), images, 0)
        case "tsfusion":
            names = ("u/frame{i:06d}.jpg", "v/frame{i:06d}.jpg")
            return Layout(name, "", "jpeg", names, "jpegs_256/frame{i:06d}.jpg", 1)
        case "flo":
            return Layout(name, "", "flo", ("flow_{i:05d}.flo",), images, 1)
        case "kitti-png":
            return Layout(name, "", "kitti", ("flow_{i:05d}.png",), images, 1)
        case "npy":
            return Layout(name, ".npy", "float", (), None, 0)
        case "h5":
            return Layout(name, ".h5", "float", like_denseflow, None, 0)
    raise ParameterError(f"layout is {name!r}; it must be one of {', '.join(LAYOUTS)}")


def _with(names: tuple[str, ...], suffix: str) -> tuple[str, ...]:
    return tuple(name + suffix for name in names)


# What other tools wrote: the x (or only) member, its coding, its partner's beginning.
_FOREIGN: tuple[tuple[re.Pattern[str], LayoutName, str], ...] = (
    (re.compile(r"(flow_x_)((?:[pm]\d+_)?)(\d{5,})\.jpg"), "denseflow", "flow_y_"),
    (re.compile(r"(x_)()(\d{5,})\.jpg"), "denseflow", "y_"),
    (re.compile(r"(flow_|)()(\d{5,})\.flo"), "flo", ""),
    (re.compile(r"(flow_)()(\d{5,})\.png"), "kitti-png", ""),
    (re.compile(r"(flow_x_)((?:[pm]\d+_)?)(\d{5,})"), "h5", "flow_y_"),
)


def foreign_layout(names: Iterable[str]) -> tuple[Layout, int, int] | None:
    """Recognise flow without ``meta.json`` by the names in a folder or an HDF5 file.

    Parameters
    ----------
    names
        The names.

    Returns
    -------
    (Layout, int, int) or None
        Its layout, with the index base that the names show; the number of flow fields; the step.
    """
    names = list(names)
    for pattern, kind, partner in _FOREIGN:
        found = [match for name in names if (match := pattern.fullmatch(name))]
        if not found:
            continue
        begin, step, digits = found[0].groups()
        index = f"{step}{{i:0{len(digits)}d}}{Path(found[0].group()).suffix}"
        members = (begin + index, partner + index) if partner else (begin + index,)
        base = min(int(match.group(3)) for match in found)
        known = layout("frames" if kind == "denseflow" and base else kind)
        frames_apart = int(step[1:-1]) * (-1 if step[0] == "m" else 1) if step else 1
        return replace(known, flow=members, base=base), len(found), frames_apart or 1
    return None
