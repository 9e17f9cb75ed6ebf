from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from flowpipe.encoding._softmax import exponentiate
from flowpipe.encoding.gmm import BLOCK, DiagonalGmm, e_step, fit_gmm
from flowpipe.encoding.gmm_torch import weighted_sums
from flowpipe.errors import ParameterError


def clusters(count: int = 1500, width: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(8, width)) * 2
    spread = rng.uniform(0.2, 1, (8, width))
    member = rng.integers(0, 8, count)
    return centres[member] + rng.normal(size=(count, width)) * spread[member]


def made_up_mixture(components: int = 5, width: int = 6, seed: int = 1) -> DiagonalGmm:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 1, components)
    return DiagonalGmm(
        weights / weights.sum(),
        rng.normal(size=(components, width)),
        rng.uniform(0.3, 2, (components, width)),
    )


def as_sklearn(gmm: DiagonalGmm) -> GaussianMixture:
    mixture = GaussianMixture(len(gmm.weights), covariance_type="diag")
    mixture.weights_, mixture.means_, mixture.covariances_ = gmm.weights, gmm.means, gmm.variances
    mixture.precisions_cholesky_ = 1 / np.sqrt(gmm.variances)
    return mixture


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 1, 3 * BLOCK - 7])
def test_sums_are_those_of_scikit_learns_posteriors(count):
    rows, gmm = clusters(count), made_up_mixture()
    mixture = as_sklearn(gmm)
    posteriors = mixture.predict_proba(rows)
    found = e_step(rows, gmm)
    assert found.rows == count
    assert found.zeroth == pytest.approx(posteriors.sum(axis=0), abs=1e-9)
    assert found.first == pytest.approx(posteriors.T @ rows, abs=1e-8)
    assert found.second == pytest.approx(posteriors.T @ rows**2, abs=1e-7)
    assert found.log_likelihood == pytest.approx(mixture.score_samples(rows).sum())


def test_float32_rows_give_the_same_to_float32():
    rows, gmm = clusters(), made_up_mixture()
    wide, narrow = e_step(rows, gmm), e_step(rows.astype(np.float32), gmm)
    assert narrow.first == pytest.approx(wide.first, rel=1e-4, abs=1e-2)
    assert narrow.zeroth.sum() == pytest.approx(len(rows), rel=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_torch_gives_the_same_sums(kind):
    rows, gmm = clusters().astype(kind), made_up_mixture()
    ours = e_step(rows, gmm)
    totals, likelihood = weighted_sums(rows, gmm.theta, "cpu")
    tolerance = 1e-9 if kind == np.float64 else 1e-3
    assert totals[:, -1] == pytest.approx(ours.zeroth, rel=tolerance)
    assert totals[:, :6] == pytest.approx(ours.first, rel=tolerance, abs=tolerance * 100)
    assert totals[:, 6:-1] == pytest.approx(ours.second, rel=tolerance, abs=tolerance * 100)
    assert likelihood == pytest.approx(ours.log_likelihood, rel=tolerance)


def test_sums_of_parts_add_up():
    rows, gmm = clusters(), made_up_mixture()
    parts = [e_step(part, gmm) for part in (rows[:400], rows[400:])]
    assert parts[0].second + parts[1].second == pytest.approx(e_step(rows, gmm).second)


def test_rows_far_from_every_component_stay_finite():
    found = e_step(np.full((3, 6), 1e4, np.float32), made_up_mixture())
    assert np.isfinite(found.first).all()
    assert found.zeroth.sum() == pytest.approx(3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.filterwarnings("ignore:.*encountered in")
def test_rows_that_cannot_be_squared(value):
    with pytest.raises(ParameterError, match="have no finite likelihood"):
        e_step(np.full((3, 6), value, np.float32), made_up_mixture())


def test_no_rows_give_zeros():
    found = e_step(np.empty((0, 6), np.float32), made_up_mixture())
    assert found.rows == 0
    assert not found.first.any()


def test_em_takes_the_steps_of_scikit_learn():
    rows = clusters()
    begun, _ = fit_gmm(rows, 6, max_iter=0)
    ours, steps = fit_gmm(rows, 6, max_iter=7, tol=0, variance_floor=1e-9)
    assert steps == 7
    theirs = GaussianMixture(
        6,
        covariance_type="diag",
        max_iter=7,
        tol=0,
        reg_covar=0,
        weights_init=begun.weights,
        means_init=begun.means,
        precisions_init=1 / begun.variances,
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(rows)
    order = np.lexsort(ours.means.T)
    their_order = np.lexsort(theirs.means_.T)
    assert ours.means[order] == pytest.approx(theirs.means_[their_order], abs=1e-6)
    assert ours.variances[order] == pytest.approx(theirs.covariances_[their_order], rel=1e-5)


def test_the_fit_is_as_likely_as_scikit_learns_own():
    rows = clusters(3000)
    ours, _ = fit_gmm(rows, 8, max_iter=100, tol=1e-5)
    theirs = GaussianMixture(8, covariance_type="diag", max_iter=100, tol=1e-5, random_state=0)
    best = theirs.fit(rows).score(rows)
    assert e_step(rows, ours).log_likelihood / len(rows) == pytest.approx(best, abs=0.1)


@pytest.mark.slow
def test_in_parts_a_pass_gains_more_than_a_step_and_ends_where_em_ends(monkeypatch):
    rows = clusters(40_000)
    few, _ = fit_gmm(rows, 12, max_iter=4, tol=0)
    many, _ = fit_gmm(rows, 12, max_iter=80, tol=1e-6)
    monkeypatch.setattr("flowpipe.encoding.gmm._SUBSETS", 1)
    steps, _ = fit_gmm(rows, 12, max_iter=4, tol=0)
    converged, _ = fit_gmm(rows, 12, max_iter=300, tol=1e-6)
    mean = {
        name: e_step(rows, gmm).log_likelihood / len(rows)
        for name, gmm in (("few", few), ("many", many), ("steps", steps), ("end", converged))
    }
    assert mean["few"] > mean["steps"]
    assert mean["many"] == pytest.approx(mean["end"], abs=2e-3)


@pytest.mark.parametrize(("kind", "error"), [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_exponentials(kind, error):
    logits = np.random.default_rng(0).uniform(-29.9, 0, (50, 37)).astype(kind)
    largest = logits.max(axis=1)
    exact = np.exp((logits - largest[:, None]).astype(np.float64))
    exponentiate(logits, largest)
    assert np.abs(logits / exact - 1).max() < error
    small = np.array([[0, -29, -31, -200, -1e30, -np.inf]], kind)
    exponentiate(small, np.zeros(1, kind))
    assert small[0, :2] == pytest.approx([1, np.exp(-29)], rel=1e-6)
    assert not small[0, 2:].any()


def test_each_step_raises_the_likelihood():
    rows = clusters()
    found = [e_step(rows, fit_gmm(rows, 5, max_iter=n, tol=0)[0]).log_likelihood for n in range(6)]
    assert np.all(np.diff(found) > 0)


def test_variances_have_a_floor():
    rows = clusters()
    rows[:, 0] = 1
    gmm, _ = fit_gmm(rows, 4, variance_floor=1e-2)
    assert gmm.variances.min() == pytest.approx(1e-2 * rows.var(axis=0).mean())


def test_equal_rows_and_more_components_than_clusters_stay_finite():
    rows = np.repeat([[1.0, 2.0], [3.0, 4.0]], 10, axis=0)
    for table in (rows, rows[:10]):
        with pytest.warns(ConvergenceWarning):
            gmm, _ = fit_gmm(table, 6)
        assert np.isfinite(e_step(table, gmm).log_likelihood)
        assert gmm.weights.sum() == pytest.approx(1)


def test_the_same_seed_gives_the_same_bytes():
    rows = clusters().astype(np.float32)
    first, second = fit_gmm(rows, 5, seed=2)[0], fit_gmm(rows, 5, seed=2)[0]
    assert first.means.tobytes() == second.means.tobytes()
    assert fit_gmm(rows, 5, seed=3)[0].means.tobytes() != first.means.tobytes()


def test_too_few_rows():
    with pytest.raises(ParameterError, match="3 rows are too few for a mixture of 4"):
        fit_gmm(np.zeros((3, 2)), 4)


@pytest.mark.parametrize(
    ("weights", "variances"), [([0.5, 0.5], 0.0), ([0.5, np.nan], 1.0), ([1.5, -0.5], 1.0)]
)
def test_a_mixture_checks_its_numbers(weights, variances):
    with pytest.raises(ParameterError, match="must be finite"):
        DiagonalGmm(np.array(weights), np.zeros((2, 3)), np.full((2, 3), variances))
