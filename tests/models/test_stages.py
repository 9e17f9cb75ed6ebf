"""The stages that a network is divided into are those of the module."""

from __future__ import annotations

import pytest

from flowpipe.errors import ParameterError
from flowpipe.models.cost import network_cost
from flowpipe.models.describe import usual_input
from flowpipe.models.network import Network
from flowpipe.models.stages import network_stages


@pytest.mark.parametrize(
    "name",
    [
        "tsn",
        "lrcn",
        "tea",
        "two-stream-fusion",
        "eco-full",
        "deepvideo-slow",
        "c3d",
        "i3d",
        "slowfast-r50-8x8",
        "timesformer-divided",
        "vivit-2",
        "mvit-v2-s",
    ],
)
def test_stages_have_all_of_a_network(name):
    network, clip = usual_input(name)
    cost = network_cost(network, clip, 101)
    stages = network_stages(network, clip, 101)
    assert 3 <= len(stages) <= 20
    assert len({stage.name for stage in stages}) == len(stages)
    assert sum(stage.multiply_adds for stage in stages) == cost.multiply_adds
    # Beside the stages are class tokens, position embeddings, and normalisations behind a stem.
    assert 0.97 * cost.parameters < sum(s.parameters for s in stages) <= cost.parameters
    assert stages[-1].shape[-1] == 101


def test_equal_blocks_are_one_stage():
    stages = network_stages(*usual_input("swin3d-t"))
    assert [(stage.kind, stage.shape) for stage in stages[1:4]] == [
        ("2 x SwinTransformerBlock", (16, 56, 56, 96)),
        ("PatchMerging", (16, 28, 28, 192)),
        ("2 x SwinTransformerBlock", (16, 28, 28, 192)),
    ]


def test_a_clip_that_the_network_cannot_take_is_refused():
    _, clip = usual_input("tsn")
    with pytest.raises(ParameterError, match="segments must be 1"):
        network_stages(Network("c3d"), clip)
