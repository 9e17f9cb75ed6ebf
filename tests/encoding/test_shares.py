"""A score is divided among the rows of a clip: the shares add up, and a row has its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.encoding.bag_of_words import BagOfWords
from flowpipe.encoding.base import ClipEncoder
from flowpipe.encoding.fisher import FisherVector
from flowpipe.encoding.pyramid import SpatioTemporalPyramid
from flowpipe.encoding.work import ClipVectors
from flowpipe.errors import ParameterError


def fitted(kind: str) -> ClipEncoder:
    clips = [np.random.default_rng(i).normal(i, 1, size=(80, 6)) for i in range(4)]
    encoder = {
        "fisher": FisherVector(3),
        "no pca": FisherVector(3, pca=None),
        "bow": BagOfWords(7),
    }[kind]
    return encoder.fit(clips)


ENCODERS = {kind: fitted(kind) for kind in ("fisher", "no pca", "bow")}


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40))
def test_shares_add_up_to_the_product_of_weights_and_vector(kind, seed, count):
    encoder, rng = ENCODERS[kind], np.random.default_rng(seed)
    rows = rng.normal(1, 2, (count, 6))
    weights = rng.normal(size=encoder.n_outputs)
    linear = encoder.linearize(encoder.sufficient_statistics(rows), weights)
    shares = encoder.shares(rows, linear)
    assert shares.shape == (count,)
    assert shares.sum() == pytest.approx(weights @ encoder.encode(rows), abs=1e-9)


@pytest.mark.parametrize("kind", ENCODERS)
def test_cells_of_pyramids_and_blocks_have_their_own_shares(kind):
    encoder, rng = ENCODERS[kind], np.random.default_rng(3)
    rows, positions = rng.normal(1, 2, (50, 6)), rng.random((50, 3))
    pyramid = ClipVectors({"hog": encoder}, ("1", "h2t2"))
    pyramid.add({"hog": rows}, positions)
    vectors = pyramid.vectors()["hog"].astype(np.float64)
    weights = rng.normal(size=len(vectors))
    blocks = [({"hog": rows[part]}, positions[part]) for part in (slice(0, 20), slice(20, 50))]
    shares = pyramid.shares({"hog": weights}, blocks)
    assert shares.sum() == pytest.approx(weights @ vectors, abs=1e-5)
    whole = SpatioTemporalPyramid(encoder, ("1", "h2t2"))
    whole.add(rows, positions)
    alone = whole.shares(rows, whole.linearize(weights), positions)
    np.testing.assert_allclose(shares, alone, atol=1e-12)


def test_a_row_of_the_word_that_counts_has_the_share():
    encoder = ENCODERS["bow"]
    rows = encoder.cluster_centers_[[0, 0, 3]]
    weights = np.eye(7)[3]
    linear = encoder.linearize(encoder.sufficient_statistics(rows), weights)
    np.testing.assert_allclose(encoder.shares(rows, linear), [0, 0, 1 / 3])


def test_an_encoder_that_cannot_divide_says_so():
    class Mean(FisherVector):
        linearize, shares = ClipEncoder.linearize, ClipEncoder.shares

    with pytest.raises(ParameterError, match="Mean cannot divide"):
        Mean().linearize(np.zeros(3), np.zeros(3))
