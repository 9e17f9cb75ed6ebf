"""Provenance: what identifies a source file, a setting, and the contents of an output folder.

``OUT/.flowpipe/stage.json`` holds everything that determines the outputs of a folder, with the
record of the stage before it, so that outputs of two settings are never mixed in one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowpipe.errors import FlowpipeError
from flowpipe.runner.atomic import write_atomic
from flowpipe.runner.json_files import Json, read_json, to_json

RECORDS = ".flowpipe"
"""Folder of an output folder that holds its records, whatever the layout."""
_BLOCK = 1 << 16


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


def stage_path(out: Path) -> Path:
    """Return the path of the record that says what an output folder holds."""
    return out / RECORDS / "stage.json"


def read_stage(out: Path) -> Json | None:
    """Return the record of an output folder, None where it has none.

    Raises
    ------
    FormatError
        The record is not a JSON object.
    """
    path = stage_path(out)
    return read_json(path) if path.is_file() else None


def open_stage(out: Path, description: Json) -> None:
    """Create an output folder for one stage, or check that it belongs to this stage already.

    Parameters
    ----------
    out
        The output folder.
    description
        Everything that determines the stage's outputs, the description of the stage before
        included.

    Raises
    ------
    StageMismatchError
        The folder was begun with other values; the message lists each that differs.
    """
    recorded = read_stage(out)
    if recorded is None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(stage_path(out), to_json(description), out)
        return
    differ = list(differences(recorded, description))
    if differ:
        raise StageMismatchError(
            f"{str(out)!r} holds outputs of other settings ({'; '.join(differ)}); "
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
