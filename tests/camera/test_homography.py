import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.camera.homography import fit_homography

TRUE = np.array([[1.02, 0.01, -3], [-0.02, 0.98, 2], [1e-5, -2e-5, 1]])


def matches(count: int, outliers: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Matches of a known homography, a part of them anywhere."""
    rng = np.random.default_rng(seed)
    source = rng.uniform(0, (320, 240), (count, 2)).astype(np.float32)
    target = cv2.perspectiveTransform(source[:, None], TRUE)[:, 0]
    target += rng.normal(0, 0.2, target.shape).astype(np.float32)
    wrong = rng.random(count) < outliers
    target[wrong] = rng.uniform(0, (320, 240), (wrong.sum(), 2))
    return source, target


def corner_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Largest distance, in pixels, between where two homographies take a frame's corners."""
    corners = np.float32([[[0, 0]], [[320, 0]], [[0, 240]], [[320, 240]]])
    mapped = [cv2.perspectiveTransform(corners, matrix) for matrix in (first, second)]
    return float(np.abs(mapped[0] - mapped[1]).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(60, 1200), st.floats(0, 0.6), st.integers(0, 1000))
def test_it_is_that_of_opencv(count, outliers, seed):
    source, target = matches(count, outliers, seed)
    expected, inliers = cv2.findHomography(source, target, cv2.RANSAC, 1.0)
    if np.count_nonzero(inliers) > 30:
        assert corner_distance(fit_homography(source, target), expected) < 0.01


def test_outliers_do_not_count():
    found = fit_homography(*matches(900, 0.5, 0))
    assert corner_distance(found, TRUE) < 0.2


def test_precise_matches_have_the_last_word():
    source, target = matches(900, 0.3, 1)
    exact = cv2.perspectiveTransform(source[:200, None], TRUE)[:, 0]
    found = fit_homography(source, np.concatenate([exact, target[200:]]), precise=200)
    assert corner_distance(found, TRUE) < 1e-3


@pytest.mark.parametrize("count", [1, 3, 50])
def test_few_matches_say_nothing(count):
    np.testing.assert_array_equal(fit_homography(*matches(count, 0, 0)), np.eye(3))


def test_matches_in_a_line_or_without_agreement_say_nothing():
    line = np.stack([np.arange(100), np.arange(100)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(fit_homography(line, line), np.eye(3))
    rng = np.random.default_rng(0)
    source, target = rng.uniform(0, 300, (2, 60, 2)).astype(np.float32)
    np.testing.assert_array_equal(fit_homography(source, target), np.eye(3))
