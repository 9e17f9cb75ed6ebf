"""Provenance: what identifies a source file, a setting, and the contents of an output folder.

``OUT/.flowpipe/stage.json`` holds everything that determines the outputs in a folder, including the
record of the stage before, so that a folder never mixes outputs of different settings. A record
never holds a path, so that folders can be moved.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.runner.atomic import write_atomic
from flowpipe.runner.json_files import Json, read_json, to_json

RECORDS = ".flowpipe"
"""Subfolder of every output folder, whatever its layout, that holds its records."""

STAGES = {
    "flow": "optical flow",
    "warped-flow": "optical flow without camera motion",
    "frames": "frames of videos",
    "fusion": "what the members of a fusion score",
    "export": "optical flow in another layout",
    "stacks": "stacks of flow fields",
    "view": "pictures of optical flow",
    "trajectories": "dense trajectories",
    "tdd": "maps of networks pooled along trajectories",
    "encode": "encoders, vectors and kernels",
    "classify": "scores of SVMs",
    "pretrain": "networks pretrained without labels",
    "train": "trained networks",
    "evaluate": "scores of networks",
    "fuse": "fused scores",
    "system": "scores of a system of a comparison",
    "features": "features of windows of clips, or maps of their frames",
    "probe": "heads on stored maps, and their scores",
    "train-detector": "trained detectors",
    "evaluate-detector": "scores of detectors",
    "maps": "what maps of new videos are made of",
}
"""Every stage by the name in its record, with a description of its outputs."""
_BLOCK = 1 << 16
_MOST_SHOWN = 8
_LONGEST_SHOWN = 120


class StageMismatchError(FlowpipeError):
    """An output folder holds outputs of other settings."""


def fingerprint(path: Path) -> Json:
    """Return the size of a file and a hash of three of its blocks.

    At most 192 KiB are read, so that a resumed run over many large files starts at once;
    :func:`sha256` reads all of a file. Of a folder, such as one of images, the names and sizes of
    its files and blocks of three of them are hashed.

    Returns
    -------
    dict
        ``bytes`` (int) and ``fingerprint`` (32 hexadecimal digits).
    """
    digest = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        files = _files(path)
        sizes = [file.stat().st_size for file in files]
        listing = [[file.name, size] for file, size in zip(files, sizes, strict=True)]
        digest.update(json.dumps(listing).encode())
        for index in sorted({0, len(files) // 2, len(files) - 1} & set(range(len(files)))):
            digest.update(str(fingerprint(files[index])["fingerprint"]).encode())
        return {"bytes": sum(sizes), "fingerprint": digest.hexdigest()}
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        for start in sorted({0, max(0, (size - _BLOCK) // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return {"bytes": size, "fingerprint": digest.hexdigest()}


def sha256(path: Path) -> str:
    """Return the SHA-256 of the content of a file, or of the files in a folder, in hexadecimal."""
    if path.is_dir():
        listing = [[file.name, sha256(file)] for file in _files(path)]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")


def digest(value: Any) -> str:
    """Return a hash of a JSON value, 32 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def short_hash(description: Json) -> str:
    """Return 8 digits of :func:`digest`, used in the names of the stage folders of a recipe."""
    return digest(description)[:8]


def stage_path(out: Path) -> Path:
    """Return the path of the record of an output folder."""
    return out / RECORDS / "stage.json"


def is_output(folder: Path) -> bool:
    """Return whether flowpipe wrote into a folder, so that nothing in it is input."""
    try:
        return (folder / RECORDS).is_dir()
    except OSError:  # a folder that may not be entered
        return False


def read_stage(out: Path) -> Json | None:
    """Return the record of an output folder, or None if it has none.

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
        Everything that determines the outputs of the stage, with the record of the stage before.

    Raises
    ------
    StageMismatchError
        The folder holds outputs of other settings; the message lists what differs.
    ParameterError
        `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise ParameterError(f"out is {str(out)!r}, which is a file; it must be a folder")
    recorded = read_stage(out)
    if recorded is None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(stage_path(out), to_json(description), out)
    elif differ := differences(recorded, description):
        settings = "; ".join(map(str, differ[:_MOST_SHOWN]))
        if len(differ) > _MOST_SHOWN:
            settings += f"; and {len(differ) - _MOST_SHOWN} more"
        raise StageMismatchError(
            f"{str(out)!r} holds outputs of other settings ({settings}); "
            "use another --out, or remove that folder"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of a record that differs from the one that is asked for.

    Attributes
    ----------
    name
        Name of the setting; names of nested settings are joined by dots.
    recorded, requested
        Its JSON values, None where it is missing.
    """

    name: str
    recorded: Any
    requested: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.recorded)} recorded, {_shown(self.requested)} requested"


def _shown(value: Any) -> str:
    """Return a value as JSON, digests by their first letters, and only the beginning if long."""
    text = re.sub(r'"([0-9a-f]{8})[0-9a-f]{56}"', r"\1...", json.dumps(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def differences(recorded: Any, requested: Any) -> list[Difference]:
    """Compare a record, or a part of one, with what is asked for; tuples count as lists."""
    return list(_differences(recorded, json.loads(json.dumps(requested))))


def _differences(recorded: Any, requested: Any, name: str = "") -> Iterator[Difference]:
    if isinstance(recorded, dict) and isinstance(requested, dict):
        for key in [*recorded, *(key for key in requested if key not in recorded)]:
            inner = f"{name}.{key}" if name else key
            yield from _differences(recorded.get(key), requested.get(key), inner)
    elif recorded != requested:
        yield Difference(name, recorded, requested)
