from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from flowpipe.classify.per_frame import FrameMetrics, frame_metrics
from flowpipe.errors import ParameterError

PUBLISHED_AP = [0.5551949387667726, 0.37951717959419917, 0.20544540116064752]
PUBLISHED_CAP = [0.7170721360112149, 0.7289594294917214, 0.6611932532654561]


def one(labels, scores, **more) -> FrameMetrics:
    labels = np.array(labels, bool)[:, None]
    return frame_metrics(labels, np.array(scores, float)[:, None], ["run"], **more)


def random_frames(count=5000):
    """The frames and scores from which the published evaluators computed the numbers below."""
    rng = np.random.default_rng(7)
    labels = rng.random((count, 3)) < [0.3, 0.1, 0.02]
    scores = 0.7 * rng.random((count, 3)) + 0.3 * labels * rng.random((count, 3))
    return labels, scores


def test_the_numbers_of_the_published_evaluators():
    """OadTR's frame-level AP and calibrated AP, and scikit-learn's AP, which TRN and LSTR use."""
    found = frame_metrics(*random_frames(), ["a", "b", "c"])
    np.testing.assert_allclose(found.average_precision, PUBLISHED_AP, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.calibrated, PUBLISHED_CAP, rtol=0, atol=1e-12)
    assert found.mean_average_precision == pytest.approx(np.mean(PUBLISHED_AP), abs=1e-12)
    assert found.mean_calibrated == pytest.approx(np.mean(PUBLISHED_CAP), abs=1e-12)
    assert found.n_frames == 5000


def test_an_example_computed_by_hand():
    """Ranks + - + - - -: precisions 1 and 2/3; calibrated by w = 4/2: 1 and 2*2 / (2*2 + 1)."""
    found = one([1, 0, 1, 0, 0, 0], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    assert found.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)
    assert found.calibrated[0] == pytest.approx((1 + 4 / 5) / 2)


def test_equal_scores_are_one_step():
    labels, scores = [1, 0, 1, 1, 0, 0, 1, 0], [0.9, 0.9, 0.8, 0.5, 0.5, 0.5, 0.2, 0.1]
    assert one(labels, scores).average_precision[0] == pytest.approx(0.5595238095238095)
    assert one(labels[::-1], scores[::-1]).average_precision[0] == pytest.approx(0.5595238095238095)


frames_of_a_class = st.lists(
    st.tuples(st.booleans(), st.integers(0, 12)), min_size=1, max_size=60
).filter(lambda rows: any(row[0] for row in rows))


@given(frames_of_a_class, st.randoms(use_true_random=False))
def test_properties_of_average_precision(rows, random):
    labels, scores = [row[0] for row in rows], np.array([row[1] for row in rows], float)
    found = one(labels, scores)
    precision, calibrated = found.average_precision[0], found.calibrated[0]
    assert 0 < precision <= 1
    assert 0 < calibrated <= 1
    assert precision == pytest.approx(average_precision_score(labels, scores))
    # the order of the frames and a growing function of the scores do not matter
    order = random.sample(range(len(rows)), len(rows))
    moved = one(np.array(labels)[order], np.exp(scores / 4)[order] - 3)
    assert moved.average_precision[0] == pytest.approx(precision)
    assert moved.calibrated[0] == pytest.approx(calibrated)
    # right scores are perfect, and as many positives as negatives need no calibration
    assert one(labels, labels).average_precision[0] == 1
    both = one([*labels, *(not each for each in labels)], [*scores, *scores[::-1]])
    assert both.average_precision[0] == pytest.approx(both.calibrated[0])


@given(frames_of_a_class, st.integers(2, 5))
def test_calibration_takes_out_how_many_negatives_there_are(rows, times):
    positive = [row for row in rows if row[0]]
    negative = [row for row in rows if not row[0]]
    few, many = ([*positive, *negative * n] for n in (1, times))
    first, second = (one(*zip(*each, strict=True)).calibrated[0] for each in (few, many))
    assert first == pytest.approx(second)


def test_ignored_frames_do_not_count():
    labels, scores = random_frames(400)
    ignored = np.arange(400) % 3 == 0
    found = frame_metrics(labels, scores, ["a", "b", "c"], ignored)
    kept = frame_metrics(labels[~ignored], scores[~ignored], ["a", "b", "c"])
    np.testing.assert_array_equal(found.average_precision, kept.average_precision)
    np.testing.assert_array_equal(found.positives, kept.positives)
    assert found.n_frames == kept.n_frames == 266
    scores[ignored] = np.nan
    assert frame_metrics(labels, scores, ["a", "b", "c"], ignored).n_frames == 266


def test_the_background_does_not_count():
    labels, scores = random_frames(400)
    background = np.linspace(0, 1, 400)[:, None]
    found = frame_metrics(labels, np.hstack([scores, background]), ["a", "b", "c"])
    plain = frame_metrics(labels, scores, ["a", "b", "c"])
    np.testing.assert_array_equal(found.average_precision, plain.average_precision)


def test_a_class_without_frames_has_no_precision_and_one_without_others_is_perfect():
    labels = np.array([[0, 1], [0, 1]], bool)
    found = frame_metrics(labels, np.array([[0.1, 0.9], [0.2, 0.3]]), ["no", "all"])
    np.testing.assert_array_equal(found.average_precision, [np.nan, 1])
    np.testing.assert_array_equal(found.calibrated, [np.nan, 1])
    assert (found.mean_average_precision, found.mean_calibrated) == (1, 1)
    assert found.to_json()["classes"][0] == {
        "class": "no",
        "frames": 0,
        "average_precision": None,
        "calibrated_average_precision": None,
    }
    none = frame_metrics(labels[:0], np.zeros((0, 2)), ["no", "all"])
    assert math.isnan(none.mean_average_precision)
    assert none.to_json()["mean_average_precision"] is None


def test_scores_in_single_precision_are_compared_as_they_are():
    labels, scores = random_frames(400)
    single = scores.astype(np.float32)
    found = frame_metrics(labels, single, ["a", "b", "c"])
    double = frame_metrics(labels, single.astype(np.float64), ["a", "b", "c"])
    np.testing.assert_array_equal(found.average_precision, double.average_precision)


@pytest.mark.parametrize(
    ("labels", "scores", "ignored", "reason"),
    [
        (np.zeros((4, 2)), np.zeros((4, 2)), None, "must be bool"),
        (np.zeros((4, 3), bool), np.zeros((4, 2)), None, r"must be bool \(frames, 2\)"),
        (np.zeros((4, 2), bool), np.zeros((5, 2)), None, r"scores are \(5, 2\)"),
        (np.zeros((4, 2), bool), np.zeros((4, 4)), None, r"one column more for the background"),
        (np.zeros((4, 2), bool), np.full((4, 2), np.inf), None, "of 'a' must be finite"),
        (np.zeros((4, 2), bool), np.zeros((4, 2)), np.zeros(3, bool), r"must be bool \(4,\)"),
        (np.zeros((4, 2), bool), np.zeros((4, 2)), np.zeros(4), r"must be bool \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(labels, scores, ignored, reason):
    with pytest.raises(ParameterError, match=reason):
        frame_metrics(labels, scores, ["a", "b"], ignored)
