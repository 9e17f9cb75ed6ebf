"""Maps of networks pooled along trajectories."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.trajectories.tdd import EPSILON, cells_of, channel_maxima, pool_maps
from tests.helpers.golden import Golden

RATIOS = {"16": (16, 16), "22.8571x24": (22.8571, 24), "11.4286": (11.4286, 11.4286)}


def _plain_numpy(maps, points, ends, ratio):
    """Pool as the definition has it: an index for each point."""
    cells = cells_of(points, ratio, maps.shape[1:3])
    times = ends[:, None] + np.arange(1 - points.shape[1], 1)
    normed = {
        "spatiotemporal": maps / (maps.max(axis=(0, 1, 2)) + EPSILON),
        "channel": maps / (maps.max(axis=3, keepdims=True) + EPSILON),
    }
    return {
        name: each[times, cells[..., 1], cells[..., 0]].sum(axis=1) for name, each in normed.items()
    }


@pytest.fixture
def tracks(rng):
    maps = np.maximum(rng.normal(size=(30, 6, 8, 5)), 0).astype(np.float32)
    points = rng.uniform(-10, 140, (40, 15, 2))
    return maps, points, np.sort(rng.integers(14, 30, 40))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("ratio", "parts"), [("16", 1), ("16", 3), ("16", 5), ("22.8571x24", 1), ("11.4286", 1)]
)
def test_the_sums_are_those_of_the_released_code(ratio, parts):
    golden = Golden("tdd").arrays
    info = golden["in/info"]
    chosen = info[:, 6] == 1
    found = pool_maps(
        golden["in/feature_map"].transpose(1, 2, 3, 0),
        golden["in/trajectories"][chosen] - 1,
        info[chosen, 0].astype(int) - 1,
        RATIOS[ratio],
        parts=parts,
    )
    for name, values in found.items():
        expected = golden[f"out/{name}_r{ratio}_cells{parts}"]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def test_of_maps_of_ones_the_sum_is_the_length_of_the_track(rng):
    points = rng.uniform(0, 100, (4, 15, 2))
    for values in pool_maps(np.ones((20, 6, 8, 3)), points, np.full(4, 16), (16, 16)).values():
        assert (values == 15).all()


def test_a_track_that_stands_still_has_its_length_times_the_cell(rng):
    frame = rng.uniform(0, 1, (6, 8, 3)).astype(np.float32)
    maps = np.repeat(frame[None], 20, axis=0)
    found = pool_maps(maps, np.full((1, 15, 2), 35.0), np.array([19]), (16, 16))
    cell = frame[2, 2]
    np.testing.assert_allclose(
        found["spatiotemporal"][0], 15 * cell / frame.max(axis=(0, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(found["channel"][0], 15 * cell / cell.max(), rtol=1e-5)


def test_the_loop_gives_what_the_definition_gives(tracks):
    maps, points, ends = tracks
    found = pool_maps(maps, points, ends, (16, 16))
    for name, expected in _plain_numpy(maps.astype(np.float64), points, ends, (16, 16)).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_tracks_in_parts_give_the_bytes_of_all_at_once(tracks):
    maps, points, ends = tracks
    whole = pool_maps(maps, points, ends, (16, 16))
    for first in range(0, len(points), 16):
        rows = slice(first, first + 16)
        highest = channel_maxima(maps)
        part = pool_maps(maps, points[rows], ends[rows], (16, 16), highest)
        assert all((part[name] == whole[name][rows]).all() for name in whole)


def test_no_tracks_give_no_rows():
    found = pool_maps(np.ones((20, 6, 8, 3)), np.zeros((0, 15, 2)), np.zeros(0, int), (16, 16))
    assert {values.shape for values in found.values()} == {(0, 3)}


def test_a_track_outside_of_the_clip_is_refused():
    with pytest.raises(ParameterError, match="in frames 6 to 20; the maps are of frames 0 to 19"):
        pool_maps(np.ones((20, 6, 8, 3)), np.zeros((1, 15, 2)), np.array([20]), (16, 16))


def test_maps_that_are_not_rectified_are_refused():
    with pytest.raises(ParameterError, match="must not be negative"):
        channel_maxima(np.full((2, 3, 3, 4), -1.0))
