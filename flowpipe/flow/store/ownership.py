"""Tell what flowpipe wrote and finished: nothing else is ever overwritten or removed."""

from __future__ import annotations

import os
from pathlib import Path

from flowpipe.errors import FormatError
from flowpipe.flow.store.find import StoredClip
from flowpipe.flow.store.layouts import Layout
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.reader import FlowReader
from flowpipe.io.source import check_replaceable


def third_party_path(out: Path, clip: str, kind: Layout) -> Path | None:
    """Return what is at a clip's place and was not written by flowpipe; None if nothing is.

    Folders and arrays of ours have their ``meta.json`` from the first instant. A zip or HDF5
    file that cannot be read is taken for a damaged one of ours.
    """
    if kind.is_file and not kind.meta_suffix:
        path = kind.done_marker(out, clip)
        return path if path.is_file() and not kind.files.holds_meta(path) else None
    places = [out / f"{clip}{kind.suffix}"]
    if not kind.is_file:
        places = [folder for _, folder in kind.folders(out, clip)]
    for path in places:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            continue
        # In this order: a run that ends now has written one marker before it removes the other.
        if (
            not kind.in_progress_marker(out, clip).exists()
            and not kind.done_marker(out, clip).exists()
        ):
            return path
    return None


def finished(out: Path, clip: str, kind: Layout) -> FlowMeta | None:
    """Return the description of a complete clip; None if it is not, or cannot be read.

    A run that ended between its last two steps has left its in-progress marker, which is removed.
    """
    if not kind.done_marker(out, clip).exists():
        return None
    name = kind.name if kind.is_file or kind.parts else None
    try:
        with FlowReader(StoredClip(out, clip, name)) as reader:
            meta = reader.meta
    except FormatError:
        return None
    if kind.parts:
        kind.in_progress_marker(out, clip).unlink(missing_ok=True)
    return meta


def is_up_to_date(out: Path, kind: Layout, reader: FlowReader) -> bool:
    """Return whether an output that is made from stored flow is finished, and of the same video.

    Raises
    ------
    NameTakenError
        The output was made from flow of another video.
    """
    clip, source = reader.clip.name, reader.meta.source
    meta = finished(out, clip, kind)
    if meta is None:
        return False
    if meta.source.get("sha256") == source.get("sha256"):
        return True
    path = reader.video or reader.clip.path
    check_replaceable(meta.source, Path(os.path.relpath(path, out)).as_posix(), out, clip)
    return False
