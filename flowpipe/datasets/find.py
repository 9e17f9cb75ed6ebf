"""Find the videos of a folder, or the folders of frames where there is no video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flowpipe.datasets.base import VIDEO_SUFFIXES
from flowpipe.datasets.names import FoundClip
from flowpipe.errors import ParameterError
from flowpipe.io.image_folder import IMAGE_SUFFIXES, frame_files
from flowpipe.runner.provenance import is_output


def is_video(name: str) -> bool:
    """Return whether a file name is a video's, by its suffix, and not hidden."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")


def folder(root: Path) -> Path:
    """Return a folder; raise a ParameterError if it is none."""
    if not root.is_dir():
        raise ParameterError(f"{str(root)!r} is not a folder; name the one that holds the videos")
    return root


def find_clips(root: Path, unreadable: list[OSError] | None = None) -> list[FoundClip]:
    """Find the videos below a folder; where there is none, the folders of frames.

    Parameters
    ----------
    root
        The folder. It is searched recursively, and links are followed. Hidden files and folders are
        left out, and so are folders below it that hold outputs of flowpipe.
    unreadable
        Takes the errors of folders that may not be listed.

    Returns
    -------
    list of FoundClip
        In the order of their paths.

    Raises
    ------
    ParameterError
        It is no folder, or a folder may not be listed and `unreadable` is None.
    """
    found = find_videos(root, unreadable)
    return found or find_frame_folders(root)


def find_videos(root: Path, unreadable: list[OSError] | None = None) -> list[FoundClip]:
    """Find the videos below a folder; see :func:`find_clips`."""
    errors: list[OSError] = []
    found = []
    for parent, folders, names in _walk(root, errors):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if is_video(name) and not (name in folders and any(find_videos(path, []))):
                # a folder that is called like a video counts as one if it holds none
                found.append(FoundClip(path, path.relative_to(root).as_posix()))
    if errors and unreadable is None:
        error = errors[0]
        raise ParameterError(f"cannot list the folder {error.filename!r}: {error.strerror}")
    if unreadable is not None:
        unreadable += errors
    return sorted(found, key=lambda clip: clip.name.split("/"))


def find_frame_folders(root: Path) -> list[FoundClip]:
    """Find the folders below a folder that directly hold images: frames, or flow as images."""
    found = []
    for parent, _, names in _walk(root, []):
        path = Path(parent)
        if path != root and any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
            found.append(FoundClip(path, path.relative_to(root).as_posix()))
    return sorted(found, key=lambda clip: clip.name.split("/"))


def holds_frames(folder: Path) -> bool:
    """Return whether a folder directly holds images that are not flow by their names."""
    try:
        return bool(frame_files(folder))
    except OSError:
        return False


def _walk(root: Path, errors: list[OSError]) -> Iterator[tuple[str, list[str], list[str]]]:
    seen = set()
    for parent, folders, names in os.walk(folder(root), onerror=errors.append, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:  # linked to twice, or a loop
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not is_output(Path(parent, name))
        )
        yield parent, folders, sorted(names)
