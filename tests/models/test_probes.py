"""Heads on stored maps: what they see, and what they do not."""

from __future__ import annotations

import pytest
import torch

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.evl import EVLDecoder
from flowpipe.models.probe_file import load_probe, save_probe
from flowpipe.models.probe_network import ProbeNetwork
from flowpipe.models.probes import PROBES, Probe, StoredShape
from tests.helpers.golden import Golden, assert_equal

MAPS = StoredShape((3, 4, 24), (3, 4))
TOKENS = StoredShape((6, 7, 16), (2, 3), blocks=2, heads=4)
NUMBERS = 3 * 4 * 24 + 6 * 7 * 16


def network(head: str, shapes=(MAPS, TOKENS), classes: int = 5, **options) -> ProbeNetwork:
    torch.manual_seed(0)
    small = {"width": 16} if "width" in PROBES[head].options else {}
    return ProbeNetwork(Probe(head, frames=4, **small, **options), shapes, classes).eval()


def snippets(count: int = 2, numbers: int = NUMBERS) -> torch.Tensor:
    return torch.randn(count, 4, numbers, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("head", PROBES)
@torch.no_grad()
def test_a_clip_is_scored_by_itself(head):
    net, clips = network(head), snippets()
    scores = net(net.clips(clips))
    assert scores.shape == (2, 5)
    assert_equal(net(net.clips(clips[1:])), scores[1:])


@pytest.mark.parametrize("head", PROBES)
def test_no_gradient_reaches_what_is_stored_and_all_weights_have_one(head):
    net = network(head)
    clips = snippets().requires_grad_()
    net(net.clips(clips)).square().sum().backward()
    assert clips.grad is None
    assert all(weight.grad is not None for weight in net.parameters())


def test_the_order_of_frames_matters_to_evl_alone():
    clips = snippets()
    for head in PROBES:
        net = network(head)
        forward, backward = (net(net.clips(each)) for each in (clips, clips.flip(1)))
        assert torch.allclose(forward, backward, atol=1e-5) == (head != "evl")


def test_cross_attention_knows_the_neighbours():
    """Its vectors begin at zero: then it adds nothing, and afterwards it does."""
    clips = snippets()
    with_it, without = network("evl"), network("evl", cross_attention=False)
    state = with_it.state_dict()
    without.load_state_dict({k: v for k, v in state.items() if "cross_attention" not in k})
    assert_equal(with_it(with_it.clips(clips)), without(without.clips(clips)))
    for name, weight in with_it.named_parameters():
        if "cross_attention" in name:
            torch.nn.init.normal_(weight)
    assert not torch.allclose(with_it(with_it.clips(clips)), without(without.clips(clips)))


def test_evl_on_tokens_is_the_decoder_with_queries_and_keys():
    golden = Golden("evl_decoder")
    parts = [golden.input(f"layer{i}/{part}") for i in (0, 1) for part in ("out", "q", "k")]
    stored = torch.stack([each.flatten(3) for each in parts], dim=2)  # (B, T, 6, N, D)
    shape = StoredShape((6, 10, 32), (3, 3), blocks=2, heads=4)
    net = ProbeNetwork(Probe("evl", frames=4, width=32, heads=4), [shape], 5).eval()
    decoder = net.head.decoder
    assert isinstance(decoder, EVLDecoder)
    decoder.load_state_dict({k.removeprefix("decoder."): v for k, v in golden.state.items()})
    assert_equal(net(net.clips(stored.flatten(2))), golden.output("logits"))


def test_linear_standardises_means_by_the_training_clips():
    net = network("linear", [MAPS])
    clips = snippets(6, 288) * 3 + 5
    clips[:, :, 0::24] = 7  # a channel that is always the same
    net.fit(clips)
    pooled = clips.unflatten(-1, (12, 24)).mean(dim=(1, 2))
    torch.testing.assert_close(net.head.mean, pooled.mean(dim=0))
    deviation = pooled.std(dim=0, correction=0)
    torch.testing.assert_close(net.head.deviation[1:], deviation[1:])
    assert net.head.deviation[0] > 1e-4
    clips[0, :, 0::24] = 8
    assert net(net.clips(clips)).abs().max() < 1e4


def test_tokens_are_seen_by_their_last_block():
    """Linear takes the class token, attention all of them."""
    clips = snippets(1, 672).unflatten(-1, (6, 7, 16))
    for head, places in (("linear", slice(1)), ("attention", slice(None))):
        net = network(head, [TOKENS])
        scores = net(net.clips(clips.flatten(2)))
        changed = torch.randn_like(clips)
        changed[:, :, 3, places] = clips[:, :, 3, places]
        assert_equal(net(net.clips(changed.flatten(2))), scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "svm"}, "head is 'svm'; it must be one of evl, attention, linear"),
        ({"head": "linear", "width": 8}, "width is 8; it applies to evl, attention"),
        ({"head": "attention", "cross_attention": True}, "cross_attention is True; it applies to"),
        ({"head": "evl", "width": 30}, "width is 30; it must be a multiple of 4 heads"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be 0 to below 1"),
        ({"frames": 0}, "frames"),
    ],
)
def test_options_that_do_not_apply_are_refused(options, message):
    with pytest.raises(ParameterError, match=message):
        Probe(**options)


def test_a_clip_of_other_frames_is_refused():
    net = network("linear")
    with pytest.raises(ParameterError, match="a clip has 3 frames; this head takes 4"):
        net.clips(snippets()[:, :3])


@pytest.mark.parametrize("head", PROBES)
def test_a_file_gives_the_same_scores(head, tmp_path):
    net = network(head)
    save_probe(tmp_path / "probe.safetensors", net, {"of": "it"}, tmp_path)
    found, about = load_probe(tmp_path / "probe.safetensors")
    assert about == {"of": "it"}
    clips = snippets()
    assert torch.equal(found.eval()(found.clips(clips)), net(net.clips(clips)))
    data = bytearray((tmp_path / "probe.safetensors").read_bytes())
    (tmp_path / "half.safetensors").write_bytes(data[: len(data) // 2])
    at = data.index(b"flowpipe probe 1")
    data[at : at + 16] = b"flowpipe probe 9"
    (tmp_path / "other.safetensors").write_bytes(data)
    data = bytearray((tmp_path / "probe.safetensors").read_bytes())
    at = data.index(b'\\"frames\\": 4') if head == "evl" else data.index(b'\\"classes\\": 5')
    place = at + 11 if head == "evl" else at + 12
    data[place : place + 2] = b" 9"
    (tmp_path / "wrong.safetensors").write_bytes(data)
    for name in ("half", "other", "none", "wrong"):
        with pytest.raises(FormatError, match=name):
            load_probe(tmp_path / f"{name}.safetensors")
