from __future__ import annotations

import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from flowpipe.classify.kernels import linear_gram
from flowpipe.classify.parameters import Svm
from flowpipe.classify.svm import one_vs_rest
from flowpipe.errors import ParameterError


def problem(count: int = 60, classes: int = 3, width: int = 200):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    vectors = rng.normal(size=(count, width)) + 0.6 * rng.normal(size=(classes, width))[labels]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_is_scikit_learns_one_vs_rest(jobs):
    vectors, labels = problem()
    train, test = np.arange(40), np.arange(40, 60)
    scores = one_vs_rest(linear_gram(vectors), labels[train], train, test, 3, jobs=jobs)
    theirs = OneVsRestClassifier(SVC(kernel="linear", C=100)).fit(vectors[train], labels[train])
    assert scores == pytest.approx(theirs.decision_function(vectors[test]), abs=1e-2)
    assert (scores.argmax(axis=1) == labels[test]).mean() > 0.8


def test_scores_are_the_same_bits_with_any_number_of_threads():
    vectors, labels = problem()
    gram, train, test = linear_gram(vectors), np.arange(40), np.arange(40, 60)
    first = one_vs_rest(gram, labels[train], train, test, 3)
    assert np.array_equal(one_vs_rest(gram, labels[train], train, test, 3, jobs=3), first)


def test_labels_of_test_clips_are_refused():
    vectors, labels = problem()
    with pytest.raises(ParameterError, match="a label per training clip"):
        one_vs_rest(linear_gram(vectors), labels, np.arange(40), np.arange(40, 60), 3)


def test_a_class_with_one_training_clip_is_learnt():
    vectors, labels = problem()
    train = np.flatnonzero((labels != 2) | (np.arange(60) == 2))
    test = np.setdiff1d(np.arange(60), train)
    scores = one_vs_rest(linear_gram(vectors), labels[train], train, test, 3)
    assert np.isfinite(scores).all()
    assert np.ptp(scores[:, 2]) > 0


def test_a_class_without_training_clips_is_never_chosen():
    vectors, labels = problem()
    train = np.flatnonzero(labels[:40] != 1)
    scores = one_vs_rest(linear_gram(vectors), labels[train], train, np.arange(40, 60), 3)
    assert scores.shape == (20, 3)
    assert (scores[:, 1] < scores[:, [0, 2]].min(axis=1)).all()
    alone = one_vs_rest(linear_gram(vectors), labels[train], train, np.array([47]), 3)
    assert np.array_equal(alone[0], scores[7])


def test_clips_of_zeros_get_finite_scores():
    vectors, labels = problem()
    vectors[[3, 50]] = 0
    scores = one_vs_rest(linear_gram(vectors), labels[:40], np.arange(40), np.arange(40, 60), 3)
    assert np.isfinite(scores).all()


def test_no_test_clips():
    vectors, labels = problem()
    scores = one_vs_rest(linear_gram(vectors), labels[:40], np.arange(40), np.arange(0), 3)
    assert scores.shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "train", "message"),
    [
        (np.zeros(4, int), np.arange(4), "4 training clips are of 1 class; at least two"),
        (np.arange(0), np.arange(0), "0 training clips are of 0 classes"),
        (np.arange(4), np.arange(4), "labels reach from 0 to 3; they must be 0 to 1"),
        (np.arange(5), np.arange(4), r"y_train is \(5,\)"),
    ],
)
def test_what_cannot_be_learnt(labels, train, message):
    with pytest.raises(ParameterError, match=message):
        one_vs_rest(np.eye(6), labels, train, np.array([5]), 2)


@pytest.mark.parametrize("values", [{"c": 0.0}, {"c": float("nan")}, {"tol": -1.0}])
def test_parameters_out_of_range(values):
    with pytest.raises(ParameterError, match="must be more than 0"):
        Svm(**values)
