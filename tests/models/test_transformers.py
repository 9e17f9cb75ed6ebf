"""Video transformers equal the released code, and keep their invariants."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer, vit_b_16

from flowpipe.errors import ParameterError
from flowpipe.models import MODELS, oadtr, timesformer, vivit_names
from flowpipe.models.create import create_model
from flowpipe.models.evl import BlockFeatures, EVLDecoder
from flowpipe.models.inflation import inflate
from flowpipe.models.oadtr import OadTR
from flowpipe.models.timesformer import DividedBlock, TimeSformer
from flowpipe.models.vidtr import VidTr, varied_frames
from flowpipe.models.vivit import FactorisedBlock, Vivit
from tests.helpers.golden import Golden, assert_equal, parameters

SMALL = {"width": 32, "depth": 2, "heads": 4}


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind}_T{frames}" for kind in ("divided", "joint", "space") for frames in (3, 4)),
        "divided_T3_from8",
        "joint_T3_32x48",
    ],
)
def test_timesformer_equals_the_release(name):
    golden = Golden(f"timesformer_{name}")
    size = (32, 48) if name.endswith("32x48") else 32
    frames = golden.state["time_embed"].shape[1] if "time_embed" in golden.state else 8
    attention = name.split("_")[0]
    network = TimeSformer(3, 5, frames=frames, size=size, attention=attention, **SMALL).eval()
    network.load_state_dict(timesformer.own_names(golden.state))
    assert_equal(network(golden.input()), golden.output("logits"))


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_timesformer_takes_the_names_of_hugging_face(attention):
    golden = Golden(f"hf_timesformer_{attention}_T4")
    network = TimeSformer(3, 5, frames=4, size=32, attention=attention, **SMALL).eval()
    network.load_state_dict(timesformer.own_names(golden.state))
    assert_equal(network(golden.input().transpose(1, 2)), golden.output("logits"))


def test_silent_attention_over_time_sees_no_order():
    network = TimeSformer(3, 5, frames=4, size=32, **SMALL).eval()
    assert all(
        not block.temporal_fc.weight.any()
        for block in network.blocks
        if isinstance(block, DividedBlock)
    )
    frame = torch.randn(1, 3, 1, 32, 32)
    one, four = network(frame), network(frame.expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(one, four)
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(network(clip), network(clip.flip(2)))
    for block in network.blocks:
        block.temporal_fc.weight.normal_()
    network.time_embed.normal_()
    assert not torch.allclose(network(clip), network(clip.flip(2)))


def test_weights_of_a_vision_transformer_load():
    theirs = timesformer.from_torchvision(vit_b_16().state_dict())
    with torch.device("meta"):
        network = TimeSformer(3, 1000)
    own = network.state_dict()
    assert set(theirs) <= set(own)
    assert all("temporal" in name or name == "time_embed" for name in set(own) - set(theirs))
    assert all(theirs[name].shape == own[name].shape for name in theirs)


@pytest.mark.parametrize("attention", ["divided", "joint", "space"])
def test_it_starts_as_the_vision_transformer_of_a_file(attention, monkeypatch, tmp_path):
    """Attention over time begins as that over space, and is silent."""
    theirs = VisionTransformer(32, 16, 2, 4, 32, 128, num_classes=5).eval()
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    own = TimeSformer(3, 1, frames=4, size=32, attention=attention, **SMALL)
    entry = replace(MODELS[f"timesformer-{attention}"], build=lambda clip: own)
    monkeypatch.setitem(MODELS, f"timesformer-{attention}", entry)
    network = create_model(
        f"timesformer-{attention}", "rgb", 5, input_size=32, weights=tmp_path / "vit.safetensors"
    ).eval()
    if attention != "joint":
        own.norm.eps = 1e-6
        frame = torch.randn(2, 3, 1, 32, 32)
        images = theirs._process_input(frame[:, :, 0])
        images = torch.cat([theirs.class_token.expand(2, -1, -1), images], dim=1)
        expected = theirs.encoder(images)[:, :1]
        assert_equal(network.features(frame.expand(-1, -1, 4, -1, -1)), expected)
    new = {"divided": {"time_embed", "temporal_fc"}, "joint": {"time_embed"}, "space": set()}
    found = {name.removeprefix("backbone.") for name in network.new_layers()}
    parts = {name.split(".")[-2] if "temporal" in name else name for name in found}
    assert parts - {"last.weight", "last.bias"} == new[attention]
    if attention == "divided":
        block = own.blocks[1]
        assert torch.equal(block.temporal_attn.qkv.weight, block.attn.qkv.weight)


@pytest.mark.parametrize(
    ("name", "factorisation"),
    [
        ("model1", "joint"),
        ("model2", "encoder"),
        ("model2_gap", "encoder"),
        ("model3", "attention"),
        ("model4", "heads"),
    ],
)
def test_vivit_equals_the_release(name, factorisation):
    golden = Golden(f"vivit_scenic_{name}")
    depth = 1 if name.endswith("gap") else 2
    network = Vivit(
        3,
        5,
        frames=12,
        size=(16, 24),
        tubelet=(4, 8, 8),
        factorisation=factorisation,
        width=32,
        depth=depth,
        heads=4,
        hidden=64,
        temporal_depth=depth,
        temporal_heads=2,
        temporal_hidden=48,
        pooling="mean" if name.endswith("gap") else "token",
    ).eval()
    network.load_state_dict(vivit_names.own_names(golden.state))
    assert_equal(network(golden.input().permute(0, 4, 1, 2, 3)), golden.output("logits"))


def test_vivit_takes_the_names_of_hugging_face():
    golden = Golden("hf_vivit1")
    sizes = {"frames": 8, "size": 16, "tubelet": (4, 8, 8), "hidden": 64}
    network = Vivit(3, 5, factorisation="joint", **sizes, **SMALL).eval()
    network.load_state_dict(vivit_names.own_names(golden.state))
    assert_equal(network(golden.input().transpose(1, 2)), golden.output("logits"))


def test_model_3_starts_as_a_transformer_on_each_time_step_and_learns():
    sizes = {"frames": 4, "size": 32, "factorisation": "attention", "hidden": 64}
    network = Vivit(2, 5, **sizes, **SMALL).eval()
    network.encoder.pos_embed.zero_()
    clip = torch.randn(1, 2, 4, 32, 32)
    swapped = torch.cat([clip[:, :, 2:], clip[:, :, :2]], dim=2)
    torch.testing.assert_close(network.features(clip), network.features(swapped))
    with torch.enable_grad():
        network.features(clip).square().sum().backward()
    for block in network.encoder.blocks:
        assert isinstance(block, FactorisedBlock)
        assert block.temporal_attn.proj.weight.grad.abs().max() > 0


FACTORISATIONS = ("joint", "encoder", "attention", "heads")
NEW = {
    "encoder": {"temporal"},  # the encoder over time
    "attention": {"encoder.blocks.0.temporal_attn", "encoder.blocks.1.temporal_attn",
                  "encoder.blocks.0.temporal_norm1", "encoder.blocks.1.temporal_norm1"},
}  # fmt: skip


def vivit_of_a_file(factorisation, theirs, monkeypatch, tmp_path, modality="rgb"):
    """A small ViViT, its frames of 3 tubelets, that begins with the file of a torchvision ViT."""
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    name = f"vivit-{FACTORISATIONS.index(factorisation) + 1}"

    def built(clip):
        sizes = {"frames": 6, "size": 32, "factorisation": factorisation, "hidden": 128}
        return Vivit(clip.channels_per_frame, 1, **sizes, temporal_depth=1, **SMALL)

    monkeypatch.setitem(MODELS, name, replace(MODELS[name], build=built))
    options = {"input_size": 32, "length": 6, "weights": tmp_path / "vit.safetensors"}
    network = create_model(name, modality, 5, **options).eval()
    for block in network.backbone.encoder.blocks:
        block.mlp.gelu = "none"  # ViT's; ViViT has its tanh form
    return network


def a_vit() -> VisionTransformer:
    theirs = VisionTransformer(32, 16, 2, 4, 32, 128, num_classes=5).eval()
    theirs.class_token.normal_()
    return theirs


def encoded_frames(theirs, frames, *, token=True):
    """What torchvision's ViT has at its end for (N, 3, H, W), with or without the class token."""
    tokens = theirs._process_input(frames)
    positions = theirs.encoder.pos_embedding
    if token:
        tokens = torch.cat([theirs.class_token.expand(len(frames), -1, -1), tokens], dim=1)
    else:
        positions = positions[:, 1:]
    return theirs.encoder.ln(theirs.encoder.layers(tokens + positions))


@pytest.mark.parametrize("factorisation", FACTORISATIONS)
def test_vivit_begins_with_frames_1_3_5_of_a_file_for_images(factorisation, monkeypatch, tmp_path):
    theirs = a_vit()
    network = vivit_of_a_file(factorisation, theirs, monkeypatch, tmp_path)
    own = network.backbone
    clip = torch.randn(2, 3, 6, 32, 32)
    other = clip.clone()
    other[:, :, ::2] = torch.randn(2, 3, 3, 32, 32)
    assert torch.equal(network.features(clip), network.features(other))
    # A token of a tubelet is the patch of its frame.
    maps = own.patch_embed(clip)
    frames = clip[:, :, 1::2].transpose(1, 2).flatten(0, 1)
    patches = theirs._process_input(frames).unflatten(0, (2, 3))  # (B, T, places, D)
    torch.testing.assert_close(maps.flatten(3).permute(0, 2, 3, 1), patches, rtol=1e-5, atol=1e-5)
    # Positions of images at all times.
    positions = own.encoder.pos_embed[0]
    first = int(factorisation in ("joint", "encoder"))
    times = 1 if factorisation == "encoder" else 3
    vit = theirs.encoder.pos_embedding[0]
    assert torch.equal(positions[first:], vit[1:].repeat(times, 1))
    if first:
        assert torch.equal(positions[0], vit[0])
        assert torch.equal(own.encoder.cls_token, theirs.class_token)
    new = {name.removeprefix("backbone.") for name in network.new_layers()}
    new = {name for name in new if not name.startswith("last.")}
    beginnings = NEW.get(factorisation, set())
    assert all(any(name.startswith(each) for each in beginnings) for name in new)
    assert bool(new) == bool(beginnings)


def test_vivit_3_begins_as_the_vit_of_a_file_on_each_frame(monkeypatch, tmp_path):
    theirs = a_vit()
    network = vivit_of_a_file("attention", theirs, monkeypatch, tmp_path)
    clip = torch.randn(2, 3, 6, 32, 32)
    frames = clip[:, :, 1::2].transpose(1, 2).flatten(0, 1)
    tokens = encoded_frames(theirs, frames, token=False)  # models 3 and 4 have no class token
    expected = tokens.unflatten(0, (2, 3)).mean(dim=(1, 2))
    torch.testing.assert_close(network.features(clip)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_vivit_2_begins_with_the_class_tokens_of_the_vit_of_a_file(monkeypatch, tmp_path):
    theirs = a_vit()
    network = vivit_of_a_file("encoder", theirs, monkeypatch, tmp_path)
    seen = []
    network.backbone.temporal.register_forward_pre_hook(lambda module, inputs: seen.append(*inputs))
    clip = torch.randn(2, 3, 6, 32, 32)
    network.features(clip)
    tokens = encoded_frames(theirs, clip[:, :, 1::2].transpose(1, 2).flatten(0, 1))
    expected = tokens[:, 0].unflatten(0, (2, 3))
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)


def test_vivit_1_on_one_time_is_the_vit_of_a_file(monkeypatch, tmp_path):
    theirs = a_vit()
    whole = vivit_of_a_file("joint", theirs, monkeypatch, tmp_path).backbone
    one = Vivit(3, 1, frames=2, size=32, factorisation="joint", hidden=128, **SMALL).eval()
    inflate(theirs, one, "centre")
    for block in one.encoder.blocks:
        block.mlp.gelu = "none"
    clip = torch.randn(2, 3, 2, 32, 32)
    expected = encoded_frames(theirs, clip[:, :, 1])[:, :1]
    torch.testing.assert_close(one.features(clip), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(one.patch_embed.weight, whole.patch_embed.weight)
    # Inflated filters: the mean of the frames of a tubelet.
    inflate(theirs, one, "mean")
    expected = encoded_frames(theirs, clip.mean(dim=2))[:, :1]
    torch.testing.assert_close(one.features(clip), expected, rtol=1e-4, atol=1e-5)


def test_vivit_on_flow_begins_with_the_mean_of_the_colours(monkeypatch, tmp_path):
    theirs = a_vit()
    network = vivit_of_a_file("heads", theirs, monkeypatch, tmp_path, "flow")
    kernel = theirs.conv_proj.weight.mean(dim=1)
    for channel in (0, 1):
        torch.testing.assert_close(network.backbone.patch_embed.weight[:, channel, 1], kernel)
        assert not network.backbone.patch_embed.weight[:, channel, 0].any()


def test_weights_of_vit_b_16_have_the_names_and_shapes_of_vivit_1():
    theirs = vivit_names.own_names(vit_b_16().state_dict())
    with torch.device("meta"):
        network = Vivit(3, 1000, factorisation="joint")
    fitted = network.fitted(theirs)
    own = network.state_dict()
    assert set(fitted) == set(own)
    wrong = [name for name in own if fitted[name].shape != own[name].shape]
    assert wrong == ["patch_embed.weight"]  # which is inflated


def test_a_tubelet_with_a_central_frame_samples_frames():
    """Central-frame initialisation of tubelets of 2: frames 1, 3, 5, ..."""
    sizes = {"frames": 4, "size": 32, "factorisation": "heads", "hidden": 64}
    network = Vivit(3, 5, **sizes, **SMALL).eval()
    network.patch_embed.weight[:, :, 0] = 0
    network.head.weight.normal_()
    clip = torch.randn(1, 3, 4, 32, 32)
    other = clip.clone()
    other[:, :, ::2] = torch.randn(1, 3, 2, 32, 32)
    assert torch.equal(network(clip), network(other))
    with pytest.raises(ParameterError, match="has 4 tokens, and the network 8 positions"):
        network(clip[..., :16])


@pytest.mark.parametrize(
    ("make", "million"),
    [
        (lambda: TimeSformer(), 121.57),
        (lambda: TimeSformer(attention="joint"), 86.11),
        (lambda: TimeSformer(attention="space"), 86.11),
        (lambda: Vivit(factorisation="joint"), 88.9),
        (lambda: Vivit(factorisation="encoder"), 115.1),
        (lambda: Vivit(factorisation="attention"), 117.3),
        (lambda: Vivit(factorisation="heads"), 88.9),
        (lambda: EVLDecoder(768, 8, (14, 14), 400), 33.18),
        (lambda: OadTR(3072, 22), 74.709),
        # A ViT-B's 86.11 M with attention over time in each block, 28.36 M, and times of frames.
        (lambda: VidTr(), 114.48),
    ],
)
def test_the_published_number_of_parameters(make, million):
    with torch.device("meta"):
        assert parameters(make()) == pytest.approx(million * 1e6, rel=1e-3)


def test_vidtr_keeps_the_frames_whose_attention_varies():
    network = VidTr(3, 5, frames=4, size=32, kept={0: 2}, **SMALL).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    # Silent attention over time: the mean of the class tokens of the frames that are kept.
    whole = VidTr(3, 5, frames=4, size=32, **SMALL).eval()
    whole.load_state_dict(network.state_dict())
    block = network.blocks[0]
    tokens = torch.randn(2, 4, 5, 32)
    normed = block.temporal_norm1(tokens).transpose(1, 2)
    chosen = varied_frames(block.temporal_attn, normed, 2)
    assert (chosen[:, 1] > chosen[:, 0]).all()
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(block(tokens, 2), block(tokens)[rows, chosen])
    assert not torch.allclose(network(clip), whole(clip))
    # The frame that attends to one frame alone goes before those that attend to all alike.
    queries = torch.zeros(1, 1, 3, 32)
    queries[0, 0, 1] = 30 * torch.randn(32)
    assert 1 in varied_frames(block.temporal_attn, queries, 1)[0]


def test_vidtr_begins_as_a_vision_transformer_on_each_frame_and_learns():
    network = VidTr(3, 5, frames=4, size=32, **SMALL).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(network(clip), network(clip.flip(2)))
    with torch.enable_grad():
        network(clip).square().sum().backward()
    assert all(block.temporal_attn.proj.weight.grad.abs().max() > 0 for block in network.blocks)
    with pytest.raises(ParameterError, match="a clip has 3 frames of 4 patches"):
        network(clip[:, :, :3])
    for kept in ({0: 5}, {0: 2, 1: 3}, {7: 2}):
        with pytest.raises(ParameterError, match="kept is"):
            VidTr(3, 5, frames=4, size=32, kept=kept, **SMALL)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ParameterError, match="size is 100; it must be a multiple of the patch"):
        TimeSformer(size=100, **SMALL)
    with pytest.raises(ParameterError, match="they must be multiples of the tubelet"):
        Vivit(frames=5, size=32, **SMALL)
    with pytest.raises(ParameterError, match="width is 30; it must be a multiple of 4 heads"):
        TimeSformer(width=30, depth=1, heads=4)


@pytest.mark.parametrize("plain", [False, True])
def test_the_evl_decoder_equals_the_release(plain):
    golden = Golden("evl_decoder_plain" if plain else "evl_decoder")
    parts = (
        {} if not plain else dict.fromkeys(("convolution", "positions", "cross_attention"), False)
    )
    decoder = EVLDecoder(32, 4, (3, 3), 5, layers=2, heads=4, **parts).eval()
    decoder.load_state_dict({k.removeprefix("decoder."): v for k, v in golden.state.items()})
    blocks = [
        BlockFeatures(*(golden.input(f"layer{layer}/{part}") for part in ("out", "q", "k")))
        for layer in (0, 1)
    ]
    assert_equal(decoder(blocks), golden.output("logits"))
    for layer in (0, 1):
        found = decoder.frame_features(layer, blocks[layer]).flatten(1, 2)
        assert_equal(found, golden.output(f"layer{layer}/frame_features"))


def test_the_evl_decoder_sends_no_gradient_to_the_backbone():
    decoder = EVLDecoder(16, 3, (2, 2), 5, layers=1, heads=4)
    with torch.enable_grad():
        tokens = torch.randn(2, 3, 4, 16, requires_grad=True)
        decoder([BlockFeatures(tokens)]).sum().backward()
    assert tokens.grad is None
    assert decoder.cls_token.grad is not None
    with pytest.raises(ParameterError, match="a clip has 2 frames; this decoder takes 3"):
        decoder([BlockFeatures(tokens[:, :2])])


def test_the_evl_decoder_without_temporal_parts_sees_a_set():
    parts = dict.fromkeys(("convolution", "positions", "cross_attention"), False)
    decoder = EVLDecoder(16, 3, (2, 2), 5, layers=1, heads=4, **parts).eval()
    tokens = torch.randn(2, 3, 4, 16)
    flipped = decoder([BlockFeatures(tokens.flip(1))])
    torch.testing.assert_close(decoder([BlockFeatures(tokens)]), flipped)


def test_oadtr_equals_the_release():
    golden = Golden("oadtr")
    network = OadTR(
        24,
        5,
        steps=8,
        future=3,
        width=32,
        depth=2,
        heads=4,
        hidden=48,
        decoder_depth=2,
        decoder_heads=4,
        decoder_hidden=24,
    ).eval()
    network.load_state_dict(oadtr.own_names(golden.state))
    features = torch.cat([golden.input("rgb"), golden.input("flow")], dim=2)
    now, future = network(features)
    assert_equal(now, golden.output("now"))
    assert_equal(future, golden.output("future"))
    with pytest.raises(ParameterError, match="a window has 7 steps; this network takes 8"):
        network(features[:, :7])


def test_the_queries_of_oadtr_differ_at_the_start():
    network = OadTR(24, 5, steps=8, future=3, width=32, heads=4, hidden=48).eval()
    _, future = network(torch.randn(1, 8, 24))
    assert (future[0, 0] - future[0, 1]).abs().max() > 1e-4
