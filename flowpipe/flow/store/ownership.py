"""What on disk is flowpipe's own, and finished: nothing else is ever overwritten or removed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py

from flowpipe.errors import FormatError
from flowpipe.flow.store.layouts import META, Layout
from flowpipe.flow.store.meta import FlowMeta
from flowpipe.flow.store.reader import FlowReader, StoredClip
from flowpipe.io.source import check_replaceable


def foreign_path(out: Path, clip: str, kind: Layout) -> Path | None:
    """What lies at a clip's place and was not written by flowpipe; None where nothing does.

    Folders and arrays of ours have their ``meta.json`` from the first instant. A zip or HDF5
    file that cannot be read is taken for a damaged one of ours.
    """
    if kind.name in ("zip", "h5"):
        path = kind.mark(out, clip)
        return path if _lacks_meta(path, kind) else None
    places = [out / f"{clip}{kind.suffix}"]
    if not kind.is_file:
        places = [folder for _, folder in kind.folders(out, clip)]
    for path in places:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            continue
        # In this order: a run that ends now puts the mark in place before it lifts its claim.
        if not kind.claim(out, clip).exists() and not kind.mark(out, clip).exists():
            return path
    return None


def finished(out: Path, clip: str, kind: Layout) -> FlowMeta | None:
    """What is said of a clip that is stored whole; None where it is not, or cannot be read.

    A run that ended between its last two steps has left its claim to the clip's folders: it is
    lifted.
    """
    if not kind.mark(out, clip).exists():
        return None
    name = kind.name if kind.is_file or kind.name == "tsfusion" else None
    try:
        with FlowReader(StoredClip(out, clip, name)) as reader:
            meta = reader.meta
    except FormatError:
        return None
    if name == "tsfusion":
        kind.claim(out, clip).unlink(missing_ok=True)
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


def _lacks_meta(path: Path, kind: Layout) -> bool:
    if not path.is_file():
        return False
    try:
        if kind.name == "zip":
            with zipfile.ZipFile(path) as archive:
                return META not in archive.namelist()
        with h5py.File(path, "r") as file:
            return META not in file
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False
