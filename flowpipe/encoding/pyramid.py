"""Spatio-temporal pyramids: the clip as a whole, and in strips, each with a vector of its own.

I. Laptev, M. Marszałek, C. Schmid and B. Rozenfeld, "Learning realistic human actions from movies",
CVPR 2008. A grid is written as the papers do: ``h3`` three horizontal strips, ``v2`` two vertical
ones, ``t2`` two halves of the clip's duration, ``h3t2`` both, ``1`` the whole. A row belongs to the
cell of its mean position. Each cell's vector is normalised by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.encoding.rows import table_of
from flowpipe.errors import ParameterError

Rows = NDArray[np.floating]

_AXES = {"v": 0, "h": 1, "t": 2}
_GRID = re.compile(r"1|(?:[hvt][1-9])+")


class Encoder(Protocol):
    """What a pyramid asks of an encoder: sums that add up over parts of a clip."""

    def totals(self, rows: Rows) -> NDArray[np.float64]:
        """Sums over rows."""

    def vector(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The vector of sums."""

    @property
    def n_outputs(self) -> int:
        """Length of a vector."""


def parse_grid(grid: str) -> tuple[int, int, int]:
    """Cells along x, y and t.

    Raises
    ------
    ParameterError
        `grid` is not one, such as ``1``, ``h3``, ``t2`` or ``h3t2``.
    """
    parts = re.findall(r"([hvt])([1-9])", grid)
    if not _GRID.fullmatch(grid) or len({axis for axis, _ in parts}) != len(parts):
        raise ParameterError(
            f"pyramid has the grid {grid!r}; it must be 1, or strips along y (h), x (v) or "
            "time (t) such as h3, t2 or h3t2"
        )
    cells = [1, 1, 1]
    for axis, count in parts:
        cells[_AXES[axis]] = int(count)
    return cells[0], cells[1], cells[2]


def n_cells(grids: Sequence[str]) -> int:
    """Number of cells of all grids, by which a vector becomes longer."""
    return sum(int(np.prod(parse_grid(grid))) for grid in grids)


class Cells:
    """Takes in the rows of a clip, all at once or in parts, and gives the vectors of its cells.

    Parameters
    ----------
    encoder
        Fitted.
    grids
        As in :func:`parse_grid`.
    """

    def __init__(self, encoder: Encoder, grids: Sequence[str] = ("1",)) -> None:
        self._encoder = encoder
        self._grids = grids
        self._shapes = [parse_grid(grid) for grid in grids]
        # Rows that share their cell in every grid are summed once; the cells then add these up.
        self._totals: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def add(self, rows: Rows, positions: Rows | None = None) -> None:
        """Take in rows.

        Parameters
        ----------
        rows
            (n, D).
        positions
            (n, 3) mean x, y and t of each row as parts of width, height and duration, 0 to 1.
            Needed for grids other than ``1``.

        Raises
        ------
        ParameterError
            Rows that are not finite, positions that are missing or of another length.
        """
        rows = table_of(rows)
        if all(shape == (1, 1, 1) for shape in self._shapes):
            self._sum((0,) * len(self._shapes), rows)
            return
        if positions is None or np.shape(positions) != (len(rows), 3):
            found = None if positions is None else np.shape(positions)
            raise ParameterError(
                f"positions are {found}; the pyramid {', '.join(self._grids)} needs "
                f"({len(rows)}, 3)"
            )
        cells = np.stack([_cells(positions, shape) for shape in self._shapes], axis=1)
        parts, member = np.unique(cells, axis=0, return_inverse=True)
        for number, part in enumerate(parts.tolist()):
            self._sum(tuple(part), rows[member.ravel() == number])

    def vectors(self) -> NDArray[np.float32]:
        """Vectors of all cells, one after the other.

        Returns
        -------
        (cells times the encoder's length,) float32
            Cells in the order of the grids, then x, y, t with t fastest; zeros without rows.
        """
        vectors = []
        for column, shape in enumerate(self._shapes):
            for cell in range(int(np.prod(shape))):
                inside = [total for part, total in self._totals.items() if part[column] == cell]
                vectors.append(self._encoder.vector(np.sum(inside, axis=0)) if inside else None)
        nothing = np.zeros(self._encoder.n_outputs)
        filled = [nothing if vector is None else vector for vector in vectors]
        return np.concatenate(filled).astype(np.float32)

    def _sum(self, part: tuple[int, ...], rows: Rows) -> None:
        found = self._encoder.totals(rows)
        before = self._totals.get(part)
        self._totals[part] = found if before is None else before + found


def _cells(positions: Rows, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    counts = np.asarray(shape)
    index = np.clip(np.floor(np.asarray(positions, np.float64) * counts), 0, counts - 1)
    return np.asarray(np.ravel_multi_index(tuple(index.astype(np.int64).T), shape))
