"""Spatio-temporal pyramids: the whole clip and parts of it, each with a vector of its own.

I. Laptev, M. Marszałek, C. Schmid and B. Rozenfeld, "Learning realistic human actions from movies",
CVPR 2008. A grid is written as the papers do: ``h3`` three horizontal strips, ``v2`` two vertical
ones, ``t2`` two halves of the clip's duration, ``h3t2`` both, ``1`` the whole. A row belongs to the
cell of its mean position. Each cell's vector is normalised by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flowpipe.encoding.validation import Rows, check_rows
from flowpipe.errors import ParameterError

_AXES = {"v": 0, "h": 1, "t": 2}
_GRID = re.compile(r"1|(?:[hvt][1-9])+")


class SumEncoder(Protocol):
    """What a pyramid needs of an encoder: sums that add up over parts of a clip."""

    def sufficient_statistics(self, rows: Rows) -> NDArray[np.float64]:
        """Return sums over rows."""

    def finalize(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vector of sums."""

    def linearize(
        self, statistics: NDArray[np.float64], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return weights of sums that divide a score among the rows."""

    def shares(self, rows: Rows, linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of rows in a score."""

    @property
    def n_outputs(self) -> int:
        """Length of a vector."""


def parse_grid(grid: str) -> tuple[int, int, int]:
    """Return the number of cells along x, y and t.

    Raises
    ------
    ParameterError
        `grid` has not the form of ``1``, ``h3``, ``t2`` or ``h3t2``.
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
    """Return the number of cells of all grids, each of which adds a vector."""
    return sum(int(np.prod(parse_grid(grid))) for grid in grids)


class SpatioTemporalPyramid:
    """Encode a clip that is given all at once or in parts, with a vector for each cell.

    Parameters
    ----------
    encoder
        A fitted encoder.
    grids
        As in :func:`parse_grid`.
    """

    def __init__(self, encoder: SumEncoder, grids: Sequence[str] = ("1",)) -> None:
        self._encoder = encoder
        self._grids = grids
        self._shapes = [parse_grid(grid) for grid in grids]
        # By the cell of each grid. Rows with the same cell in every grid are summed only once.
        self._sums: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def add(self, rows: Rows, positions: Rows | None = None) -> None:
        """Add rows.

        Parameters
        ----------
        rows
            (n, D).
        positions
            (n, 3) mean x, y and t of each row as fractions of width, height and duration, 0 to 1.
            Needed for grids other than ``1``.

        Raises
        ------
        ParameterError
            Rows are not finite, or positions are missing or of another length.
        """
        rows = check_rows(rows)
        for cells, member in self._members(rows, positions):
            sums = self._encoder.sufficient_statistics(rows[member])
            self._sums[cells] = self._sums[cells] + sums if cells in self._sums else sums

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors of all cells, one after the other.

        Returns
        -------
        (cells times the encoder's length,) float32
            Cells in the order of the grids, then x, y, t with t fastest; zeros without rows.
        """
        vectors = [
            np.zeros(self._encoder.n_outputs) if sums is None else self._encoder.finalize(sums)
            for _, _, sums in self._inside()
        ]
        return np.concatenate(vectors).astype(np.float32)

    def linearize(self, weights: NDArray[np.floating]) -> list[dict[int, NDArray[np.float64]]]:
        """Return weights of the sums of each cell of each grid, for :meth:`shares`.

        Parameters
        ----------
        weights
            Of the vectors of all cells, in their order.
        """
        linear: list[dict[int, NDArray[np.float64]]] = [{} for _ in self._shapes]
        length = self._encoder.n_outputs
        for number, (grid, cell, sums) in enumerate(self._inside()):
            if sums is not None:
                own = weights[number * length : (number + 1) * length]
                linear[grid][cell] = self._encoder.linearize(sums, own)
        return linear

    def shares(
        self,
        rows: Rows,
        linear: Sequence[Mapping[int, NDArray[np.float64]]],
        positions: Rows | None = None,
    ) -> NDArray[np.float64]:
        """Return the shares of rows that have been added in the product of weights and vectors.

        Parameters
        ----------
        rows, positions
            As for :meth:`add`.
        linear
            Of :meth:`linearize`.

        Returns
        -------
        (n,) float64
            Their sum over all rows of the clip is the product of the weights with the vectors.
        """
        rows = check_rows(rows)
        found = np.zeros(len(rows))
        for cells, member in self._members(rows, positions):
            for grid, cell in enumerate(cells):
                found[member] += self._encoder.shares(rows[member], linear[grid][cell])
        return found

    def _inside(self) -> Iterator[tuple[int, int, NDArray[np.float64] | None]]:
        """Yield each grid and cell, and the sums in it; None without rows."""
        for grid, shape in enumerate(self._shapes):
            for cell in range(int(np.prod(shape))):
                inside = [sums for cells, sums in self._sums.items() if cells[grid] == cell]
                yield grid, cell, np.sum(inside, axis=0) if inside else None

    def _members(
        self, rows: Rows, positions: Rows | None
    ) -> Iterator[tuple[tuple[int, ...], NDArray[np.bool_] | slice]]:
        """Yield the cells of rows, one for each grid, and which rows are in them."""
        if all(shape == (1, 1, 1) for shape in self._shapes):
            yield (0,) * len(self._shapes), slice(None)
            return
        if positions is None or np.shape(positions) != (len(rows), 3):
            shape = None if positions is None else np.shape(positions)
            raise ParameterError(
                f"positions are {shape}; the pyramid {', '.join(self._grids)} needs "
                f"({len(rows)}, 3)"
            )
        cells = np.stack([_cells(positions, shape) for shape in self._shapes], axis=1)
        occupied, member = np.unique(cells, axis=0, return_inverse=True)
        for number, cell in enumerate(occupied.tolist()):
            yield tuple(cell), member.ravel() == number


def _cells(positions: Rows, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    counts = np.asarray(shape)
    index = np.clip(np.floor(np.asarray(positions, np.float64) * counts), 0, counts - 1)
    return np.asarray(np.ravel_multi_index(tuple(index.astype(np.int64).T), shape))
