"""Masked autoencoders hide tubes, encode what is visible, and are scored on what is hidden."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models import MODELS, build
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.create import create_model
from flowpipe.models.mae import Mae
from flowpipe.models.masked_autoencoder import (
    MaskedAutoencoder,
    normalised_tubelets,
    sines_and_cosines,
)
from flowpipe.models.network import Network
from flowpipe.models.pretrained import load_pretrained, save_pretrained
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.timesformer import TimeSformer
from flowpipe.models.vivit import Vivit
from flowpipe.models.weights import initialise, load_model, save_model
from tests.helpers.nets import SMALL_MODELS

SMALL = {"width": 32, "depth": 2, "heads": 4}
MAE = Mae(0.75, decoder_width=24, decoder_depth=1, decoder_heads=2)
MASKABLE = ("timesformer-divided", "timesformer-joint", "timesformer-space", "vivit-1", "vivit-3",
            "vivit-4")  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setitem(MODELS, "small-vivit", SMALL_MODELS["small-vivit"])

    def vivit(clip, *, factorisation):
        sizes = {"frames": clip.length, "size": clip.input_size, "tubelet": (2, 8, 8)}
        parts = {"factorisation": factorisation, "hidden": 64, **SMALL}
        return Vivit(clip.channels_per_frame, 1, **sizes, **parts)

    def timesformer(clip, *, attention):
        sizes = {"frames": clip.segments, "size": clip.input_size, "patch": 8}
        return TimeSformer(clip.channels, 1, attention=attention, **sizes, **SMALL)

    for name, entry in list(MODELS.items()):
        whole = getattr(entry.build, "func", None)
        if whole in (build.vivit, build.timesformer):
            function = vivit if whole is build.vivit else timesformer
            small = partial(function, **entry.build.keywords)
            monkeypatch.setitem(MODELS, name, replace(entry, build=small))


def autoencoder(model: str = "small-vivit", mae: Mae = MAE, modality="flow") -> MaskedAutoencoder:
    takes = MODELS[model].takes
    clip = ClipInput(modality, *((1, 4) if takes == "frames" else (4, 1)), input_size=32)
    return MaskedAutoencoder(Network(model, batch_norm="train"), clip, mae).eval()


def all_tokens(network: MaskedAutoencoder, clips: torch.Tensor) -> torch.Tensor:
    return network.encode(clips, torch.arange(16).expand(len(clips), -1))


def test_the_networks_that_can_be_pretrained():
    assert tuple(name for name, entry in MODELS.items() if entry.maskable) == (
        *MASKABLE, "small-vivit"
    )  # fmt: skip
    for model in ("vivit-2", "tsn", "swin3d-t"):
        with pytest.raises(ParameterError, match=f"model is '{model}'; .*it takes .*vivit-1, viv"):
            MaskedAutoencoder(Network(model), ClipInput("flow", 1, 4, 32))


@pytest.mark.parametrize("model", MASKABLE)
def test_what_is_hidden_does_not_reach_the_encoder(model):
    network = autoencoder(model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    clips = torch.randn(2, 2, 4, 32, 32)
    visible, masked = network.masks(2)
    encoded = network.encode(clips, visible)
    assert encoded.shape == (2, 4 // network.tubelet[0], 4, 32)
    other = clips.clone()
    for clip in range(2):
        for place in masked[clip].tolist():
            row, column = divmod(place, 4)
            tube = np.s_[clip, :, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            other[tube] = torch.randn_like(other[tube])
    assert not torch.equal(clips, other)
    assert torch.equal(network.encode(other, visible), encoded)
    # With all places visible it does, to every token of the same frame.
    assert not torch.allclose(
        all_tokens(network, other)[:, :, 0], all_tokens(network, clips)[:, :, 0]
    )


@pytest.mark.parametrize("model", MASKABLE)
def test_with_nothing_hidden_the_encoder_is_the_network(model):
    network = autoencoder(model)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    clips, backbone = torch.randn(2, 2, 4, 32, 32), network.stream.backbone
    seen = []
    backbone.get_submodule("norm" if "times" in model else "encoder.norm").register_forward_hook(
        lambda module, inputs, output: seen.append((inputs[0], output))
    )
    network.stream.features(clips)
    inputs, output = seen[0]
    if model == "timesformer-space":  # its normalisation comes after the mean over the frames
        tokens = all_tokens(network, clips)
        assert tokens.shape == (2, 4, 16, 32)
        inputs = seen[1][0].mean(dim=1)
        torch.testing.assert_close(backbone.norm(inputs), output)
        return
    tokens = all_tokens(network, clips)
    expected = output[:, -16 * tokens.shape[1] :]
    if "times" in model:
        tokens = tokens.transpose(1, 2)
    torch.testing.assert_close(tokens.flatten(1, 2), expected)


@pytest.mark.parametrize(("ratio", "count"), [(0.9, 14), (0.75, 12), (0.5, 8), (0.1, 2)])
def test_the_mask_is_a_tube_of_an_exact_number_of_places(ratio, count):
    network = autoencoder(mae=Mae(ratio, 24, 1, 2))
    visible, masked = network.masks(50)
    assert masked.shape == (50, count)
    assert visible.shape == (50, 16 - count)
    together = torch.cat([visible, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(16).expand(50, -1))
    assert len({tuple(each) for each in masked.tolist()}) > 10  # each clip has its own
    clips = torch.randn(3, 2, 4, 32, 32)
    predicted, true = network.heads(clips)
    # Two times, each with all hidden places.
    assert predicted.shape == true.shape == (3, 2, count, 2 * 8 * 8 * 2)
    assert Mae(0.9).n_masked(196) == 176


def test_a_mask_that_hides_all_or_nothing_is_refused():
    for ratio, count in ((0.99, 16), (0.01, 0)):
        with pytest.raises(ParameterError, match=f"hides {count} of the 16 places"):
            autoencoder(mae=Mae(ratio, 24, 1, 2))
    for options in ({"mask_ratio": 1.0}, {"decoder_depth": 0}, {"decoder_width": 100}):
        with pytest.raises(ParameterError, match=next(iter(options))):
            Mae(**options)


def test_targets_are_the_levels_of_hidden_tubelets_normalised_in_each_channel():
    clips = torch.randn(2, 3, 4, 16, 24) * 5 + 2
    found = normalised_tubelets(clips, (2, 8, 8)).unflatten(3, (-1, 3))
    assert found.shape == (2, 2, 6, 128, 3)
    assert found.mean(dim=3).abs().max() < 1e-5
    torch.testing.assert_close(found.var(dim=3), torch.ones(2, 2, 6, 3), rtol=1e-4, atol=0)
    part = clips[1, 2, 2:, 8:, 16:].flatten()  # the last place, at the second time
    expected = (part - part.mean()) / part.std()
    torch.testing.assert_close(found[1, 1, 5, :, 2], expected, rtol=1e-4, atol=1e-5)
    assert not normalised_tubelets(torch.full((1, 2, 4, 16, 16), 0.3), (2, 8, 8)).any()


def test_the_loss_is_on_hidden_tubelets_alone():
    network = autoencoder()
    clips = torch.randn(2, 2, 4, 32, 32)
    torch.manual_seed(1)
    heads = network.heads(clips)
    torch.manual_seed(1)
    visible, masked = network.masks(2)
    predicted = network.decoder(network.encode(clips, visible), visible, masked)
    true = normalised_tubelets(clips, network.tubelet)
    losses = network.loss(heads, torch.zeros(2, dtype=torch.int64), 0.0)
    for clip in range(2):
        expected = mse_loss(predicted[clip], true[clip][:, masked[clip]])
        torch.testing.assert_close(losses[clip], expected)
    # A prediction of the mean has an error of 1.
    error = network.loss((torch.zeros_like(heads[1]), heads[1]), torch.zeros(2), 0.0)
    torch.testing.assert_close(error, torch.ones(2), rtol=0.01, atol=0)
    assert network.right(heads, torch.zeros(2)) is None


@pytest.mark.parametrize("model", MASKABLE)
def test_every_weight_learns(model):
    network = autoencoder(model).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network.loss(network.heads(torch.randn(2, 2, 4, 32, 32)), torch.zeros(2), 0.0).sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(name.startswith("decoder.") for name in network.new_layers())


@pytest.mark.parametrize("model", MASKABLE)
def test_it_begins_as_the_papers_do_and_silent_attention_stays_silent(model):
    backbone = autoencoder(model).stream.backbone
    positions = backbone.get_parameter("pos_embed" if "times" in model else "encoder.pos_embed")[0]
    first = len(positions) % 16
    expected = sines_and_cosines(len(positions) - first, 32)
    assert torch.equal(positions[first:], expected)
    state = backbone.state_dict()
    silent = [n for n in state if n.endswith(("temporal_fc.weight", "temporal_attn.proj.weight"))]
    silent = [n for n in silent if not state[n].any()]
    assert len(silent) == (2 if model in ("timesformer-divided", "vivit-3") else 0)
    block = "blocks.1." if "times" in model else "encoder.blocks.1."
    bound = math.sqrt(6 / (32 + 96))
    assert 0.95 * bound < state[f"{block}attn.qkv.weight"].abs().max() <= bound


def test_positions_differ_at_every_place_and_time():
    codes = sines_and_cosines(32, 24)
    assert torch.cdist(codes, codes).add(100 * torch.eye(32)).min() > 0.5
    expected = torch.tensor([math.sin(3), math.cos(3)])
    torch.testing.assert_close(codes[3, :2], expected)


def test_a_network_begins_with_a_pretrained_encoder_and_has_its_features(tmp_path):
    pretrained = autoencoder()
    for parameter in pretrained.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "pretrained.safetensors"
    save_pretrained(path, pretrained, {"clips": "all"}, tmp_path)
    again, about = load_pretrained(path)
    assert about == {"clips": "all"}
    assert again.mae == MAE
    for name, value in pretrained.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    network = StreamNetwork(*reversed(pretrained.source), [5])
    head = network.last.weight.clone()
    initialise(network, str(path))
    clips = torch.randn(2, 2, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.features(clips), pretrained.stream.features(clips))
    assert torch.equal(network.last.weight, head)
    options = {"length": 4, "segments": 1, "input_size": 32, "num_classes": 5}
    created = create_model("small-vivit", "flow", weights=str(path), **options).eval()
    with torch.no_grad():
        assert torch.equal(created.features(clips), pretrained.stream.features(clips))


def test_flow_begins_with_an_encoder_of_rgb(tmp_path):
    pretrained = autoencoder(modality="rgb")
    path = tmp_path / "pretrained.safetensors"
    save_pretrained(path, pretrained, {}, tmp_path)
    clip = ClipInput("flow", 1, 4, 32)
    network = StreamNetwork(Network("small-vivit", batch_norm="train"), clip, [5])
    initialise(network, str(path))
    kernel = pretrained.stream.backbone.patch_embed.weight.mean(dim=1)
    assert torch.equal(network.backbone.patch_embed.weight[:, 1], kernel)


def test_files_of_other_kinds_are_told_apart(tmp_path):
    path = tmp_path / "pretrained.safetensors"
    save_pretrained(path, autoencoder(), {}, tmp_path)
    with pytest.raises(
        FormatError, match="it is a 'flowpipe masked autoencoder 1', not a 'flowpip"
    ):
        load_model(path)
    clip = ClipInput("flow", 1, 4, 32)
    other = tmp_path / "model.safetensors"
    save_model(other, StreamNetwork(Network("small-vivit"), clip, [5]), {}, tmp_path)
    with pytest.raises(FormatError, match="it is a 'flowpipe model 1', not a"):
        load_pretrained(other)
    with pytest.raises(FormatError, match=r"nothing.safetensors' does not exist"):
        load_pretrained(tmp_path / "nothing.safetensors")


@pytest.mark.slow
def test_what_it_has_seen_is_predicted_far_better_than_by_the_mean():
    """Eight moving waves, hidden at other places in every step."""
    network = autoencoder(mae=Mae(0.5, 48, 2, 4)).train()
    rows, columns, times = torch.meshgrid(
        *(torch.arange(float(n)) for n in (32, 32, 4)), indexing="ij"
    )
    slope, phase = 0.8 * torch.rand(8, 2, 1, 1, 1) - 0.4, 6.28 * torch.rand(8, 1, 1, 1)
    waves = torch.sin(slope[:, 0] * rows + slope[:, 1] * columns + 0.5 * times + phase)
    waves = waves.permute(0, 3, 1, 2)
    clips = torch.stack([waves, waves.roll(2, -1)], dim=1)
    optimizer = torch.optim.AdamW(network.parameters(), 0.001, weight_decay=0.05)
    losses = []
    for _ in range(300):
        loss = network.loss(network.heads(clips), torch.zeros(8), 0.0).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    true = network.heads(clips)[1]
    assert sum(losses[-20:]) / 20 < 0.75 * true.square().mean()
