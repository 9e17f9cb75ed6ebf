from __future__ import annotations

import numpy as np
import pytest

from flowpipe.encoding.bag_of_words import BagOfWords
from flowpipe.encoding.fisher import FisherVector
from flowpipe.encoding.pyramid import SpatioTemporalPyramid, n_cells, parse_grid
from flowpipe.errors import ParameterError

from .test_gmm import clusters

ROWS = clusters(400)
POSITIONS = np.random.default_rng(0).uniform(0, 1, (400, 3))


def encode_cells(encoder, rows, positions=None, grids=("1",)):
    cells = SpatioTemporalPyramid(encoder, grids)
    cells.add(rows, positions)
    return cells.vectors()


@pytest.mark.parametrize(
    ("grid", "cells"),
    [("1", (1, 1, 1)), ("h3", (1, 3, 1)), ("t2", (1, 1, 2)), ("v2h3t2", (2, 3, 2))],
)
def test_grids(grid, cells):
    assert parse_grid(grid) == cells


@pytest.mark.parametrize("grid", ["", "h", "h0", "x3", "h3h2", "11", "h12", "1h3"])
def test_what_is_no_grid(grid):
    with pytest.raises(ParameterError, match="it must be 1, or strips"):
        parse_grid(grid)


@pytest.mark.parametrize("encoder", [FisherVector(3), BagOfWords(5)])
def test_a_cell_is_the_vector_of_its_rows(encoder):
    encoder.fit([ROWS])
    grids = ("1", "h3", "t2", "h3t2")
    found = encode_cells(encoder, ROWS, POSITIONS, grids)
    assert len(found) == n_cells(grids) * encoder.n_outputs == 12 * encoder.n_outputs
    vectors = found.reshape(12, -1)
    strip = np.floor(POSITIONS[:, 1] * 3)
    half = np.floor(POSITIONS[:, 2] * 2)
    members = [np.full(400, True)]
    members += [strip == i for i in range(3)]
    members += [half == i for i in range(2)]
    members += [(strip == i) & (half == j) for i in range(3) for j in range(2)]
    for vector, member in zip(vectors, members, strict=True):
        assert vector == pytest.approx(encoder.encode(ROWS[member]), abs=1e-5)


def test_empty_cells_are_zero_and_the_border_is_inside():
    encoder = BagOfWords(4).fit([ROWS])
    positions = np.full((400, 3), 1.0)
    vectors = encode_cells(encoder, ROWS, positions, ("h3",)).reshape(3, -1)
    assert vectors.sum(axis=1) == pytest.approx([0, 0, 1])


def test_a_clip_without_rows():
    encoder = FisherVector(3).fit([ROWS])
    assert not encode_cells(encoder, ROWS[:0], POSITIONS[:0], ("1", "t2")).any()


def test_positions_are_needed_for_strips_alone():
    encoder = BagOfWords(4).fit([ROWS])
    assert encode_cells(encoder, ROWS).sum() == pytest.approx(1)
    for positions in (None, POSITIONS[:5]):
        with pytest.raises(ParameterError, match=r"the pyramid h3 needs \(400, 3\)"):
            encode_cells(encoder, ROWS, positions, ("h3",))


def test_rows_that_are_not_finite():
    encoder = BagOfWords(4).fit([ROWS])
    rows = ROWS.copy()
    rows[7, 2] = np.nan
    with pytest.raises(ParameterError, match="the clip contains NaN or infinity in row 7"):
        encode_cells(encoder, rows)


@pytest.mark.parametrize("encoder", [FisherVector(3), BagOfWords(5)])
def test_parts_of_a_clip_add_up(encoder):
    encoder.fit([ROWS])
    cells = SpatioTemporalPyramid(encoder, ("1", "h3t2"))
    for part in (slice(0, 0), slice(0, 150), slice(150, 151), slice(151, None)):
        cells.add(ROWS[part], POSITIONS[part])
    assert cells.vectors() == pytest.approx(
        encode_cells(encoder, ROWS, POSITIONS, ("1", "h3t2")), abs=1e-6
    )
