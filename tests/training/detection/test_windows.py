from __future__ import annotations

import numpy as np
import pytest
import torch

from flowpipe.datasets.intervals import Interval
from flowpipe.errors import ParameterError
from flowpipe.training.detection.steps import Steps
from flowpipe.training.detection.train import soft_cross_entropy
from flowpipe.training.detection.windows import StepLabels, StepWindows, step_labels


def a_video(n: int, first: float = 0.0) -> Steps:
    """Features that count from a number."""
    features = (first + np.arange(n, dtype=np.float32))[:, None]
    return Steps("a", features, np.arange(n), n, 2.0, 1)


def targets_of(*rows: int, classes: int = 2) -> np.ndarray:
    """One class for each step; a negative one is none."""
    table = np.zeros((len(rows), classes + 1), np.float32)
    for row, label in enumerate(rows):
        if label >= 0:
            table[row, label] = 1
    return table


def test_the_label_of_a_step_is_that_of_its_present_frame():
    steps = Steps("a", np.zeros((3, 1), np.float32), np.array([3, 5, 7]), 9, 10.0, 2)
    labels = step_labels(
        steps,
        [Interval(0.0, 0.4, "run"), Interval(0.3, 0.6, "jump")],
        ("jump", "run"),
        [Interval(0.7, 0.8, "Ambiguous")],
    )
    assert labels.classes.tolist() == [[True, True], [True, False], [False, False]]
    assert labels.ambiguous.tolist() == [False, False, True]
    np.testing.assert_array_equal(labels.targets(), [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])


def test_an_action_inside_an_ambiguous_interval_is_known():
    labels = StepLabels(np.array([[True], [False], [False]]), np.array([True, True, False]))
    np.testing.assert_array_equal(labels.targets(), [[1, 0], [0, 0], [0, 1]])


def test_windows_end_at_the_present_and_stay_in_their_video():
    videos = [a_video(3), a_video(2, first=10)]
    targets = [targets_of(0, 1, 2), targets_of(1, 1)]
    windows = StepWindows(videos, targets, steps=2, future=2)
    assert len(windows) == 5
    features, now, future = windows.batch(range(5))
    assert features[..., 0].tolist() == [[0, 0], [0, 1], [1, 2], [10, 10], [10, 11]]
    assert now.argmax(dim=1).tolist() == [0, 1, 2, 1, 1]
    assert future.sum(dim=2).tolist() == [[1, 1], [1, 0], [0, 0], [1, 0], [0, 0]]
    assert future[0].argmax(dim=1).tolist() == [1, 2]


def test_ambiguous_steps_are_never_the_present():
    windows = StepWindows([a_video(3)], [targets_of(0, -1, 1)], steps=2, future=1)
    assert windows.present.tolist() == [0, 2]
    assert windows.labels == [0, 1]
    _, _, future = windows.batch([0])
    assert not future.any()


def test_there_must_be_something_to_train_on():
    with pytest.raises(ParameterError, match="no step to train on"):
        StepWindows([a_video(2)], [targets_of(-1, -1)], steps=2, future=1)


def test_the_loss_is_the_cross_entropy_of_rows_with_a_target():
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    hard = torch.tensor([0, 2, 1, 0])
    targets = torch.nn.functional.one_hot(hard, 3).float()
    expected = torch.nn.functional.cross_entropy(scores, hard)
    torch.testing.assert_close(soft_cross_entropy(scores, targets), expected)
    targets[2:] = 0
    expected = torch.nn.functional.cross_entropy(scores[:2], hard[:2])
    torch.testing.assert_close(soft_cross_entropy(scores, targets), expected)
    assert float(soft_cross_entropy(scores, torch.zeros(4, 3))) == 0.0
