"""Convolutional fusion of two streams: initial weights, parts, and where these come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.adapt import take_last_layer
from flowpipe.models.build import backbone
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.cost import network_cost
from flowpipe.models.create import create_model
from flowpipe.models.cut import above, below
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.stream_fusion import StreamFusion, initial_fusion
from flowpipe.models.weights import initialise, save_model
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import prepare
from tests.helpers.golden import Golden, assert_equal, parameters
from tests.helpers.marks import slow_but

SEEN = ClipInput("rgb+flow", 3, 2, 64)


def a_fusion(name: str = "resnet18", **options) -> StreamNetwork:
    return StreamNetwork(Network("two-stream-fusion", name, **options), SEEN, [4])


def test_a_fresh_fusion_equals_the_release():
    golden = Golden("twostreamfusion_conv3d_init")
    assert_equal(initial_fusion(4), golden.state["conv3Df"], 1e-7)
    network = StreamFusion(nn.Identity(), nn.Identity(), n_maps=4, n_features=4)
    with torch.no_grad():
        fused = network.fuse(golden.input()).relu()
    assert_equal(fused, golden.output("relu"))
    pooled = nn.functional.max_pool2d(fused.amax(dim=2), 2)
    assert_equal(pooled[:, :, None], golden.output("pool_2x2_extent5"))


def test_a_fresh_fusion_is_a_quarter_and_three_quarters():
    network = StreamFusion(nn.Identity(), nn.Identity(), n_maps=4, n_features=4)
    maps = torch.ones(1, 4, 5, 6, 6)
    fused = network.fuse(torch.cat([2 * maps, 8 * maps], dim=1))
    torch.testing.assert_close(fused[:, :, 1:-1, 1:-1, 1:-1], torch.full((1, 4, 3, 4, 4), 6.5))


def test_the_score_is_the_mean_of_both_probabilities():
    network = a_fusion().eval()
    clips = network.clips(torch.randn(2, 3, 7, 64, 64))
    fused, flow = network.heads(clips)
    mean = (fused.softmax(dim=1) + flow.softmax(dim=1)) / 2
    torch.testing.assert_close(network(clips).exp(), mean)
    with torch.no_grad():
        network.head.fused.bias += torch.tensor([0.0, 5, 0, 0])
    other, same = network.heads(clips)
    assert torch.equal(same, flow)
    assert not torch.equal(other, fused)


def test_the_stream_of_flow_does_not_see_frames():
    network = a_fusion().eval()
    clips = network.clips(torch.randn(1, 3, 7, 64, 64))
    fused, flow = network.features(clips)[0]
    other = network.features({**clips, "rgb": -clips["rgb"]})[0]
    assert torch.equal(other[1], flow)
    assert not torch.allclose(other[0], fused)


def test_instants_must_be_as_many():
    network = a_fusion()
    clips = network.clips(torch.randn(1, 3, 7, 64, 64))
    with pytest.raises(ParameterError, match="3 frames and 2 flow stacks"):
        network({**clips, "flow": clips["flow"][:, :, :2]})


KINDS = (
    "resnet18 vgg16 vgg11_bn alexnet cnn-m-2048 bn-inception mobilenet_v2 mobilenet_v3_small "
    "efficientnet_b0 regnet_y_400mf shufflenet_v2_x0_5 resnext50_32x4d"
).split()


@pytest.mark.parametrize("name", slow_but(KINDS, "resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"))
def test_both_sides_of_the_cut_are_the_network(name):
    network = backbone(name, 3)
    take_last_layer(network)
    network.eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(above(network, below(network, images)), network(images))


def test_networks_with_other_ends_are_refused():
    with pytest.raises(ParameterError, match=r"backbone is a DenseNet, .* must be a VGG"):
        network_cost(Network("two-stream-fusion", "densenet121"), SEEN)
    for model, modality in (("two-stream-fusion", "flow"), ("tsn", "rgb+flow")):
        with pytest.raises(ParameterError, match=f"modality is '{modality.replace('+', '.')}'"):
            StreamNetwork(Network(model), ClipInput(modality), [2])
    with pytest.raises(ParameterError, match="there are 2 data sets"):
        StreamNetwork(Network("two-stream-fusion"), SEEN, [2, 3])


def test_vgg_has_the_published_size():
    """Two VGG-16, the 3-D convolution of 1024 to 512 maps, and nothing else."""
    cost = network_cost(Network("two-stream-fusion", "vgg16"), ClipInput("rgb+flow", 5, 10), 101)
    assert cost.shape == (23, 5, 224, 224)
    stream = 138_357_544 - 899 * 4097  # ImageNet's 1000 classes
    more = 64 * 17 * 9  # channels of 10 fields
    assert cost.parameters == 2 * stream + more + 27 * 1024 * 512 + 512
    convolutions, connected = 15.347e9, 25088 * 4096 + 4096 * 4096 + 4096 * 101
    adds = 5 * (2 * convolutions + more * 224**2 + 27 * 1024 * 512 * 14**2) + 2 * connected
    assert cost.multiply_adds == pytest.approx(adds, rel=1e-3)


def test_streams_of_vgg_m_have_the_published_size():
    """181.4 million in both, 97.3 million with one tower of connected layers."""
    with torch.device("meta"):
        parts = create_model("two-stream-fusion", num_classes=101, backbone="cnn-m-2048")
    inner = parts.backbone
    towers = parameters(inner.rgb.classifier) + parameters(parts.head.fused)
    both = parameters(parts) - parameters(inner.fuse)
    assert both / 1e6 == pytest.approx(181.42, rel=1e-3)
    assert (both - towers) / 1e6 == pytest.approx(97.31, rel=1e-3)


def test_both_streams_begin_with_networks_of_train(tmp_path):
    fields = {"rgb": ClipInput("rgb", 1, 1, 64), "flow": ClipInput("flow", 1, 2, 64)}
    paths, streams = {}, {}
    for name, clip in fields.items():
        streams[name] = StreamNetwork(Network(backbone="resnet18"), clip, [4])
        paths[name] = str(tmp_path / f"{name}.safetensors")
        save_model(tmp_path / f"{name}.safetensors", streams[name], {}, tmp_path)
    network = a_fusion()
    initialise(network, paths["rgb"], paths["flow"])
    for name, trained in streams.items():
        found = getattr(network.backbone, name).state_dict()
        assert found.keys() == trained.backbone.state_dict().keys()
        assert all(torch.equal(found[k], v) for k, v in trained.backbone.state_dict().items())
    assert torch.equal(network.head.fused.weight, streams["rgb"].last.weight)
    assert torch.equal(network.head.flow.weight, streams["flow"].last.weight)
    # Frames' weights for flow are averaged over the colours, and other classes are learnt.
    crossed = a_fusion()
    initialise(crossed, paths["rgb"])
    mean = streams["rgb"].first.weight.mean(dim=1, keepdim=True).expand(-1, 4, -1, -1)
    torch.testing.assert_close(crossed.backbone.flow.conv1.weight, mean)
    with pytest.raises(FormatError, match="no weights of mobilenet_v2"):
        initialise(a_fusion("mobilenet_v2"), paths["rgb"], paths["flow"])


@pytest.mark.parametrize(("name", "lower"), [("vgg11", 2 * 16), ("resnet18", 2 * 60)])
def test_what_is_below_the_fusion_can_be_frozen(name, lower):
    with torch.device("meta"):
        network = a_fusion(name, batch_norm="frozen")
    prepare(network, Training(backbone_rate=0.0))
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert {"backbone.fuse.weight", "head.fused.weight", "head.flow.bias"} < trained
    assert len(list(network.parameters())) - len(trained) == lower
    assert ("backbone.flow.classifier.3.weight" in trained) == (name == "vgg11")


def test_partial_normalisation_is_of_each_stream():
    network = a_fusion(batch_norm="partial")
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    learning = [m for m in norms if m.training]
    assert learning == [network.backbone.rgb.bn1, network.backbone.flow.bn1]
