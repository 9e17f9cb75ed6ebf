"""Probabilities: the temperature of held-out scores, and a softmax over the classes trained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from flowpipe.classify.calibration import probabilities, temperature
from flowpipe.classify.scores import Scores, SplitScores


def held_out(table: np.ndarray, labels: np.ndarray, splits: int = 1) -> Scores:
    """Scores of clips, divided among splits."""
    classes = tuple(f"class {i}" for i in range(table.shape[1]))
    parts = np.array_split(np.arange(len(labels)), splits)
    return Scores(
        classes,
        tuple(
            SplitScores(f"split{i}", tuple(f"clip {k}" for k in part), labels[part], table[part])
            for i, part in enumerate(parts)
        ),
    )


def drawn(scale: float, clips: int = 4000, classes: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax, after division by the scale, is the chance of each label."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (clips, classes))
    chances = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((clips, 1)) > chances[:, :-1]).sum(axis=1)
    return (logits * scale).astype(np.float32), labels


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 40.0])
def test_the_temperature_of_known_chances_is_found(scale):
    table, labels = drawn(scale)
    assert temperature(held_out(table, labels, splits=3)) == pytest.approx(scale, rel=0.05)


def test_mean_probability_of_the_label_is_the_accuracy():
    table, labels = drawn(0.2)
    found = temperature(held_out(table[:2000], labels[:2000]))
    present = np.ones(table.shape[1], bool)
    new = np.stack([probabilities(row, present, found) for row in table[2000:]])
    right = (new.argmax(axis=1) == labels[2000:]).mean()
    assert new.max(axis=1).mean() == pytest.approx(right, abs=0.03)


def test_clips_that_are_all_right_leave_doubt():
    table = (np.eye(3)[[0, 1, 2] * 3] * 2 - 1).astype(np.float32)
    found = temperature(held_out(table, np.array([0, 1, 2] * 3)))
    best = probabilities(table[0], np.ones(3, bool), found).max()
    assert best == pytest.approx((9 + 1) / (9 + 3), abs=1e-3)


@pytest.mark.parametrize("table", [np.zeros((4, 3)), np.ones((4, 3)) * 5])
def test_scores_that_say_nothing_are_left_as_they_are(table):
    assert temperature(held_out(table.astype(np.float32), np.array([0, 1, 2, 0]))) == 1


def test_scores_that_are_wrong_become_chance():
    table, labels = drawn(1.0, classes=4)
    found = temperature(held_out(-table, labels))
    assert probabilities(table[0], np.ones(4, bool), found) == pytest.approx([0.25] * 4, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=9),
    st.floats(1e-3, 1e3),
    st.data(),
)
def test_classes_without_training_clips_have_no_probability(scores, heat, data):
    count = len(scores)
    present = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    present[data.draw(st.integers(0, count - 1))] = True
    found = probabilities(np.array(scores, np.float32), present, heat)
    assert found.sum() == pytest.approx(1)
    assert (found[~present] == 0).all()
    best = np.flatnonzero(present)[np.array(scores)[present].argmax()]
    assert found[best] == found.max()  # the order of classes is kept
