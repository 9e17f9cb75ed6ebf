"""What a stage leaves on disk: atomic files and folders, fingerprints, and ``stage.json``.

A file or folder that stands at its final place is whole: it was written under ``.tmp`` of the
same output folder, flushed, and renamed. What a killed process leaves in ``.tmp`` is removed by
the next run on the same machine. ``stage.json`` says everything that determines the outputs of a
folder, so that two settings are never mixed in one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowpipe.errors import FlowpipeError, FormatError

Json = dict[str, Any]

TEMPORARY = ".tmp"
_BLOCK = 1 << 16
# What renaming says where a folder is to replace a folder or a file, or a file a folder.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


class StageMismatchError(FlowpipeError):
    """An output folder holds the outputs of other parameters."""


def fingerprint(path: Path) -> Json:
    """What identifies a source file at a glance: its length and a hash of three of its blocks.

    Reads at most 192 KiB, so that a resumed run over many large files starts at once;
    :func:`sha256` is the thorough check.

    Returns
    -------
    dict
        ``bytes`` (int) and ``fingerprint`` (32 hexadecimal digits).
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    with path.open("rb") as file:
        for start in sorted({0, max(0, (size - _BLOCK) // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return {"bytes": size, "fingerprint": digest.hexdigest()}


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """32 hexadecimal digits that tell JSON values apart; the order of keys does not matter."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def short_hash(description: Json) -> str:
    """8 digits of :func:`digest`, for the names of folders that recipes give to their stages."""
    return digest(description)[:8]


def to_json(value: Mapping[str, Any]) -> bytes:
    """Readable JSON with a fixed order of keys, ASCII only, so that any file name survives."""
    return (json.dumps(value, indent=1, ensure_ascii=True) + "\n").encode()


def read_json(path: Path, data: bytes | None = None) -> Json:
    """Parse a JSON object.

    Raises
    ------
    FormatError
        It is not one. The path is named.
    """
    try:
        value = json.loads(path.read_bytes() if data is None else data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(
            f"{str(path)!r} holds a JSON {type(value).__name__}; an object is expected"
        )
    return value


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


def open_stage(path: Path, description: Json, root: Path) -> None:
    """Make an output folder one stage's own, or check that it is that stage's already.

    Parameters
    ----------
    path
        Where ``stage.json`` stands, or will.
    description
        Everything that determines the stage's outputs.
    root
        The output folder.

    Raises
    ------
    StageMismatchError
        The folder was begun with other values; the message lists each that differs.
    """
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        write_atomic(path, to_json(description), root)
        return
    differ = list(differences(read_json(path), description))
    if differ:
        raise StageMismatchError(
            f"{str(root)!r} holds outputs of other settings ({'; '.join(differ)}); "
            "use another --out, or remove that folder"
        )


def differences(old: Any, new: Any) -> Iterator[str]:
    """What differs between JSON that was read and a value that may hold tuples, in words."""
    return _differences(old, json.loads(json.dumps(new)))


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name}: {json.dumps(old)} there, {json.dumps(new)} asked for"


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
