"""Flat 3-D convolutions have the outputs and the gradients of torch's."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from flowpipe.models.flat_conv import FlatConv3d, flatten_convolutions

SHAPES = [
    ((1, 1, 1), {}),
    ((1, 1, 1), {"stride": (1, 2, 2)}),
    ((1, 1, 1), {"groups": 2}),
    ((3, 1, 1), {"padding": (1, 0, 0)}),
    ((5, 1, 1), {"stride": (4, 1, 1), "padding": (2, 0, 0), "bias": False}),
    ((3, 1, 1), {"stride": (2, 2, 1), "padding": (1, 0, 0)}),
    ((1, 3, 3), {"padding": (0, 1, 1)}),
    ((1, 7, 5), {"stride": (1, 2, 2), "padding": (0, 3, 1), "dilation": (1, 1, 2)}),
    ((1, 3, 3), {"padding": (1, 1, 1)}),
    ((3, 3, 3), {"padding": 1}),
]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("kernel", "options"), SHAPES)
def test_outputs_and_gradients_are_those_of_torch(kernel, options, last):
    torch.manual_seed(0)
    plain, flat = nn.Conv3d(4, 6, kernel, **options), FlatConv3d(4, 6, kernel, **options)
    flat.load_state_dict(plain.state_dict())
    outputs = []
    for network in (plain, flat):
        clip = torch.randn(2, 4, 9, 12, 11, generator=torch.Generator().manual_seed(1))
        if last:
            network.to(memory_format=torch.channels_last_3d)
            clip = clip.to(memory_format=torch.channels_last_3d)
        clip.requires_grad_()
        out = network(clip)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        outputs.append((out, clip.grad, *(each.grad for each in network.parameters())))
    for expected, found in zip(*outputs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_keeps_its_names_and_its_scores():
    network = torchvision.models.video.r2plus1d_18(num_classes=5).eval()
    names, clip = list(network.state_dict()), torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        before = network(clip)
        flatten_convolutions(network)
        torch.testing.assert_close(network(clip), before, rtol=1e-4, atol=1e-4)
    assert list(network.state_dict()) == names
    kinds = {type(each) for each in network.modules() if isinstance(each, nn.Conv3d)}
    assert kinds == {FlatConv3d}


def test_maps_of_one_pixel_have_finite_gradients_in_16_bits():
    """torch's own kernel gives gradients there that are not numbers."""
    flat = FlatConv3d(8, 6, 3, padding=1)
    maps = torch.randn(2, 8, 4, 1, 1)
    expected = torch.nn.functional.conv3d(maps, flat.weight, flat.bias, padding=1)
    torch.testing.assert_close(flat(maps), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat(maps).float().sum().backward()
    assert torch.isfinite(flat.weight.grad).all()
    assert (flat.weight.grad[..., 1, 1] != 0).all()
