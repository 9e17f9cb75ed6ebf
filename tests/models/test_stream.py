from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import get_model

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.build import backbones
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.cnn_m import CnnM2048
from flowpipe.models.losses import loss, mask_other_sets
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from tests.helpers.nets import seen, small_network


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("resnet18", 32),
        ("efficientnet_b0", 32),
        ("mobilenet_v3_small", 32),
        ("shufflenet_v2_x0_5", 32),
        ("squeezenet1_1", 32),
        ("googlenet", 32),
    ],
)
def test_backbones_take_flow_and_give_scores(backbone, size):
    network = small_network(10, (7,), backbone=backbone)
    assert network(torch.zeros(2, 10, 3, size, size)).shape == (2, 7)


@pytest.mark.parametrize("backbone", ["vgg16", "resnet101", "efficientnet_b7", "cnn-m-2048"])
def test_large_backbones_keep_their_features(backbone):
    with torch.device("meta"):
        network = StreamNetwork(Network(backbone=backbone, batch_norm="train"), seen(20), (101,))
    features = {"vgg16": 4096, "resnet101": 2048, "efficientnet_b7": 2560, "cnn-m-2048": 2048}
    assert network.last.in_features == features[backbone]
    assert network.first.in_channels == 20
    assert not any(
        isinstance(layer, nn.Linear) and layer.out_features == 1000 for layer in network.modules()
    )


@pytest.mark.parametrize("backbone", ["vgg16", "cnn-m-2048"])
def test_networks_that_drop_twice_drop_alike(backbone):
    with torch.device("meta"):
        network = StreamNetwork(
            Network(backbone=backbone, dropout=0.9, batch_norm="train"), seen(20), (101,)
        )
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.9, 0.9]


def test_unknown_names_are_told():
    assert "vgg16" in backbones()
    with pytest.raises(ParameterError, match="backbone is 'lenet'"):
        small_network(backbone="lenet")
    with pytest.raises(ParameterError, match="consensus is 'median'"):
        small_network(consensus="median")
    with pytest.raises(ParameterError, match="batch_norm is 'half'"):
        small_network(batch_norm="half")
    with pytest.raises(ParameterError, match="dropout is 1"):
        Network(dropout=1)


def test_cross_modality_weights_are_the_mean_over_rgb():
    rgb = get_model("resnet18", weights=None)
    network = small_network(10, backbone="resnet18")
    network.load_backbone(rgb.state_dict(), "these")
    mean = rgb.conv1.weight.detach().numpy().mean(axis=1)
    for channel in range(10):
        np.testing.assert_allclose(
            network.first.weight[:, channel].detach().numpy(), mean, rtol=1e-5, atol=1e-8
        )
    # The others are taken over as they are.
    theirs = rgb.state_dict()["layer4.1.conv2.weight"]
    assert torch.equal(network.backbone.state_dict()["layer4.1.conv2.weight"], theirs)


def test_rgb_weights_stay_as_they_are():
    rgb = get_model("resnet18", weights=None)
    network = small_network(3, backbone="resnet18")
    network.load_backbone(rgb.state_dict(), "these")
    assert torch.equal(network.first.weight, rgb.conv1.weight)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "module.backbone."])
def test_weights_of_other_scripts(prefix):
    theirs = get_model("shufflenet_v2_x0_5", weights=None).state_dict()
    network = small_network()
    network.load_backbone({prefix + name: value for name, value in theirs.items()}, "these")
    assert torch.equal(network.backbone.state_dict()["conv5.0.weight"], theirs["conv5.0.weight"])


def test_weights_of_another_network_are_refused():
    theirs = get_model("resnet18", weights=None).state_dict()
    with pytest.raises(FormatError, match=r"'r\.pth' holds no weights of shufflenet_v2_x0_5: .*"):
        small_network().load_backbone(theirs, "'r.pth'")
    with pytest.raises(FormatError, match="more"):
        small_network(backbone="resnet18").load_backbone({"conv1.weight": theirs["fc.bias"]}, "x")


def test_the_last_layer_begins_small_and_dropout_stands_before_it():
    network = small_network(10, (400,), dropout=0.7)
    assert network.last.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not network.last.bias.any()
    assert network.dropout.p == 0.7
    features = []
    network.last.register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
    network.train()(torch.randn(8, 10, 1, 32, 32))
    network.eval()(torch.randn(8, 10, 1, 32, 32))
    trained, tested = ((found != 0).float().mean().item() for found in features)
    assert trained / tested == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("backbone", ["efficientnet_b0", "squeezenet1_1"])
def test_dropout_of_the_backbone_gives_way(backbone):
    network = small_network(backbone=backbone, dropout=0.3)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(("batch_norm", "learning"), [("train", 20), ("partial", 1), ("frozen", 0)])
def test_frozen_normalisations_are_really_frozen(batch_norm, learning):
    network = small_network(backbone="resnet18", batch_norm=batch_norm)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == 20
    before = [{k: v.clone() for k, v in norm.state_dict().items()} for norm in norms]
    network.eval()
    network.train()  # which must not wake them
    descent = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    nn.functional.cross_entropy(network(torch.randn(2, 4, 2, 32, 32)), torch.tensor([0, 1]))
    for _ in range(2):
        descent.zero_grad()
        scores = network(torch.randn(2, 4, 2, 32, 32))
        nn.functional.cross_entropy(scores, torch.tensor([0, 1])).backward()
        descent.step()
    changed = [
        any(not torch.equal(old[name], value) for name, value in norm.state_dict().items())
        for old, norm in zip(before, norms, strict=True)
    ]
    assert changed == [True] * learning + [False] * (20 - learning)
    assert [norm.training for norm in norms] == changed
    assert [norm.weight.requires_grad for norm in norms] == changed


def test_each_set_has_its_own_classes():
    scores = torch.tensor([[1.0, 2.0, 9.0, 0.0], [9.0, 9.0, 3.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 3])
    found = loss(scores, labels, (2, 2))
    own = [nn.functional.cross_entropy(scores[0, :2], labels[0])]
    own += [nn.functional.cross_entropy(scores[1, 2:], labels[1] - 2)]
    torch.testing.assert_close(found, torch.stack(own))
    found.sum().backward()
    assert not scores.grad[0, 2:].any()
    assert not scores.grad[1, :2].any()
    assert mask_other_sets(scores, labels, (2, 2)).argmax(dim=1).tolist() == [1, 2]


def test_cnn_m_2048_has_the_maps_of_the_paper():
    with torch.device("meta"):
        network = CnnM2048(20)
        maps, sides = torch.empty(1, 20, 224, 224), []
        for layer in network.features:
            maps = layer(maps)
            sides.append(tuple(maps.shape[1:]))
    assert sides[0] == (96, 109, 109)
    assert sides[4] == (256, 26, 26)
    assert sides[-2:] == [(512, 6, 6), (512, 6, 6)]  # the last layer changes nothing
    assert [m.out_features for m in network.classifier if isinstance(m, nn.Linear)][:2] == [
        4096,
        2048,
    ]


def test_cnn_m_2048_of_the_temporal_network_has_one_norm():
    with torch.device("meta"):
        norms = [
            sum(isinstance(m, nn.LocalResponseNorm) for m in CnnM2048(second_norm=both).features)
            for both in (True, False)
        ]
    assert norms == [2, 1]


@pytest.mark.parametrize(("kind", "expected"), [("average", [2.0, 3.0]), ("max", [3.0, 6.0])])
def test_consensus(kind, expected):
    network = small_network(consensus=kind)
    scores = torch.tensor([[[1.0, 6.0], [3.0, 0.0]]])
    assert network.consensus(scores, torch.zeros(1, 2, 5)).tolist() == [expected]


def test_attention_begins_as_the_mean_and_can_prefer_a_segment():
    consensus = small_network(consensus="attention").consensus
    scores = torch.tensor([[[1.0, 6.0], [3.0, 0.0]]])
    features = torch.zeros(1, 2, consensus.importance.in_features)
    features[0, 1, 0] = 1
    assert consensus(scores, features).tolist() == [[2.0, 3.0]]
    with torch.no_grad():
        consensus.importance.weight[0, 0] = 50
    torch.testing.assert_close(consensus(scores, features), scores[:, 1])


def test_channels_are_last_and_no_weight_changes():
    network = StreamNetwork(
        Network("r3d-18", batch_norm="train"), ClipInput("flow", 1, 8, 32), (3,)
    )
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.laid_out()
    last = torch.channels_last_3d
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert all(each.weight.is_contiguous(memory_format=last) for each in convolutions)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
