"""What a container of flow is made of: the files of one clip, written and read.

Each module here has ``open_sink(out, clip, layout, dtype)``, which returns a :class:`Sink`, and
``open_source(root, clip, layout)``, which returns a :class:`Source`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Sink(Protocol):
    """Takes the coded parts of a clip and puts them in place at the end."""

    @property
    def crc32(self) -> int | None:
        """Check sum of all members so far; None where the container has its own."""

    def add(self, names: tuple[str, ...], parts: list[Any]) -> None:
        """Append members: bytes, or in float layouts one (2, H, W) array."""

    def finish(self, meta: bytes) -> None:
        """Write the description and move everything to its place."""

    def discard(self) -> None:
        """Remove what is not in place."""


class Source(Protocol):
    """The stored parts of a clip."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a coded member."""

    def array(self, index: int, names: tuple[str, ...]) -> NDArray[np.float32]:
        """The (2, H, W) flow field ``index`` of a float layout, whose members are ``names``."""

    def names(self) -> list[str]:
        """Return the names of all members; in a .npy the indices of the flow fields."""

    def meta(self) -> bytes | None:
        """Return what ``meta.json`` holds, None where there is none."""

    def close(self) -> None:
        """Close the files."""
