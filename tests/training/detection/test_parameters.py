from __future__ import annotations

import pytest

from flowpipe.errors import ParameterError
from flowpipe.models.detectors import DETECTORS
from flowpipe.training.detection.parameters import DetectorTraining, detector_preset


def test_the_published_values_are_the_defaults():
    published = detector_preset("published")
    assert published == DetectorTraining()
    assert published.options() == {
        "steps": 64, "future": 8, "width": 1024, "depth": 3, "decoder_depth": 5, "dropout": 0.1
    }  # fmt: skip
    assert published.weight_of_future == 0.5
    assert [published.lr_of_epoch(epoch) for epoch in range(3)] == pytest.approx([1e-4, 1e-5, 1e-6])
    assert DetectorTraining(drop_every=None).lr_of_epoch(99) == 1e-4


@pytest.mark.parametrize("model", DETECTORS)
def test_presets_suit_every_detector(model):
    small = detector_preset("small", model)
    assert small.model == model
    assert set(small.options()) == set(dict(DETECTORS[model].options))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model": "oadtt"}, "model is 'oadtt'; it must be one of oadtr"),
        ({"model": "lstm", "future": 4}, "future is 4; it applies to oadtr, and model is 'lstm'"),
        ({"model": "linear", "steps": 4}, "steps is 4; it applies to oadtr and lstm"),
        ({"model": "lstm", "decoder_depth": 4}, "decoder_depth is 4; it applies to oadtr"),
        ({"model": "linear", "future_weight": 1.0}, "future_weight is 1.0; it applies to oadtr"),
        ({"width": 20}, "width is 20; oadtr divides it among 8 heads"),
        ({"steps": 0}, "steps is 0"),
        ({"width": 1 << 20}, "width is 1048576"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"drop_every": 0}, "drop_every is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"grad_clip": 0.0}, "grad_clip is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_values_are_named(options, reason):
    with pytest.raises(ParameterError, match=reason):
        DetectorTraining(**options)


def test_there_is_no_other_preset():
    with pytest.raises(ParameterError, match="preset is 'big'; it must be one of small, published"):
        detector_preset("big")
