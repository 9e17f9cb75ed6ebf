"""Recognize flow that other tools wrote, which has no ``meta.json``, by the names of its files.

A member's name is read as text, a number, and text with the suffix. Members of x and y differ in
one word, ``x`` and ``y`` or ``u`` and ``v``, in the name or as the name of a folder in the clip's:

============================== ==========================================
``flow_x_00001.jpg``           dense_flow, denseflow, TSN, mmaction2
``x_00001.jpg``                older versions of them
``flow_x_p2_00001.jpg``        denseflow, with a step
``u/frame_0000000001.jpg``     EPIC-KITCHENS, flowty
``u/<clip>/frame000001.jpg``   twostreamfusion
``frame_0001.flo``             Sintel, Middlebury: x and y in one
``flow_00001.png``             KITTI, 16 bit: x and y in one
``flow_x_00001`` in HDF5       denseflow
============================== ==========================================

Numbers may have any digits and begin anywhere, images may be JPEG or PNG, and case does not matter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.errors import FormatError
from flowpipe.flow.store.layouts import Layout, layout

KNOWN = (
    "known are meta.json of flowpipe, pairs such as flow_x_00001.jpg and flow_y_00001.jpg, "
    "x_0001.png and y_0001.png, or u/frame_01.jpg and v/frame_01.jpg, frame_0001.flo and "
    "flow_0001.png (KITTI)"
)
"""The names that are recognized, for messages."""

_PARTNERS = {"x": "y", "u": "v"}
_MEMBER = re.compile(r"(?P<before>.*?)(?P<digits>[0-9]+)(?P<after>[^0-9]*)", re.DOTALL)
_AXIS = re.compile(r"(?<![a-z])[xu](?![a-z])", re.IGNORECASE)
_AXIS_FOLDER = re.compile(r"(?:[a-z]+[_-])?[xyuv]", re.IGNORECASE)
_STEP = re.compile(r"(?<![a-z])([pm])(\d+)_$", re.IGNORECASE)
_FRAMES = re.compile(r"(?:.*/)?(?:img|image|frame|rgb)?[_-]?", re.IGNORECASE)
_IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class ThirdPartyFlow:
    """What the names of a clip's files show.

    Attributes
    ----------
    layout
        With names and index base as they are.
    n_flows, n_images
        Flow fields and RGB frames.
    """

    layout: Layout
    n_flows: int
    n_images: int = 0


def is_axis(name: str) -> bool:
    """Return whether a folder of this name can hold x or y of the flow of its parent."""
    return _AXIS_FOLDER.fullmatch(name) is not None


def recognize(
    names: Iterable[str], where: str = "", *, hdf5: bool = False, frames_only: bool = False
) -> ThirdPartyFlow | None:
    """Recognize flow without ``meta.json`` by the names in a clip's folder or HDF5 file.

    Parameters
    ----------
    names
        Names of the members, with those of folders in the clip's as ``folder/name``.
    where
        The clip, for messages; if given, the members are checked.
    hdf5
        The names are those of data sets, which have no suffix.
    frames_only
        Recognize RGB frames (``img_00001.jpg``) without flow, too.

    Returns
    -------
    ThirdPartyFlow or None
        None if no name is one of flow, or of a frame where those are asked for.

    Raises
    ------
    FormatError
        Members are missing, or x and y differ in number.
    """
    series: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in names:
        folder, _, last = name.rpartition("/")
        if match := _MEMBER.fullmatch(last):
            before = f"{folder}/{match['before']}" if folder else match["before"]
            series[before, match["after"]].append(match["digits"])
    for key, members, name in _candidates(series, hdf5):
        digits = series[key]
        width = min(map(len, digits))
        numbers = sorted(int(number) for number in digits)
        index = f"{{i:0{width}d}}"
        flow = tuple(f"{_escaped(before)}{index}{_escaped(after)}" for before, after in members)
        step = _STEP.search(key[0])
        known = replace(
            layout("frames" if name == "png" else name),
            flow=flow,
            base=numbers[0],
            image=None,
            step=_of(step) if step else 1,
        )
        if name == "png":
            known = replace(known, coding="png")
        if where:
            _check_count(series, members, width, where)
        return _with_images(ThirdPartyFlow(known, len(numbers)), series, members)
    if frames_only:
        found = _with_images(ThirdPartyFlow(layout("frames"), 0), series, ())
        return found if found.n_images else None
    return None


def _with_images(
    found: ThirdPartyFlow,
    series: dict[tuple[str, str], list[str]],
    members: tuple[tuple[str, str], ...],
) -> ThirdPartyFlow:
    """Add the RGB frames that lie beside the members of flow."""
    image = _image_series(series, members)
    if image is None:
        return found
    counted = sorted(int(number) for number in series[image])
    index = f"{{i:0{min(map(len, series[image]))}d}}"
    name = f"{_escaped(image[0])}{index}{_escaped(image[1])}"
    n_images = 1
    while n_images < len(counted) and counted[n_images] == counted[0] + n_images:
        n_images += 1
    known = replace(found.layout, image=name, image_base=counted[0])
    return replace(found, layout=known, n_images=n_images)


def _candidates(
    series: dict[tuple[str, str], list[str]], hdf5: bool
) -> Iterator[tuple[tuple[str, str], tuple[tuple[str, str], ...], str]]:
    """Yield what can be flow, the likeliest first: series, its members, the layout's name."""
    for key in sorted(series, key=lambda key: (-len(series[key]), key)):
        before, after = key
        suffix = Path(f"a{after}").suffix.lower()
        if suffix not in (("",) if hdf5 else _IMAGES):
            continue
        for part, text in enumerate(key):
            for match in _AXIS.finditer(text):
                letter = match.group()
                partner = _PARTNERS[letter.lower()]
                partner = partner.upper() if letter.isupper() else partner
                swapped = f"{text[: match.start()]}{partner}{text[match.end() :]}"
                other = (swapped, after) if part == 0 else (before, swapped)
                if other not in series and "flow" not in before.lower():
                    continue
                base = min(map(int, series[key]))
                name = "h5" if not suffix else "frames" if base else "denseflow"
                yield key, (key, other), name if suffix != ".png" else "png"
    for key in sorted(series, key=lambda key: (-len(series[key]), key)):
        before, after = key
        if after.lower() == ".flo":
            yield key, (key,), "flo"
        elif after.lower() == ".png" and re.fullmatch(r"flow[_-]?", before, re.IGNORECASE):
            yield key, (key,), "kitti-png"


def _check_count(
    series: dict[tuple[str, str], list[str]],
    members: tuple[tuple[str, str], ...],
    width: int,
    where: str,
) -> None:
    numbered = [{int(number) for number in series.get(member, [])} for member in members]
    everything = set[int]().union(*numbered)
    for (before, after), there in zip(members, numbered, strict=True):
        wanted = range(min(everything), max(everything) + 1)
        missing = next((number for number in wanted if number not in there), None)
        if missing is not None:
            counts = ", ".join(
                f"{len(series.get(member, []))} of {member[0]}*{member[1]}" for member in members
            )
            raise FormatError(
                f"{where!r} lacks {f'{before}{missing:0{width}d}{after}'!r}; it has {counts}"
            )


def _image_series(
    series: dict[tuple[str, str], list[str]], members: tuple[tuple[str, str], ...]
) -> tuple[str, str] | None:
    fits = [
        key
        for key in series
        if key not in members and key[1].lower() in _IMAGES and _FRAMES.fullmatch(key[0])
    ]
    return max(fits, key=lambda key: len(series[key]), default=None)


def _of(step: re.Match[str]) -> int:
    return int(step[2]) * (-1 if step[1].lower() == "m" else 1) or 1


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
