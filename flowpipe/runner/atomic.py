"""Atomic writing: what stands at its final path is complete.

A file or folder is written under ``.tmp`` of the same output folder, flushed to the disk, and
renamed. The next run on the same machine removes what a killed process left in ``.tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import uuid
from pathlib import Path

TEMPORARY = ".tmp"
# What renaming says where a folder is to replace a folder or a file, or a file a folder.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


def temporary_file(root: Path) -> Path:
    """Make an empty file of its own in ``root/.tmp``."""
    return _make_temporary(root, folder=False)


def temporary_folder(root: Path) -> Path:
    """Make an empty folder of its own in ``root/.tmp``."""
    return _make_temporary(root, folder=True)


def flush(path: Path) -> None:
    """Have a file, or a folder with all it holds, reach the disk."""
    for parent, _, names in os.walk(path):
        for name in names:
            _flush(Path(parent, name))
        _flush(Path(parent))
    if path.is_file():
        _flush(path)


def place(temporary: Path, destination: Path) -> None:
    """Flush a finished file or folder and rename it to its destination, replacing what is there.

    Parameters
    ----------
    temporary
        On the same file system.
    destination
        Its parents are made as needed.
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
        # Another run over the same output may be at this point too, and faster.
        discard(old)
        with contextlib.suppress(FileNotFoundError):
            destination.rename(old)
    discard(old)
    _flush(destination.parent)


def discard(path: Path) -> None:
    """Remove a file or a folder with all it holds; it may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def take_away(path: Path, root: Path) -> None:
    """Remove a file or a folder in one step: killed at any instant, it is there whole or gone."""
    folder = temporary_folder(root)
    with contextlib.suppress(FileNotFoundError):
        path.rename(folder / "old")
    discard(folder)


def write_atomic(path: Path, data: bytes, root: Path) -> None:
    """Write a small file so that it is there whole or not at all."""
    temporary = temporary_file(root)
    try:
        temporary.write_bytes(data)
        place(temporary, path)
    finally:
        discard(temporary)


def remove_stale(root: Path) -> int:
    """Remove what dead processes of this machine left in ``root/.tmp``; return how many."""
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
    """Whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        # Where nobody collects orphans, as in many containers, the dead stay in the table.
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
    """Name of this machine, as temporary files have it."""
    return socket.gethostname().replace(".", "_")


def _make_temporary(root: Path, *, folder: bool) -> Path:
    path = root / TEMPORARY / f"{host()}.{os.getpid()}.{uuid.uuid4().hex}"
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another run that ends at this moment may take the emptied .tmp away once more.
        with contextlib.suppress(FileNotFoundError):
            if folder:
                path.mkdir()
            else:
                path.touch(exist_ok=False)
            return path


def owner(name: str) -> tuple[str, int | None]:
    """Machine and process that a temporary file is of, by its name."""
    host, _, rest = name.partition(".")
    pid = rest.partition(".")[0]
    return host, int(pid) if pid.isdigit() else None
