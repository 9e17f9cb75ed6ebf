"""Find the stored flow of clips in a folder, in any layout, ours or another tool's."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store.layouts import LAYOUTS, META, layout, layout_of_file
from flowpipe.flow.store.third_party import KNOWN, is_axis, recognize
from flowpipe.runner.provenance import RECORDS

_TSFUSION = layout("tsfusion")


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
    layout: str | None

    @property
    def done_marker(self) -> Path:
        """The path that exists only if the clip is complete."""
        return layout(self.layout or "frames").done_marker(self.root, self.name)

    @property
    def path(self) -> Path:
        """The clip's file, or its (first) folder."""
        kind = layout(self.layout or "frames")
        if kind.is_file:
            return self.root / f"{self.name}{kind.suffix}"
        return kind.folders(self.root, self.name)[0][1]


def stored_clips(root: Path, *, frames_only: bool = False) -> Iterator[StoredClip]:
    """Yield every clip with flow under a folder, or the one that a file or a folder holds, by name.

    Parameters
    ----------
    root
        The folder or file.
    frames_only
        Yield folders of RGB frames without flow, too.

    Raises
    ------
    FormatError
        The path does not exist, or is a file of another kind.
    """
    if root.is_file():
        name = layout_of_file(root)
        if name is None:
            known = ", ".join(entry.suffix for entry in LAYOUTS.values() if entry.is_file)
            raise FormatError(f"{str(root)!r} is not a flow file ({known})")
        yield StoredClip(root.parent, root.stem, name)
        return
    if not root.is_dir():
        raise FormatError(f"{str(root)!r} does not exist; a folder or file of flow is expected")
    if _holds_clip(root, [entry.name for entry in root.iterdir()], frames_only):
        here = Path(os.path.abspath(root))
        yield StoredClip(here.parent, here.name, None)
        return
    markers = root / RECORDS / "clips"
    if markers.is_dir():
        for marker in sorted(markers.rglob("*.json")):
            clip = marker.relative_to(markers).with_suffix("").as_posix()
            yield StoredClip(root, clip, _TSFUSION.name)
        return
    if folders := _split_folders(root):
        yield from (StoredClip(root, name, _TSFUSION.name) for name in folders)
        return
    for folder, folders, names in _walk(root):
        if folder != root and _holds_clip(folder, [*names, *folders], frames_only):
            yield StoredClip(root, folder.relative_to(root).as_posix(), None)
            folders.clear()
            continue
        for name in names:
            path = folder / name
            if found := layout_of_file(path):
                clip = path.relative_to(root).as_posix()[: -len(path.suffix)]
                yield StoredClip(root, clip, found)


def flow_to_read(source: Path, out: Path) -> list[StoredClip]:
    """The clips of a folder of flow, for a stage that makes something of them in another folder.

    Raises
    ------
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    clips = sorted(stored_clips(source), key=lambda clip: clip.name)
    if not clips:
        raise ParameterError(no_flow(source))
    if source.resolve() == out.resolve():
        raise ParameterError(
            f"what is made of the flow in {str(source)!r} cannot go into its own folder; "
            "name another"
        )
    return clips


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), folders, sorted(name for name in names if not name.startswith("."))


def _entries(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _holds_clip(folder: Path, names: list[str], frames_only: bool) -> bool:
    """Return whether a folder, with these entries, is a clip of flow, or perhaps of frames."""
    if META in names:
        return True
    with_axes = [
        f"{name}/{member}"
        for name in names
        if is_axis(name) and (folder / name).is_dir()
        for member in _entries(folder / name)
    ]
    return recognize([*names, *with_axes], frames_only=frames_only) is not None


def _split_folders(root: Path) -> list[str]:
    """Return the names of clips whose x and y another tool wrote below ``u/`` and ``v/``."""
    x, y = (root / part for part in _TSFUSION.parts[:2])
    clips = []
    for folder, _, names in _walk(x) if x.is_dir() and y.is_dir() else ():
        other = y / folder.relative_to(x)
        if not names or META in names or not other.is_dir() or recognize(names):
            continue
        members = [f"{x.name}/{name}" for name in names]
        members += [f"{y.name}/{name}" for name in _entries(other)]
        if recognize(members):
            clips.append(folder.relative_to(x).as_posix())
    return clips


def no_flow(root: Path) -> str:
    """Return the message that a folder holds no flow: what was found, and what is known."""
    names = (
        (folder / name).relative_to(root).as_posix()
        for folder, _, names in _walk(root)
        for name in names
    )
    first = list(itertools.islice(names, 3))
    found = f"found {', '.join(map(repr, first))}, ..." if first else "it holds no files"
    return f"{str(root)!r} holds no flow: {found}; {KNOWN}"
