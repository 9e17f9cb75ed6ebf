from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from skimage.feature import fisher_vector
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from flowpipe.encoding.fisher import FisherVector, fisher_gradients, improved
from flowpipe.encoding.gmm import e_step, fit_gmm
from flowpipe.errors import ParameterError
from tests.helpers.clips import shared

from .test_gmm import as_sklearn, clusters, made_up_mixture


@parametrize_with_checks([FisherVector(2)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def theirs_in_our_order(rows, gmm):
    """scikit-image's vector without the weights, its variances with the sign of the papers."""
    vector = fisher_vector(rows, as_sklearn(gmm))[len(gmm.weights) :]
    vector[gmm.means.size :] *= -1
    return vector


@pytest.mark.parametrize(("kind", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_it_is_the_vector_of_scikit_image(kind, tolerance):
    rows, gmm = clusters(2000).astype(kind), made_up_mixture(16)
    ours = fisher_gradients(e_step(rows, gmm), gmm)
    theirs = theirs_in_our_order(rows.astype(np.float64), gmm)
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


def test_it_is_the_vector_of_scikit_image_on_real_descriptors():
    hof = {
        name: np.load(shared("golden", f"idt_{name}.npz"))["features"][:, 126:234]
        for name in ("v_Bowling_g01_c01", "boxing")
    }
    encoder = FisherVector(32).fit([hof["v_Bowling_g01_c01"]])
    rows = encoder.projection_(hof["boxing"])
    assert rows.dtype == np.float32
    theirs = improved(theirs_in_our_order(rows.astype(np.float64), encoder.gmm_))
    ours = encoder.encode(hof["boxing"])
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_one_component_by_hand():
    gmm = made_up_mixture(1, 2)
    row = np.array([[0.3, -1.2]])
    z = (row - gmm.means) / np.sqrt(gmm.variances)
    expected = np.concatenate([z.ravel(), ((z**2 - 1) / np.sqrt(2)).ravel()])
    assert fisher_gradients(e_step(row, gmm), gmm) == pytest.approx(expected)


def test_gradients_are_those_of_the_likelihood():
    """The gradient for a mean, with the norm of the Fisher information, by finite differences."""
    rows, gmm = clusters(200), made_up_mixture(3)
    step = 1e-5
    means = gmm.means.copy()
    means[1, 2] += step
    moved = type(gmm)(gmm.weights, means, gmm.variances)
    change = e_step(rows, moved).log_likelihood - e_step(rows, gmm).log_likelihood
    expected = change / step / len(rows) * np.sqrt(gmm.variances[1, 2] / gmm.weights[1])
    assert fisher_gradients(e_step(rows, gmm), gmm)[1 * 6 + 2] == pytest.approx(expected, rel=1e-3)


def test_vectors_have_norm_one_and_signed_roots():
    assert improved(np.array([4.0, -9.0, 0.0])) == pytest.approx(np.array([2, -3, 0]) / 13**0.5)


def test_repeating_every_row_changes_nothing():
    rows, gmm = clusters(300), made_up_mixture()
    once, thrice = (
        fisher_gradients(e_step(each, gmm), gmm) for each in (rows, np.tile(rows, (3, 1)))
    )
    assert thrice == pytest.approx(once, abs=1e-12)


def test_a_clip_without_rows_gives_zeros():
    encoder = FisherVector(3).fit([clusters(100)])
    vectors = encoder.transform([np.empty((0, 6), np.float32), clusters(20)])
    assert vectors.shape == (2, encoder.n_outputs)
    assert not vectors[0].any()
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)


def test_the_order_of_rows_and_the_size_of_blocks_do_not_matter():
    rows = clusters(1300)
    encoder = FisherVector(4).fit([rows])
    assert encoder.encode(rows[::-1].copy()) == pytest.approx(encoder.encode(rows), abs=1e-9)


def test_a_pipeline_tells_classes_apart():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    clips = [rng.normal(size=(60, 8)) + np.eye(8)[label] for label in labels]
    pipeline = make_pipeline(FisherVector(4, random_state=0), LinearSVC(C=100))
    assert pipeline.fit(clips[:18], labels[:18]).score(clips[18:], labels[18:]) > 0.9


def test_fitting_to_sampled_rows_is_fitting_to_a_clip_of_them():
    rows = clusters(400)
    one, other = FisherVector(3).fit([rows]), FisherVector(3).fit(rows)
    assert one.gmm_.means == pytest.approx(other.gmm_.means)


def test_it_is_fitted_to_a_balanced_sample():
    encoder = FisherVector(2, n_rows=40, pca=None)
    short, long = np.full((10, 1), -1.0), np.full((10_000, 1), 1.0)
    rng = np.random.default_rng(0)
    clips = [each + rng.normal(size=each.shape) * 0.1 for each in (short, long)]
    assert sorted(encoder.fit(clips).gmm_.weights) == pytest.approx([0.25, 0.75], abs=0.01)


def test_the_same_seed_gives_the_same_bytes():
    clips = [clusters(300).astype(np.float32), clusters(200, seed=1).astype(np.float32)]
    encoder = FisherVector(4, n_rows=250, random_state=5)
    first = encoder.fit_transform(clips)
    assert first.dtype == np.float32
    assert clone(encoder).fit_transform(clips).tobytes() == first.tobytes()


def test_memory_does_not_grow_with_the_rows():
    gmm = fit_gmm(clusters(500), 4)[0]

    def highest(rows):
        e_step(rows, gmm)
        tracemalloc.start()
        e_step(rows, gmm)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert highest(clusters(40_000)) < 1.1 * highest(clusters(4_000))


def test_whitening_and_all_dimensions():
    clips = [clusters(200)]
    assert FisherVector(3, pca=None).fit(clips).n_outputs == 2 * 3 * 6
    assert FisherVector(3, pca=1.0, whiten=True).fit(clips).n_outputs == 2 * 3 * 6
    assert FisherVector(3).fit(clips).n_outputs == 2 * 3 * 3


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([np.zeros((5, 6)), np.zeros((5, 4))], "clip 1 has rows of 4 numbers; 6 are expected"),
        ([np.zeros((5, 6)), np.full((5, 6), np.nan)], "clip 1 contains NaN or infinity in row 0"),
        ([np.array([["a"]])], "must be a table of numbers"),
        ([np.zeros((2, 6))], "2 rows are too few for a mixture of 4"),
    ],
)
def test_bad_clips(clips, message):
    with pytest.raises(ParameterError, match=message):
        FisherVector(4).fit(clips)


def test_bad_parameters():
    with pytest.raises(ParameterError, match=r"pca is 1\.5; it must be more than 0"):
        FisherVector(2, pca=1.5).fit([clusters(50)])
    encoder = FisherVector(2).fit([clusters(50)])
    with pytest.raises(ParameterError, match=r"rows are \(3, 4\); this encoder takes 6 columns"):
        encoder.encode(np.zeros((3, 4)))
