"""Makes small folders of files that are named like videos."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def shared_data(*parts: str) -> Path:
    """A folder of the real test data; skips the test where there are none."""
    folder = os.environ.get("FLOWPIPE_TEST_DATA")
    if folder is None:
        pytest.skip("real data are not here: FLOWPIPE_TEST_DATA is not set")
    return Path(folder, "data", *parts)
