from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import chi2_kernel

from flowpipe.classify import kernels
from flowpipe.classify.kernels import (
    chi2_distances,
    linear_gram,
    mean_gram,
    multichannel_gram,
)
from flowpipe.errors import ParameterError

RNG = np.random.default_rng(0)


def histograms(count: int = 9, width: int = 30) -> np.ndarray:
    table = RNG.uniform(0, 1, (count, width))
    return table / table.sum(axis=1, keepdims=True)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "_BLOCK", 4)
    monkeypatch.setattr(kernels, "_COLUMNS", 7)


@pytest.mark.usefixtures("small_blocks")
def test_products_of_all_pairs_in_blocks():
    vectors = RNG.normal(size=(11, 40)).astype(np.float32)
    gram = linear_gram(vectors)
    assert gram.dtype == np.float32
    assert gram == pytest.approx(vectors.astype(np.float64) @ vectors.T, abs=1e-5)
    assert np.array_equal(gram, gram.T)


def test_a_memory_map_gives_the_same(tmp_path):
    vectors = RNG.normal(size=(5, 40)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert np.array_equal(linear_gram(mapped), linear_gram(vectors))


def test_the_mean_of_grams_is_that_of_the_vectors_side_by_side():
    first, second = RNG.normal(size=(2, 6, 8)).astype(np.float32)
    together = linear_gram(np.hstack([first, second]) / np.sqrt(np.float32(2)))
    assert mean_gram([linear_gram(first), linear_gram(second)]) == pytest.approx(together, abs=1e-5)
    with pytest.raises(ParameterError, match="of one shape"):
        mean_gram([np.eye(2, dtype=np.float32), np.eye(3, dtype=np.float32)])


@pytest.mark.usefixtures("small_blocks")
def test_chi2_distances():
    table = histograms()
    a, b = table[2], table[7]
    expected = 0.5 * ((a - b) ** 2 / (a + b)).sum()
    distances = chi2_distances(table)
    assert distances[2, 7] == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(distances, distances.T)
    assert not distances.diagonal().any()
    assert np.exp(-2 * distances) == pytest.approx(chi2_kernel(table), rel=1e-5)


def test_empty_histograms_are_half_from_all_others():
    table = np.vstack([histograms(2), np.zeros((2, 30))])
    distances = chi2_distances(table)
    assert distances[0, 2] == pytest.approx(0.5)
    assert distances[2, 3] == 0


def test_a_negative_number_is_no_histogram():
    with pytest.raises(ParameterError, match="holds -1"):
        chi2_distances(np.array([[1.0, -1.0]]))


def test_channels_are_scaled_by_the_mean_distance_of_training_clips():
    first, second = chi2_distances(histograms()), chi2_distances(histograms())
    train = np.array([0, 3, 4])
    scales = [np.mean([d[0, 3], d[0, 4], d[3, 4]]) for d in (first, second)]
    expected = np.exp(-first / scales[0] - second / scales[1])
    assert multichannel_gram([first, second], train) == pytest.approx(expected, rel=1e-5)
    changed = first.copy()
    changed[8] = changed[:, 8] = 0.9
    again = multichannel_gram(iter([changed, second]), train)
    assert again[:8, :8] == pytest.approx(expected[:8, :8], rel=1e-5)


def test_a_channel_without_differences_says_nothing():
    distances = chi2_distances(histograms())
    nothing = np.zeros_like(distances)
    train = np.arange(5)
    both = multichannel_gram([distances, nothing], train)
    assert both == pytest.approx(multichannel_gram([distances], train))
    with pytest.raises(ParameterError, match="at least one channel"):
        multichannel_gram([], train)
