from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils.estimator_checks import parametrize_with_checks

from flowpipe.encoding.bag_of_words import BagOfWords
from flowpipe.errors import ParameterError

from .test_gmm import clusters


@parametrize_with_checks([BagOfWords(2)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_every_row_counts_for_its_nearest_word():
    rows = clusters(5000)
    encoder = BagOfWords(20).fit([rows])
    nearest = pairwise_distances_argmin(rows, encoder.cluster_centers_)
    assert (
        encoder.sufficient_statistics(rows).tolist() == np.bincount(nearest, minlength=20).tolist()
    )


def test_histograms_sum_to_one_and_an_empty_clip_gives_zeros():
    encoder = BagOfWords(8).fit([clusters(500)])
    histograms = encoder.transform([clusters(77).astype(np.float32), np.empty((0, 6), np.float32)])
    assert histograms.dtype == np.float32
    assert histograms.sum(axis=1) == pytest.approx([1, 0])


def test_the_same_seed_gives_the_same_words():
    encoder = BagOfWords(10, n_rows=300)
    first = encoder.fit([clusters(1000)]).cluster_centers_
    assert clone(encoder).fit([clusters(1000)]).cluster_centers_.tobytes() == first.tobytes()


def test_more_words_than_rows():
    with pytest.raises(ParameterError, match="n_samples=5 rows cannot give n_clusters=9 clusters"):
        BagOfWords(9).fit([np.zeros((5, 2))])
