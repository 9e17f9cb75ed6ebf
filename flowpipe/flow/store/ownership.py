"""What on disk is flowpipe's own: nothing else is ever overwritten or removed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from flowpipe.flow.store.layouts import META, Layout


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
