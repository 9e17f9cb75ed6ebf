"""Weights of networks on images start networks on clips."""

from __future__ import annotations

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models import inflate
from flowpipe.models.create import create_model
from flowpipe.models.i3d import I3D
from flowpipe.models.resnet3d import I3D_R50, ResNet3D
from tests.helpers.golden import assert_equal

FRAMES = 40
"""So many that the middle of the clip is out of reach of the padding at its ends."""


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval()


def maps_of(resnet, pictures):
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
    return nn.Sequential(stem, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)(pictures)


def test_an_inflated_network_on_a_repeated_frame_is_the_2d_one(resnet):
    network = ResNet3D(I3D_R50, 3, 5).eval()
    inflate(resnet, network)
    picture = torch.randn(1, 3, 32, 32)
    clip = picture[:, :, None].expand(-1, -1, FRAMES, -1, -1)
    (maps,) = network.stages(clip)["s5"]
    expected = maps_of(resnet, picture)
    assert_equal(maps[:, :, maps.shape[2] // 2], expected)
    assert (maps[:, :, 0] - expected).abs().max() > 1e-3  # there is padding


def test_a_network_inflated_by_the_centre_is_the_2d_one_on_all_frames(resnet):
    network = ResNet3D(I3D_R50, 3, 5).eval()
    inflate(resnet, network, how="centre")
    frames = torch.randn(8, 3, 32, 32)
    (maps,) = network.stages(frames.transpose(0, 1)[None])["s2"]
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
    assert_equal(maps[0].transpose(0, 1), stem(frames))


def test_train_starts_i3d_r50_from_the_weights_of_images(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "resnet50.safetensors")
    expected = ResNet3D(I3D_R50, 3, 5)
    inflate(resnet, expected)
    found = create_model("i3d-r50", "rgb", 5, weights=tmp_path / "resnet50.safetensors")
    for name, value in found.backbone.state_dict().items():
        torch.testing.assert_close(value, expected.state_dict()[name])


def test_non_local_blocks_start_as_the_identity_beside_inflated_weights(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "resnet50.safetensors")
    network = create_model("i3d-r50-non-local", "rgb", 5, weights=tmp_path / "resnet50.safetensors")
    host = create_model("i3d-r50", "rgb", 5, weights=tmp_path / "resnet50.safetensors")
    clip = torch.randn(1, 3, 8, 32, 32)
    assert_equal(network.eval().features(clip), host.eval().features(clip))
    new = {name.split(".")[2] for name in network.new_layers() if name.startswith("backbone.")}
    assert new == {f"pathway0_nonlocal{block}" for block in (1, 3, 5)}


def test_i3d_starts_from_the_weights_of_googlenet(tmp_path):
    images = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    network = I3D(3, 5)
    inflate(images, network)
    module, layer = images.inception4c.branch3[1], network.Mixed_4d.b2b
    torch.testing.assert_close(layer.conv3d.weight.sum(dim=2), module.conv.weight)
    assert torch.equal(layer.bn.running_var, module.bn.running_var)
    save_file(images.state_dict(), tmp_path / "googlenet.safetensors")
    found = create_model("i3d", "rgb", 5, weights=tmp_path / "googlenet.safetensors")
    assert torch.equal(found.backbone.Mixed_4d.b2b.conv3d.weight, layer.conv3d.weight)


def test_i3d_on_flow_starts_from_the_mean_over_the_colours(tmp_path):
    rgb = I3D(3, 400)
    save_file(rgb.state_dict(), tmp_path / "i3d_rgb.safetensors")
    found = create_model("i3d", "flow", 5, weights=tmp_path / "i3d_rgb.safetensors").backbone
    kernel = rgb.Conv3d_1a_7x7.conv3d.weight.mean(dim=1)
    for channel in (0, 1):
        assert_equal(found.Conv3d_1a_7x7.conv3d.weight[:, channel], kernel)
    assert torch.equal(found.Mixed_5c.b0.conv3d.weight, rgb.Mixed_5c.b0.conv3d.weight)


def test_networks_that_differ_are_refused(resnet):
    with pytest.raises(ParameterError, match="how is 'sum'; it must be one of mean, centre"):
        inflate(nn.Conv2d(1, 1, 3), nn.Conv3d(1, 1, 3), how="sum")
    with pytest.raises(FormatError, match="network2d has no weight"):
        inflate(nn.Sequential(nn.Conv2d(1, 1, 3)), nn.Conv3d(1, 1, 3))
    with pytest.raises(FormatError, match=r"weight of network2d is \(1, 1, 3, 3\); for network3d"):
        inflate(nn.Conv2d(1, 1, 3), nn.Conv3d(1, 1, 5))
    with pytest.raises(FormatError, match=r"network2d has no Conv3d_1a_7x7\.conv3d\.weight"):
        inflate(resnet, I3D(3, 5, width=1 / 16))
