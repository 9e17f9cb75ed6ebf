"""Names of weights: whether they are files, and what tells them apart. No weights are read."""

from __future__ import annotations

from pathlib import Path

from flowpipe.runner.provenance import sha256

_SUFFIXES = (".safetensors", ".pt", ".pth", ".pyth", ".tar", ".bin", ".pickle")


def is_file_name(weights: str) -> bool:
    """Return whether weights are named by a file, and not by a name of torchvision's."""
    return Path(weights).suffix in _SUFFIXES


def identity(weights: str) -> str:
    """Return what tells weights apart: their name, or the digest of their file."""
    path = Path(weights)
    return f"sha256 {sha256(path)}" if path.is_file() else weights
