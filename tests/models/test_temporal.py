"""Temporal modules in 2-D networks equal the released code, and keep their invariants."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.mobilenetv2 import InvertedResidual, MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from flowpipe.errors import ParameterError
from flowpipe.models import tdn, tea
from flowpipe.models.bn_inception import BNInception
from flowpipe.models.eco import ECO
from flowpipe.models.recurrent import Recurrent
from flowpipe.models.relation import MultiScaleRelation, Relation
from flowpipe.models.temporal import (
    MotionExcitation,
    SpatioTemporalMotion,
    TemporalConvolution,
    TemporalShift,
    add_non_local,
    bottlenecks,
    set_frames,
    wrap_first_convolutions,
)
from tests.helpers.golden import Golden, assert_equal, parameters


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def small_resnet(block, layers, planes):
    network = ResNet(block, layers, num_classes=5)
    network.inplanes = planes[0]
    network.conv1 = nn.Conv2d(3, planes[0], 7, 2, 3, bias=False)
    network.bn1 = nn.BatchNorm2d(planes[0])
    for index, (width, count) in enumerate(zip(planes, layers, strict=True)):
        stage = network._make_layer(block, width, count, stride=2 if index else 1)
        setattr(network, f"layer{index + 1}", stage)
    network.fc = nn.Linear(planes[-1] * block.expansion, 5)
    return network


def test_the_shift_equals_the_release():
    golden = Golden("tsm_shift")
    for name, expected in golden.outputs().items():
        shift = TemporalShift(nn.Identity(), 4 if name.endswith("div4") else 8)
        shift.frames = int(name.split("_")[0].removeprefix("T"))
        assert torch.equal(shift(golden.input(name)), expected)


@pytest.mark.parametrize(
    ("name", "block", "layers", "planes", "frames"),
    [
        ("tsm_blockres_basic", BasicBlock, [2, 2, 1, 1], [8, 8, 16, 16], 4),
        ("tsm_blockres_bottleneck", Bottleneck, [2, 1, 1, 1], [8, 8, 8, 8], 8),
    ],
)
def test_tsm_in_a_resnet_equals_the_release(name, block, layers, planes, frames):
    golden = Golden(name)
    network = small_resnet(block, layers, planes)
    assert wrap_first_convolutions(network, TemporalShift) == sum(layers)
    network.load_state_dict(golden.state)
    set_frames(network.eval(), frames)
    assert_equal(network(golden.input()), golden.output("logits_frames"))


def test_tsm_in_a_mobilenet_equals_the_release():
    golden = Golden("tsm_mobilenetv2")
    network = MobileNetV2(num_classes=5, width_mult=0.25)
    block = type(network.features[0])
    network.features[0] = block(3, 32, stride=2, activation_layer=nn.ReLU6)
    network.features[1] = InvertedResidual(32, 16, 1, 1)
    network.features[2] = InvertedResidual(16, 8, 2, 6)
    network.features[18] = block(80, 64, kernel_size=1, activation_layer=nn.ReLU6)
    network.classifier[1] = nn.Linear(64, 5)
    assert wrap_first_convolutions(network, TemporalShift) == 10
    own, state = set(network.state_dict()), {}
    for name, value in golden.state.items():
        plain = golden.meta["torchvision_names"].get(name, name)
        shifted = ".net.".join(plain.rsplit(".", 1))
        state[plain if plain in own else shifted] = value
    network.load_state_dict(state)
    set_frames(network.eval(), 4)
    assert_equal(network(golden.input()), golden.output("logits_frames"))


def test_a_shift_of_no_channels_is_the_network_without():
    plain = get_model("resnet18").eval()
    shifted = get_model("resnet18").eval()
    wrap_first_convolutions(shifted, lambda conv: TemporalShift(conv, divisor=1000))
    renamed = {}
    for name, value in plain.state_dict().items():
        is_wrapped = name.startswith("layer") and name.endswith("conv1.weight")
        renamed[name.replace("conv1", "conv1.net") if is_wrapped else name] = value
    shifted.load_state_dict(renamed)
    set_frames(shifted, 4)
    frames = torch.randn(8, 3, 64, 64)
    assert torch.equal(shifted(frames), plain(frames))


@pytest.mark.parametrize("insert", ["shift", "motion", "non-local", "tea"])
def test_nothing_leaks_between_the_clips_of_a_batch(insert):
    torch.manual_seed(0)
    network = tea.TeaResNet(5, blocks=(1, 1, 1, 1)) if insert == "tea" else get_model("resnet50")
    if insert == "shift":
        wrap_first_convolutions(network, TemporalShift)
    elif insert == "motion":
        for block in bottlenecks(network):
            block.conv2 = SpatioTemporalMotion(block.conv2)
    elif insert == "non-local":
        add_non_local(network)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.weight.fill_(1)
    set_frames(network.eval(), 4)
    clips = torch.randn(2, 4, 3, 64, 64)
    other = clips.clone()
    other[1] = torch.randn(4, 3, 64, 64)
    both, changed = (network(each.flatten(0, 1)).view(2, 4, -1) for each in (clips, other))
    torch.testing.assert_close(changed[0], both[0], rtol=1e-4, atol=1e-5)
    assert (changed[1] - both[1]).abs().max() > 1e-3
    # The frames of a clip do see each other.
    clips[0, 3] = 0
    assert (network(clips.flatten(0, 1)).view(2, 4, -1)[0, 2] - both[0, 2]).abs().max() > 1e-6


def test_the_online_shift_does_not_see_later_frames():
    shift = TemporalShift(nn.Identity(), online=True)
    shift.frames = 5
    clip = torch.randn(5, 16, 2, 2)
    later = clip.clone()
    later[3:] = 0
    assert torch.equal(shift(later)[:3], shift(clip)[:3])
    assert not torch.equal(shift(clip), clip)


def test_frames_that_do_not_fit_are_refused():
    shift = TemporalShift(nn.Identity())
    shift.frames = 4
    with pytest.raises(ParameterError, match="a batch holds 6 frames; it must be a multiple of 4"):
        shift(torch.zeros(6, 8, 2, 2))
    with pytest.raises(ParameterError, match="VGG has no residual blocks"):
        wrap_first_convolutions(get_model("vgg11"), TemporalShift)


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet101", 22), ("mobilenet_v2", 10), ("regnet_y_400mf", 16), ("resnext50_32x4d", 16)],
)
def test_the_blocks_that_are_wrapped(name, count):
    assert wrap_first_convolutions(get_model(name), TemporalShift) == count


@pytest.mark.parametrize("frames", [4, 8])
def test_temporal_relations_equal_the_release(frames):
    golden = Golden(f"trn_single_K{frames}")
    head = Relation(8, frames, 5)
    head.load_state_dict(golden.state)
    assert_equal(head(golden.input()), golden.output("y"))
    golden = Golden(f"trn_multiscale_K{frames}")
    head = MultiScaleRelation(8, frames, 5).eval()
    head.load_state_dict(golden.state)
    total = torch.zeros(3, 5)
    for scale, size in enumerate(range(frames, 1, -1)):
        tuples = golden.output(f"tuples_scale{size}")
        score = head.score_tuples(golden.input(), scale, tuples) * len(tuples)
        assert_equal(score, golden.output(f"sum_scale{size}"))
        total += score
    assert_equal(total, golden.output("y"))


def test_the_score_of_equal_frames_does_not_depend_on_the_draw():
    head = MultiScaleRelation(6, 8, 4)
    features = torch.randn(2, 1, 6).expand(-1, 8, -1)
    first, second, tested = head.train()(features), head(features), head.eval()(features)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, tested)
    ordered = torch.randn(2, 8, 6)
    assert torch.equal(head(ordered), head(ordered))
    assert not torch.allclose(head(ordered), head(ordered.flip(1)))
    with pytest.raises(ParameterError, match=r"a clip has 7 frames; .* same number, 8 here"):
        head(ordered[:, :7])


def test_an_lstm_is_causal_and_starts_anew_with_each_clip():
    head = Recurrent(6, 4).eval()
    for weight in head.lstm.parameters():
        weight.normal_()
    clip = torch.randn(2, 9, 6)
    later = clip.clone()
    later[:, 5:] = torch.randn(2, 4, 6)
    torch.testing.assert_close(head.per_frame(later)[:, :5], head.per_frame(clip)[:, :5])
    torch.testing.assert_close(head.per_frame(clip)[1:], head.per_frame(clip[1:]))
    assert head(clip[:, :1]).shape == (2, 4)


def test_the_parts_of_tea_equal_the_release():
    for mode, divisor in (("fixed", None), ("shift", 2)):
        golden = Golden(f"tea_shift_{mode}")
        layer = TemporalConvolution(8, divisor)
        assert torch.equal(layer.conv.weight, golden.state["conv.weight"])
        layer.frames = 8
        assert torch.equal(layer(golden.input()), golden.output("y"))
    golden = Golden("tea_me")
    excitation = MotionExcitation(32).eval()
    excitation.load_state_dict(golden.state)
    excitation.frames = 8
    assert_equal(excitation(golden.input()), golden.output("y"))
    golden = Golden("tea_blocks")
    stages = [
        nn.Sequential(
            tea.TeaBlock(inputs, 16, stride, base_width=32, first=True),
            tea.TeaBlock(64, 16, base_width=32, first=False),
        )
        for inputs, stride in ((16, 1), (64, 2))
    ]
    network = nn.Sequential(*stages).eval()
    network.load_state_dict(golden.state)
    set_frames(network, 8)
    assert_equal(network(golden.input()), golden.output("y"))


def test_tdn_equals_the_release():
    golden = Golden("tdn_mse")
    module = tdn.SegmentDifference(32).eval()
    module.load_state_dict(golden.state)
    module.frames = 4
    assert_equal(module(golden.input()), golden.output("y"))
    golden = Golden("tdn_block")
    block = tdn.DifferenceBlock(32, 16, temporal=True).eval()
    block.load_state_dict(golden.state)
    set_frames(block, 4)
    assert_equal(block(golden.input()), golden.output("y"))
    for name, weight in (("tdn_net", 0.5), ("tdn_net_16seg_weights", 0.75)):
        golden = Golden(name)
        small = {"blocks": (1, 1, 1, 1), "planes": (4, 16, 16, 16), "image_weight": weight}
        network = tdn.TDN(5, **small).eval()
        state = {k: v for k, v in golden.state.items() if not k.startswith("conv1_temp.")}
        network.load_state_dict(state)
        clip = golden.input().transpose(0, 1)[None]  # (1, 15, K, H, W)
        assert_equal(network.fc(network.features(clip)[0]), golden.output("logits"))
        assert_equal(network(clip)[0], golden.output("logits").mean(dim=0))


@pytest.mark.slow
def test_tdn_takes_flow_in_place_of_differences_and_weights_of_torchvision():
    network = tdn.TDN(5, motion_channels=10).eval()
    theirs = get_model("resnet50").state_dict()
    missing, unexpected = network.load_state_dict(tdn.from_torchvision(theirs, 10), strict=False)
    assert not unexpected
    temporal = ("mse.", "shift.", "conv1_5.1", "fc.")
    assert all(any(part in name for part in temporal) for name in missing)
    clip = {"rgb": torch.randn(1, 3, 2, 64, 64), "flow": torch.randn(1, 10, 2, 64, 64)}
    assert network(clip).shape == (1, 5)


def test_bn_inception_and_eco_equal_the_release():
    golden = Golden("bn_inception_div16")
    network = BNInception(3, 5, width=1 / 16).eval()
    network.load_state_dict(golden.state)
    assert_equal(network(golden.input("x_small")), golden.output("logits"))
    for name, full in (("eco_lite_K4", False), ("eco_full_K4", True)):
        golden = Golden(name)
        eco = ECO(3, 5, full=full, width=1 / 16).eval()
        eco.load_state_dict(golden.state)
        assert_equal(eco(golden.input("x_small").transpose(0, 1)[None]), golden.output("logits"))


def test_networks_have_the_published_number_of_parameters():
    with torch.device("meta"):
        assert parameters(BNInception()) == 11_295_240
        assert parameters(ECO()) == 37_503_856
        assert parameters(ECO(full=True)) == 47_502_128
        assert parameters(tea.TeaResNet()) == pytest.approx(26.149e6, rel=1e-3)
        tsm = get_model("resnet50", num_classes=174)
        wrap_first_convolutions(tsm, TemporalShift)
        assert parameters(tsm) == pytest.approx(23.865e6, rel=1e-3)
        stm = get_model("resnet50", num_classes=174)
        for block in bottlenecks(stm):
            block.conv2 = SpatioTemporalMotion(block.conv2)
        assert parameters(stm) == pytest.approx(24.0e6, rel=3e-3)
