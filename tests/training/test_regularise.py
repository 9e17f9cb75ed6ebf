from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from flowpipe.models.losses import loss
from flowpipe.models.residual import set_stochastic_depth
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import parameter_groups, prepare
from flowpipe.training.regularise import compute_statistics, mix, moving_average
from tests.helpers.nets import small_network


def test_mixed_clips_have_the_shares_of_their_labels():
    snippets = torch.arange(6.0)[:, None, None, None, None].expand(6, 1, 1, 2, 2)
    labels = torch.arange(6)
    for seed in range(5):
        mixed, shares = mix(snippets, labels, 6, 0.4, np.random.default_rng(seed))
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
        assert (shares.argmax(dim=1) == labels).all()
        assert (shares.gather(1, labels[:, None]) >= 0.5).all()
        # A clip's value is its label here, so that it tells its shares.
        torch.testing.assert_close(mixed[:, 0, 0, 0, 0], shares @ torch.arange(6.0))


def test_smoothed_and_soft_labels_in_the_loss():
    scores, labels = torch.randn(4, 5), torch.tensor([0, 3, 1, 4])
    logs = scores.log_softmax(dim=1)
    target = nn.functional.one_hot(labels, 5) * 0.9 + 0.1 / 5
    expected = -(target * logs).sum(dim=1)
    torch.testing.assert_close(loss(scores, labels, (5,), smoothing=0.1), expected)
    torch.testing.assert_close(loss(scores, target, (5,)), expected)


def test_the_moving_average_follows_weights_and_statistics():
    network = small_network()
    average = moving_average(network, 0.75)
    values = []
    for value in (1.0, 3.0):
        with torch.no_grad():
            network.last.bias.fill_(value)
            network.backbone.conv1[1].running_mean.fill_(value)
        average.update_parameters(network)
        values.append(average.module.last.bias[0].item())
    assert values == [1.0, 1.5]
    torch.testing.assert_close(average.module.backbone.conv1[1].running_mean[0].item(), 1.5)


def test_statistics_are_those_of_all_values_and_frozen_ones_stay():
    """Batches of other sizes and means count as if all of their clips were one batch."""
    network = small_network(batch_norm="partial", dropout=0.0).train()
    first, second = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)][:2]
    frozen = second.running_mean.clone()
    batches = [torch.randn(size, 4, 3, 32, 32) + level for size, level in ((4, 0), (1, 3), (2, -2))]
    compute_statistics(network, batches)
    with torch.no_grad():
        clips = torch.cat(batches).transpose(1, 2).flatten(0, 1)
        maps = network.backbone.conv1[0](clips)
    torch.testing.assert_close(first.running_mean, maps.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, maps.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert (first.momentum, int(first.num_batches_tracked)) == (0.1, 3)
    assert torch.equal(second.running_mean, frozen)
    assert not first._forward_hooks


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_a_clip_skips_a_block_as_a_whole(backbone):
    network = small_network(backbone=backbone, dropout=0.0)
    names = set(network.state_dict())
    clips = torch.randn(2, 4, 3, 32, 32)
    compute_statistics(network, [clips])
    with torch.no_grad():
        before = network.eval().features(clips)
        set_stochastic_depth(network.backbone, 0.6)
        assert set(network.state_dict()) == names
        assert torch.equal(network.features(clips), before)
        skipping = [x for x in network.modules() if type(x).__name__ == "SkipClips"]
        rates = [x.drop.p for x in skipping]
        assert (rates[0], rates[-1]) == (0, pytest.approx(0.6))
        assert np.ptp(np.diff(rates)) < 1e-9
        for each in skipping:
            each.train()
        assert (network.features(clips) - before).abs().max() > 1e-3
        maps = torch.ones(6, 5, 2, 2)  # two clips of three frames
        seen = {
            tuple(skipping[-1](maps).view(2, -1).unique(dim=1).flatten().tolist())
            for _ in range(40)
        }
    assert {len(each) for each in seen} == {2}  # all frames of a clip, or none
    assert len(seen) == 4


def test_transformers_and_efficientnets_skip_by_themselves():
    network = small_network(backbone="efficientnet_b0")
    set_stochastic_depth(network.backbone, 0.3)
    rates = [x.p for x in network.modules() if type(x).__name__ == "StochasticDepth"]
    assert (rates[0], rates[-1], rates) == (0, pytest.approx(0.3), sorted(rates))


def test_rates_of_new_layers_and_of_the_backbone():
    parameters = Training(lr=0.1, conv1_lr=5.0, head_rate=10.0, backbone_rate=0.1)
    network = small_network()
    times = {
        id(weight): group["times"]
        for group in parameter_groups(network, parameters)
        for weight in group["params"]
    }
    assert times[id(network.first.weight)] == pytest.approx(0.5)
    assert times[id(network.backbone.conv5[0].weight)] == 0.1
    assert (times[id(network.last.weight)], times[id(network.last.bias)]) == (10, 20)
    adamw = Training(lr=0.1, optimizer="adamw")
    assert {group["times"] for group in parameter_groups(network, adamw)} == {1, 5}


def test_inserted_modules_are_new_layers_of_a_frozen_backbone():
    network = small_network(backbone="resnet50", model="stm", batch_norm="frozen")
    prepare(network, Training(backbone_rate=0.0))
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert {"last.weight", "last.bias"} < trained
    inserted = [name for name in trained if not name.startswith("last.")]
    assert inserted
    assert all(".conv2." in name for name in inserted)
    assert not any(name.endswith("conv2.conv.weight") for name in trained)
