"""Layouts of stored flow: names, index bases and codings that other tools know.

To add a layout, write its container, or use one that is there, and add an entry to
:data:`LAYOUTS`. Writer, reader, verification, commands, ``doctor`` and errors read this table.

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

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from flowpipe._options import NameIn
from flowpipe.errors import ParameterError, check_range
from flowpipe.runner.provenance import RECORDS

META = "meta.json"
QUALITY = 95
"""JPEG quality of flow and frames."""

FloatType = Literal["float32", "float16"]
DtypeOption = Annotated[
    FloatType | None, arg(metavar="{float32,float16}", help_behavior_hint="(default: float32)")
]
QualityOption = Annotated[int | None, arg(metavar="N", help_behavior_hint=f"(default: {QUALITY})")]


@dataclass(frozen=True, slots=True)
class Layout:
    """Describe a layout.

    Attributes
    ----------
    name
        As on the command line.
    title
        What one clip is, in prose.
    suffix
        Of the clip's file, or "" where a clip is a folder.
    coding
        Of one flow field: 8 bit as JPEG or PNG, Middlebury's .flo, KITTI's PNG, or float.
    container
        Module that writes and reads the clip's files: it has ``open_sink`` and ``open_source``
        (:mod:`flowpipe.flow.store.containers`), and, for single files that hold ``meta.json``
        inside, ``holds_meta``.
    flow
        Member names of one flow field with ``{i}`` for its index and ``{step}`` for denseflow's
        mark of a step: x and y, or both in one.
    image
        Member name of an RGB frame, None where the layout holds none.
    base, image_base
        Index of the first flow field and of the first frame.
    parts
        Folders of the output folder over which the files of each clip are distributed; the last
        is of RGB frames.
    meta_suffix
        Of the file with ``meta.json`` beside the clip's own, "" where it is inside.
    own_checksums
        The container has check sums, so that ``meta.json`` needs none.
    published
        The tool that writes or defines it.
    step
        Frames from the first to the second of a pair.
    """

    name: str
    title: str
    suffix: str
    coding: Literal["jpeg", "png", "flo", "kitti", "float"]
    container: str
    flow: tuple[str, ...] = ()
    image: str | None = None
    base: int = 1
    image_base: int | None = None
    parts: tuple[str, ...] = ()
    meta_suffix: str = ""
    own_checksums: bool = False
    published: str = ""
    step: int = 1

    @property
    def is_file(self) -> bool:
        """Whether a clip is one file."""
        return bool(self.suffix)

    @property
    def eight_bit(self) -> bool:
        """Whether flow is stored as grey levels, which have a bound."""
        return self.coding in ("jpeg", "png")

    @property
    def files(self) -> Any:
        """The module that writes and reads the clip's files."""
        return import_module(self.container)

    def check_options(
        self,
        *,
        dtype: FloatType | None,
        quality: int | None,
        bound: float | None = None,
        images: bool = False,
    ) -> None:
        """Check options of how flow is stored, None where they are not given.

        Raises
        ------
        ParameterError
            One is out of range, or does not apply to the layout.
        """
        if bound is not None:
            check_range("bound", bound, 0, 4096, open_low=True)
        if quality is not None:
            check_range("quality", quality, 1, 100)
        for name, value, applies, those in (
            ("bound", bound, self.coding in ("jpeg", "png"), "8-bit layouts"),
            ("dtype", dtype, self.coding == "float", "the layouts npy and h5"),
            ("quality", quality, self.coding == "jpeg" or images, "JPEGs"),
        ):
            if value is not None and not applies:
                raise ParameterError(
                    f"{name} is {value}; it applies to {those}, and layout is {self.name}"
                )

    def flow_members(self, index: int) -> tuple[str, ...]:
        """Return the member names of the flow field ``index``, counted from 0."""
        mark = "" if self.step == 1 else f"{'p' if self.step > 0 else 'm'}{abs(self.step)}_"
        return tuple(name.format(i=index + self.base, step=mark) for name in self.flow)

    def image_member(self, index: int) -> str:
        """Return the member name of the frame ``index``, counted from 0."""
        if self.image is None:
            raise ParameterError(f"layout {self.name} holds no frames")
        base = self.base if self.image_base is None else self.image_base
        return self.image.format(i=index + base)

    def folders(self, out: Path, clip: str) -> tuple[tuple[str, Path], ...]:
        """Return where the members of a clip are: (prefix of their names, folder)."""
        if self.parts:
            return tuple((part, out / part / clip) for part in self.parts)
        return (("", out / clip),)

    def done_marker(self, out: Path, clip: str) -> Path:
        """Return the path that exists only if the clip is complete."""
        if self.is_file:
            return out / f"{clip}{self.meta_suffix or self.suffix}"
        if self.parts:
            return out / RECORDS / "clips" / f"{clip}.json"
        return out / clip / META

    def outputs(self, out: Path, clip: str, *, frames: bool) -> list[Path]:
        """Return the files and folders of a complete clip, with or without RGB frames."""
        if self.is_file:
            return sorted({out / f"{clip}{self.suffix}", self.done_marker(out, clip)})
        folders = [folder for _, folder in self.folders(out, clip)]
        if self.parts and not frames:
            folders.pop()
        return [*folders, self.done_marker(out, clip)]

    def in_progress_marker(self, out: Path, clip: str) -> Path:
        """Return the path that exists while several folders are moved or removed."""
        return out / RECORDS / "unfinished" / f"{clip}.json"


_CONTAINERS = "flowpipe.flow.store.containers."
_JPEGS = ("flow_x_{i:05d}.jpg", "flow_y_{i:05d}.jpg")
_IMAGES = "img_{i:05d}.jpg"

LAYOUTS: dict[str, Layout] = {
    entry.name: entry
    for entry in (
        Layout(
            "zip",
            "a zip of JPEGs",
            ".zip",
            "jpeg",
            _CONTAINERS + "zip_file",
            _JPEGS,
            _IMAGES,
            own_checksums=True,
        ),
        Layout(
            "frames",
            "a folder of JPEGs, counted from 1",
            "",
            "jpeg",
            _CONTAINERS + "folder",
            _JPEGS,
            _IMAGES,
            published="dense_flow, TSN",
        ),
        Layout(
            "denseflow",
            "a folder of JPEGs, counted from 0",
            "",
            "jpeg",
            _CONTAINERS + "folder",
            ("flow_x_{step}{i:05d}.jpg", "flow_y_{step}{i:05d}.jpg"),
            _IMAGES,
            base=0,
            published="open-mmlab/denseflow",
        ),
        Layout(
            "tsfusion",
            "folders of JPEGs below u/ and v/",
            "",
            "jpeg",
            _CONTAINERS + "folder",
            ("u/frame{i:06d}.jpg", "v/frame{i:06d}.jpg"),
            "jpegs_256/frame{i:06d}.jpg",
            parts=("u", "v", "jpegs_256"),
            published="twostreamfusion",
        ),
        Layout(
            "npy",
            "an array (N, 2, H, W)",
            ".npy",
            "float",
            _CONTAINERS + "npy_file",
            base=0,
            meta_suffix=".npy.json",
            published="NumPy",
        ),
        Layout(
            "h5",
            "an HDF5 file",
            ".h5",
            "float",
            _CONTAINERS + "hdf5_file",
            ("flow_x_{step}{i:05d}", "flow_y_{step}{i:05d}"),
            base=0,
            published="open-mmlab/denseflow",
        ),
        Layout(
            "flo",
            "a folder of .flo files",
            "",
            "flo",
            _CONTAINERS + "folder",
            ("flow_{i:05d}.flo",),
            _IMAGES,
            published="Middlebury",
        ),
        Layout(
            "kitti-png",
            "a folder of 16-bit PNGs, 1/64 px",
            "",
            "kitti",
            _CONTAINERS + "folder",
            ("flow_{i:05d}.png",),
            _IMAGES,
            published="KITTI",
        ),
    )
}
"""The layouts by the names that a user types."""

LayoutName = Annotated[str, NameIn(LAYOUTS)]


def layout(name: str, step: int = 1) -> Layout:
    """Return the layout of a name.

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
    if name not in LAYOUTS:
        raise ParameterError(f"layout is {name!r}; it must be one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name] if step == 1 else replace(LAYOUTS[name], step=step)


def layout_of_file(path: Path) -> str | None:
    """Return the layout of a clip that is one file, by its suffix; None if there is none."""
    suffix = path.suffix.lower()
    return next((name for name, entry in LAYOUTS.items() if entry.suffix == suffix != ""), None)
