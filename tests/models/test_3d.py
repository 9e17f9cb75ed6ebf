"""3-D networks equal the released code, and keep their invariants."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from flowpipe.errors import ParameterError
from flowpipe.models import c3d, resnet3d
from flowpipe.models.deepvideo import FRAMES, DeepVideo
from flowpipe.models.i3d import I3D
from flowpipe.models.names import matching
from flowpipe.models.non_local import NonLocal
from flowpipe.models.resnet3d import ResNet3D, slow_frames
from flowpipe.models.resnet3d_names import own_names
from tests.helpers.golden import Golden, assert_equal, parameters


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("name", "channels"), [("i3d_tiny_rgb", 3), ("i3d_tiny_flow", 2)])
def test_i3d_equals_the_release(name, channels):
    golden = Golden(name)
    network = I3D(channels, 5, width=1 / 16).eval()
    network.load_state_dict(golden.state)
    clip = golden.input("x_small")
    assert_equal(network(clip), golden.output("logits"))
    stages = network.stages(clip)
    for stage, expected in golden.outputs().items():
        if stage in stages:
            assert_equal(stages[stage], expected)


def test_i3d_pads_odd_sizes_as_tensorflow_does():
    golden = Golden("i3d_tiny_odd_size")
    network = I3D(3, 5, width=1 / 16).eval()
    network.load_state_dict(golden.state)
    stages = network.stages(golden.input())
    assert set(golden.outputs()) <= set(stages)
    for stage, expected in golden.outputs().items():
        assert_equal(stages[stage], expected)


@pytest.mark.parametrize(
    ("architecture", "million"),
    [
        (resnet3d.C2D_R50, 24.33),
        (resnet3d.I3D_R50, 28.04),
        (resnet3d.I3D_R50_NON_LOCAL, 35.40),
        (resnet3d.SLOW_R50, 32.45),
        (resnet3d.SLOWFAST_R50_8X8, 34.566),
        (resnet3d.SLOWFAST_R50_4X16, 34.48),
    ],
)
def test_3d_resnets_have_the_published_number_of_parameters(architecture, million):
    with torch.device("meta"):
        assert parameters(ResNet3D(architecture)) == pytest.approx(million * 1e6, rel=1e-3)


def test_other_networks_have_the_published_number_of_parameters():
    with torch.device("meta"):
        assert parameters(I3D()) == pytest.approx(12.697e6, rel=1e-3)
        assert parameters(I3D(2)) == pytest.approx(12.675e6, rel=1e-3)
        assert parameters(c3d.C3D()) == pytest.approx(79.99e6, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("psf_c2d_r50", resnet3d.C2D_R50),
        ("psf_i3d_r50", resnet3d.I3D_R50),
        ("psf_i3d_r50_nln", resnet3d.I3D_R50_NON_LOCAL),
        ("psf_slow_8x8", resnet3d.SLOW_R50),
        ("psf_slowfast_8x8", resnet3d.SLOWFAST_R50_8X8),
        ("ptv_slowfast_8x8", resnet3d.SLOWFAST_R50_8X8),
    ],
)
def test_3d_resnets_equal_the_release(name, architecture):
    golden = Golden(name)
    architecture = dataclasses.replace(architecture, fast_width=1 / 4)
    network = ResNet3D(architecture, 3, 5, width=4).eval()
    network.load_state_dict(own_names(golden.state))
    found = network(golden.input())
    if "logits" in golden.outputs():
        assert_equal(found, golden.output("logits"))
    else:
        # One score per place there; the mean is that of the mean feature.
        assert_equal(found, golden.output("logits_before_softmax_NTHWC").mean(dim=(1, 2, 3)))
    stages = network.stages(golden.input())
    for stage, expected in golden.outputs().items():
        part, _, pathway = stage.partition("/")
        if part in stages:
            assert_equal(stages[part][pathway == "fast"], expected)


def test_names_of_pytorchvideo():
    def renamed(*names):
        return list(own_names({name: torch.zeros(1) for name in names}))

    pooled = (
        "blocks.1.res_blocks.2.branch2.norm_b.bias",
        "blocks.3.res_blocks.0.branch1_conv.weight",
    )
    assert renamed(*pooled, "blocks.6.proj.bias") == [
        "s2.pathway0_res2.branch2.b_bn.bias",
        "s3.pathway0_res0.branch1.weight",  # their block 2 is the temporal pool of C2D and I3D
        "head.projection.bias",
    ]
    assert renamed(
        "blocks.2.res_blocks.0.branch1_norm.bias", "blocks.4.res_blocks.1.branch2.conv_c.weight"
    ) == [
        "s3.pathway0_res0.branch1_bn.bias",
        "s5.pathway0_res1.branch2.c.weight",
    ]


def test_the_slow_pathway_sees_the_frames_of_the_release():
    for name, expected in Golden("slowfast_slow_indices").outputs().items():
        frames, alpha = (int(part.strip("Talph")) for part in name.split("_"))
        assert slow_frames(frames, alpha).tolist() == expected.tolist()


def test_slowfast_with_a_silent_fast_pathway_ignores_it():
    network = ResNet3D(resnet3d.SLOWFAST_R50_8X8, (3, 2), 5, width=8).eval()
    for module in network.modules():
        if isinstance(module, resnet3d.Lateral):
            module.bn.weight.zero_()
    network.head.projection.weight[:, 256:] = 0
    rgb = torch.randn(1, 3, 2, 32, 32)
    flows = [torch.randn(1, 2, 8, 32, 32) for _ in range(2)]
    one, two = (network({"rgb": rgb, "flow": flow}) for flow in flows)
    torch.testing.assert_close(one, two)
    with pytest.raises(ParameterError, match="2 RGB frames and 9 flow fields; there must be 3"):
        network({"rgb": rgb, "flow": torch.zeros(1, 2, 9, 32, 32)})


def test_slowfast_takes_any_number_of_frames():
    network = ResNet3D(resnet3d.SLOWFAST_R50_4X16, classes=5, width=8).eval()
    for frames in (1, 7, 8, 9, 50):
        slow, fast = network.stages(torch.randn(1, 3, frames, 32, 32))["s5"]
        assert (slow.shape[2], fast.shape[2]) == (-(-frames // 8), frames)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("psf_nonlocal_softmax", {}),
        ("psf_nonlocal_softmax_nopool", {"pool": None}),
        ("psf_nonlocal_dot", {"form": "dot"}),
    ],
)
def test_a_non_local_block_equals_the_release(name, options):
    golden = Golden(name)
    block = NonLocal(8, **options).eval()
    block.load_state_dict(golden.state)
    assert_equal(block(golden.input()), golden.output("y"))


def test_a_non_local_block_without_pool_does_not_see_positions():
    block = NonLocal(6, pool=None).eval()
    block.bn.weight.fill_(1.3)
    maps = torch.randn(1, 6, 2, 3, 4)
    order = torch.from_numpy(np.random.default_rng(0).permutation(24))
    shuffled = maps.flatten(2)[:, :, order].view_as(maps)
    found = block(maps).flatten(2)[:, :, order].view_as(maps)
    torch.testing.assert_close(block(shuffled), found, rtol=1e-4, atol=1e-5)


def test_c3d_equals_the_release():
    golden = Golden("c3d_tiny")
    network = c3d.C3D(3, 5, width=1 / 16).eval()
    missing, unexpected = network.load_state_dict(golden.state, strict=False)
    assert (sorted(missing), unexpected) == (["fc8.bias", "fc8.weight"], [])
    clip = golden.input("x_small")
    assert_equal(network.maps(clip), golden.output("pool5"))
    assert_equal(network.descriptors(clip), golden.output("fc6").relu())
    assert_equal(network.features(clip)[:, 0], golden.output("feature"))
    with pytest.raises(ParameterError, match=r"c3d takes \(16, 112, 112\) only"):
        network(clip[:, :, :8])


def test_c3d_takes_the_names_of_other_ports():
    own = c3d.C3D(width=1 / 64).state_dict()
    mmaction = {f"backbone.{name}": value for name, value in own.items() if "fc8" not in name}
    mmaction["cls_head.fc_cls.bias"] = torch.zeros(101)
    found = matching(c3d.own_names(mmaction), set(own))
    assert found.keys() == own.keys() - {"fc8.weight", "fc8.bias"}
    theirs = {
        name.replace("1a.conv", "1").replace("2a.conv", "2").replace(".conv", ""): value
        for name, value in own.items()
    }
    assert "conv1.weight" in theirs
    assert c3d.own_names(theirs).keys() == own.keys()


@pytest.mark.parametrize("joining", FRAMES)
def test_deepvideo_joins_its_frames(joining):
    network = DeepVideo(joining, 3, 5, width=1 / 16).eval()
    clip = torch.randn(2, 3, FRAMES[joining], 170, 170)
    assert network(clip).shape == (2, 5)
    with pytest.raises(ParameterError, match=f"with {joining} joining takes {FRAMES[joining]}"):
        network(torch.zeros(1, 3, FRAMES[joining] + 1, 170, 170))


def test_early_fusion_of_a_repeated_frame_is_the_single_network():
    single, early = (DeepVideo(each, 3, 5, width=1 / 16).eval() for each in ("single", "early"))
    state = single.state_dict()
    state["conv1.weight"] = state["conv1.weight"].expand(-1, -1, 10, -1, -1) / 10
    early.load_state_dict(state)
    frame = torch.randn(1, 3, 1, 170, 170)
    torch.testing.assert_close(
        early(frame.expand(-1, -1, 10, -1, -1)), single(frame), rtol=1e-4, atol=1e-5
    )


def test_late_fusion_of_equal_frames_with_half_weights_is_the_single_network():
    single, late = (DeepVideo(each, 3, 5, width=1 / 16).eval() for each in ("single", "late"))
    state = single.state_dict()
    state["fc6.weight"] = state["fc6.weight"].repeat(1, 2) / 2
    late.load_state_dict(state)
    frame = torch.randn(1, 3, 1, 170, 170)
    torch.testing.assert_close(
        late(frame.expand(-1, -1, 16, -1, -1)), single(frame), rtol=1e-4, atol=1e-5
    )
