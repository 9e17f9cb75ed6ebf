"""Verify that tables of trajectories are intact, and their videos unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.runner import provenance
from flowpipe.trajectories.table import Table

_ROWS = 4096


@dataclass(frozen=True, slots=True)
class StoredTable:
    """The table of a clip in an output folder."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Path of the table."""
        return self.root / f"{self.name}.h5"


def stored_tables(out: Path) -> Iterator[StoredTable]:
    """Yield the tables in an output folder, sorted by name."""
    for path in sorted(out.rglob("*.h5")):
        name = path.relative_to(out).with_suffix("").as_posix()
        if not name.startswith("."):
            yield StoredTable(out, name)


def verify(table: StoredTable) -> str | None:
    """Read all of a table and compare its video with the one that it was made from.

    HDF5 has checksums of the rows and of its own structure; every value is checked. A missing video
    is not an error.

    Returns
    -------
    str or None
        What is wrong, or None.
    """
    try:
        with Table(table.path) as file:
            for first in range(0, len(file), _ROWS):
                for name, values in file.read(slice(first, first + _ROWS)).items():
                    if not np.isfinite(values).all():
                        raise FormatError(f"{name!r} has values that are not finite")
            _check_source(table.root, file)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None


def _check_source(root: Path, table: Table) -> None:
    try:
        source = json.loads(table.attributes["source"])
        path = root / source["path"]
        recorded = source["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"it does not say which video it was made from ({error})") from None
    if path.exists() and provenance.sha256(path) != recorded:
        raise FormatError(f"its video {str(path)!r} has changed since the table was made from it")
