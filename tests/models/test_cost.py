"""Parameters and multiply-adds against those that papers, releases and torchvision give."""

from __future__ import annotations

from dataclasses import replace

import pytest

import flowpipe
from flowpipe.errors import ParameterError
from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.cost import network_cost
from flowpipe.models.network import Network
from flowpipe.training.parameters import preset
from tests.helpers.marks import slow_but

# Model, classes, changes of its input, parameters in million, multiply-adds in billion.
PUBLISHED = [
    ("tsm", 400, {}, 24.328, 32.88),
    ("tsm", 174, {}, 23.865, 32.88),
    ("trn-multiscale", 174, {}, 26.64, None),
    ("tea", 400, {}, None, 34.55),
    ("eco-lite", 400, {"segments": 8}, 37.50, 23.24),
    ("eco-lite", 400, {}, 37.50, 46.5),
    ("eco-full", 400, {}, 47.50, None),
    ("c3d", 101, {}, 78.41, 38.55),
    ("c3d", 487, {}, 79.99, None),
    ("i3d", 400, {}, 12.697, 111.15),
    ("i3d-r50", 400, {"input_size": 256}, 28.04, 37.1),
    ("i3d-r50-non-local", 400, {}, 35.4, None),
    ("c2d-r50", 400, {"input_size": 256}, 24.33, 25.5),
    ("slow-r50", 400, {"input_size": 256}, 32.45, 54.5),
    ("slowfast-r50-8x8", 400, {"input_size": 256}, 34.566, 65.71),
    ("slowfast-r50-4x16", 400, {"input_size": 256}, 34.48, None),
    ("timesformer-divided", 400, {}, 121.57, 195.8),
    ("timesformer-joint", 400, {}, 86.11, 179.6),
    ("timesformer-space", 400, {}, 86.11, 140.5),
    ("vivit-1", 400, {}, 88.954, 451.5),
    ("vivit-2", 400, {}, 115.1, 283.3),
    ("vivit-3", 400, {}, 117.3, 371.1),
    ("vivit-4", 400, {}, 88.9, 276.2),
    ("r3d-18", 400, {}, 33.37, 40.7),
    ("mc3-18", 400, {}, 11.70, 43.3),
    ("r2plus1d-18", 400, {}, 31.51, 40.5),
    ("s3d", 400, {}, 8.32, 71.9),
    ("mvit-v2-s", 400, {}, 34.54, 64.2),
    ("swin3d-t", 400, {}, 28.16, 87.8),
]


@pytest.mark.parametrize(
    ("name", "classes", "changes", "parameters", "billion"),
    slow_but(PUBLISHED, "tsm", "i3d", "vivit-1", "r3d-18"),
)
def test_parameters_and_multiply_adds_are_the_published_ones(
    name, classes, changes, parameters, billion
):
    clip = replace(MODELS[name].suited(ClipInput("rgb", length=1)), **changes)
    cost = network_cost(Network(name), clip, classes)
    if parameters is not None:
        assert cost.parameters / 1e6 == pytest.approx(parameters, rel=1e-3)
    if billion is not None:
        assert cost.multiply_adds / 1e9 == pytest.approx(billion, rel=0.01)


def test_flow_has_another_first_layer():
    rgb, flow = (
        network_cost(Network("i3d"), replace(MODELS["i3d"].suited(ClipInput()), modality=modality))
        for modality in ("rgb", "flow")
    )
    assert (rgb.shape[0], flow.shape) == (3, (2, 64, 224, 224))
    assert flow.parameters / 1e6 == pytest.approx(12.675, rel=1e-3)
    assert flow.multiply_adds / 1e9 == pytest.approx(102.3, rel=0.01)


@pytest.mark.parametrize("name", slow_but(MODELS, "tsn", "tsm", "i3d", "vivit-1"))
def test_every_model_is_described_and_its_recipe_is_one_of_options(name):
    described = flowpipe.describe_model(name)
    assert described.parameters > 0
    assert described.multiply_adds > 0
    assert described.published
    entry = MODELS[name]
    stream = preset("published", "rgb", name)
    for option, value in entry.recipe.options if entry.recipe else ():
        found = [
            getattr(g, option) for g in (stream.training, stream.network) if hasattr(g, option)
        ]
        assert found == [value]


def test_regnets_are_counted():
    """Their widths are computed with tensors, which have no values where nothing is computed."""
    cost = network_cost(Network(backbone="regnet_y_400mf"), ClipInput("rgb", 1, 1), 1000)
    assert (cost.parameters, cost.multiply_adds) == (4_344_144, pytest.approx(0.40e9, rel=0.01))


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (
            "mvit-v2-s",
            {"length": 8},
            "mvit-v2-s cannot take rgb clips with .*length=8.*its authors have .*length=16",
        ),
        ("s3d", {"length": 4}, "s3d cannot take rgb clips"),
        ("timesformer-divided", {"input_size": 100}, "size is 100; it must be a multiple"),
        ("tdn", {"length": 3}, "tdn takes 15"),
        ("i3d", {"segments": 2}, "segments is 2"),
    ],
)
def test_clips_that_a_network_cannot_take_are_named(name, changes, told):
    clip = replace(MODELS[name].suited(ClipInput("rgb", length=1)), **changes)
    with pytest.raises(ParameterError, match=told):
        network_cost(Network(name), clip)
