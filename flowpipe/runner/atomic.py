"""Write files and folders atomically: a path exists only once its content is complete.

A file or folder is written under ``.tmp`` of the same output folder, flushed to disk, and renamed.
The next run on the same machine removes what a killed process left in ``.tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from flowpipe.errors import FlowpipeError

TEMPORARY = ".tmp"
# Errors of a rename that would replace a folder, or a file by a folder.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


class NameTooLongError(FlowpipeError):
    """The file system cannot store the name of an output."""

    kind: ClassVar[str] = "name-too-long"


def temporary_file(root: Path) -> Path:
    """Create an empty file with a unique name in ``root/.tmp``."""
    return _make_temporary(root, folder=False)


def temporary_folder(root: Path) -> Path:
    """Create an empty folder with a unique name in ``root/.tmp``."""
    return _make_temporary(root, folder=True)


def flush(path: Path) -> None:
    """Flush a file, or a folder with all its contents, to disk."""
    for parent, _, names in os.walk(path):
        for name in names:
            _flush(Path(parent, name))
        _flush(Path(parent))
    if path.is_file():
        _flush(path)


def place(temporary: Path, destination: Path) -> None:
    """Flush a finished file or folder to disk and rename it, replacing what exists.

    Parameters
    ----------
    temporary
        The finished file or folder, on the same file system as `destination`.
    destination
        The final path. Missing parent folders are created.
    """
    flush(temporary)
    destination.parent.mkdir(parents=True, exist_ok=True)
    old = temporary.with_name(f"{temporary.name}.old")
    while True:
        try:
            temporary.replace(destination)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        # Another run over the same output may have got here first.
        discard(old)
        with contextlib.suppress(FileNotFoundError):
            destination.rename(old)
    discard(old)
    _flush(destination.parent)


@contextlib.contextmanager
def new_folder(destination: Path, root: Path) -> Iterator[Path]:
    """Yield an empty folder that is placed at a destination once the block ends without error."""
    temporary = temporary_folder(root)
    try:
        yield temporary
        place(temporary, destination)
    finally:
        discard(temporary)


def discard(path: Path) -> None:
    """Remove a file or folder with all its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_atomically(path: Path, root: Path) -> None:
    """Remove a file or folder in one step: a kill leaves it complete or gone."""
    folder = temporary_folder(root)
    with contextlib.suppress(FileNotFoundError):
        path.rename(folder / "old")
    discard(folder)


def write_atomic(path: Path, data: bytes, root: Path) -> None:
    """Write a small file atomically."""
    temporary = temporary_file(root)
    try:
        temporary.write_bytes(data)
        place(temporary, path)
    finally:
        discard(temporary)


def link_or_copy(source: str | Path, path: str | Path) -> None:
    """Copy a file; where the file system can, both are one file on disk.

    For files that are never written to again, only replaced.
    """
    try:
        os.link(os.path.realpath(source), path)  # of a symbolic link, the file itself
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, path)


def check_names(paths: Iterable[Path], root: Path) -> None:
    """Check that the file system of a folder can store some names.

    Parameters
    ----------
    paths
        Files and folders below `root`, which exists.

    Raises
    ------
    NameTooLongError
        A file or folder name has too many bytes.
    """
    limit = os.pathconf(root, "PC_NAME_MAX")
    for path in paths:
        for name in path.relative_to(root).parts:
            length = len(os.fsencode(name))
            if length > limit:
                raise NameTooLongError(
                    f"the name {name!r} of the output has {length} bytes; the file system allows "
                    f"{limit}; rename the source, or use another layout"
                )


def remove_stale(root: Path) -> int:
    """Remove what dead processes of this machine left in ``root/.tmp``; return the number."""
    folder = root / TEMPORARY
    removed = 0
    with contextlib.suppress(FileNotFoundError):
        for entry in list(folder.iterdir()):
            machine, pid = owner(entry.name)
            if machine != host() or pid is None or alive(pid):
                continue
            discard(entry)
            removed += 1
        with contextlib.suppress(OSError):
            folder.rmdir()
    return removed


def alive(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        # In many containers nobody reaps orphans, so that dead processes stay in the table.
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        return state not in (b"Z", b"X")
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def host() -> str:
    """Return the name of this machine as it appears in names of temporary files."""
    return socket.gethostname().replace(".", "_")


def _make_temporary(root: Path, *, folder: bool) -> Path:
    path = root / TEMPORARY / f"{host()}.{os.getpid()}.{uuid.uuid4().hex}"
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another run that ends at this moment may remove the empty .tmp again.
        with contextlib.suppress(FileNotFoundError):
            if folder:
                path.mkdir()
            else:
                path.touch(exist_ok=False)
            return path


def owner(name: str) -> tuple[str, int | None]:
    """Return the machine and the process that a temporary file belongs to, from its name."""
    host, _, rest = name.partition(".")
    pid = rest.partition(".")[0]
    return host, int(pid) if pid.isdigit() else None
