"""Tokens of vision transformers: CLIP's image network, and queries and keys of blocks."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import VisionTransformer

from flowpipe.errors import ParameterError
from flowpipe.models import clip_vit, timesformer
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.clip_vit import ClipVit
from flowpipe.models.evl import BlockFeatures, EVLDecoder
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.timesformer import TimeSformer
from flowpipe.models.tokens import block_tokens, check_tokens
from tests.helpers.golden import Golden, assert_equal, parameters

TINY = {"size": (32, 48), "width": 32, "depth": 3, "heads": 4, "hidden": 64}


@pytest.fixture(autouse=True)
def _no_gradients():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def stream(backbone) -> StreamNetwork:
    """A network of the table around a small transformer."""
    takes_clips = not isinstance(backbone, VisionTransformer)
    with torch.device("meta"):
        network = StreamNetwork(
            Network("timesformer-space" if takes_clips else "tsn", batch_norm="train"),
            ClipInput("rgb", 1, 1, 32),
            [5],
        )
    network.backbone = backbone
    return network.eval()


def clip_network(state) -> ClipVit:
    network = ClipVit(3, 5, **TINY).eval()
    network.load_state_dict(clip_vit.own_names(state), strict=False)
    # EVL's backbone has biases on patches, and CLIP none.
    network.conv = torch.nn.Conv2d(3, 32, 16, 16)
    network.conv.load_state_dict(
        {
            "weight": clip_vit.own_names(state)["conv.weight"],
            "bias": state["patch_embed.proj.bias"],
        }
    )
    return network


def test_evl_on_the_tokens_of_a_transformer_equals_the_release():
    golden = Golden("evl_transformer")
    state = {
        name.removeprefix("backbone."): value
        for name, value in golden.state.items()
        if name.startswith("backbone.")
    }
    network = stream(clip_network(state))
    clips = golden.input()
    images = clips.transpose(1, 2).flatten(0, 1)
    tokens = block_tokens(network, images, 3)
    for block in range(3):
        for part, name in enumerate(("out", "q", "k")):
            expected = golden.output(f"backbone.blocks.{block}/{name}").flatten(2)
            assert_equal(tokens[:, 3 * block + part], expected)
    decoder = EVLDecoder(32, 3, (2, 3), 5, layers=2, heads=4, mlp_factor=2).eval()
    decoder.load_state_dict(
        {
            name.removeprefix("decoder."): value
            for name, value in golden.state.items()
            if not name.startswith("backbone.")
        }
    )
    last = tokens[:, 3:].unflatten(0, (2, 3)).unflatten(2, (2, 3))  # (B, T, block, part, N, D)
    blocks = [
        BlockFeatures(
            last[:, :, block, 0],
            *(last[:, :, block, part].unflatten(-1, (4, 8)) for part in (1, 2)),
        )
        for block in range(2)
    ]
    assert_equal(decoder(blocks), golden.output("logits"))


def test_the_names_of_openai_hugging_face_and_timm():
    own = ClipVit(3, 5, **TINY).state_dict()
    own = {name: torch.randn_like(value) for name, value in own.items()}
    openai, hugging_face, timm = {}, {}, {}
    for name, value in own.items():
        if name.startswith("head"):
            continue
        parts = {"weight": value} if name.endswith("weight") else {"bias": value}
        (suffix,) = parts
        owner = name.removesuffix(f".{suffix}")
        block, _, inner = owner.removeprefix("blocks.").partition(".")
        if name == "cls_token":
            openai["class_embedding"] = value
            hugging_face["embeddings.class_embedding"] = value
            timm[name] = value[None, None]
        elif name == "pos_embed":
            openai["positional_embedding"] = value
            hugging_face["embeddings.position_embedding.weight"] = value
            timm[name] = value[None]
        elif owner == "conv":
            openai["conv1.weight"] = value
            hugging_face["embeddings.patch_embedding.weight"] = value
            timm["patch_embed.proj.weight"] = value
        elif not owner.startswith("blocks"):
            timm[name] = value
            their = {"norm_pre": ("ln_pre", "pre_layrnorm"), "norm": ("ln_post", "post_layernorm")}
            openai[f"{their[owner][0]}.{suffix}"] = value
            hugging_face[f"{their[owner][1]}.{suffix}"] = value
        else:
            timm[name] = value
            first, second = f"transformer.resblocks.{block}.", f"encoder.layers.{block}."
            match inner:
                case "attn.qkv":
                    openai[f"{first}attn.in_proj_{suffix}"] = value
                    for part, letter in zip(value.chunk(3), "qkv", strict=True):
                        hugging_face[f"{second}self_attn.{letter}_proj.{suffix}"] = part
                case "attn.proj":
                    openai[f"{first}attn.out_proj.{suffix}"] = value
                    hugging_face[f"{second}self_attn.out_proj.{suffix}"] = value
                case "mlp.fc1" | "mlp.fc2":
                    their_name = "c_fc" if inner.endswith("1") else "c_proj"
                    openai[f"{first}mlp.{their_name}.{suffix}"] = value
                    hugging_face[f"{second}{inner}.{suffix}"] = value
                case _:
                    openai[f"{first}ln_{inner[-1]}.{suffix}"] = value
                    hugging_face[f"{second}layer_norm{inner[-1]}.{suffix}"] = value
    of_images = {f"visual.{name}": value for name, value in openai.items()}
    whole = {
        **of_images,
        "visual.proj": torch.zeros(32, 16),
        "token_embedding.weight": torch.ones(4),
    }
    theirs = {f"vision_model.{name}": value for name, value in hugging_face.items()}
    theirs |= {"visual_projection.weight": torch.zeros(16, 32), "logit_scale": torch.ones(())}
    for state in (whole, theirs, timm):
        found = clip_vit.own_names(state)
        assert found.keys() == {name for name in own if not name.startswith("head")}
        assert all(torch.equal(found[name], own[name]) for name in found)


def test_the_published_number_of_parameters():
    with torch.device("meta"):
        network = ClipVit(3, 512)
    # Without the projection of its class token, 768 x 512, which is the last layer's here.
    assert parameters(network) - 512 == pytest.approx(86.19e6, rel=1e-3)


def test_timesformer_on_frames_alone_takes_the_names_of_hugging_face():
    """Hugging Face scores each frame by itself, where the release averages them."""
    golden = Golden("hf_timesformer_space_T4")
    network = TimeSformer(
        3, 5, frames=4, size=32, attention="space", width=32, depth=2, heads=4
    ).eval()
    network.load_state_dict(timesformer.own_names(golden.state))
    frames = golden.input().flatten(0, 1)
    assert_equal(network(frames[:, :, None]), golden.output("logits"))
    tokens = block_tokens(stream(network), frames, 2)
    assert tokens.shape == (len(frames), 6, 5, 32)
    last = network.norm(tokens[:, 3])[:, 0]
    assert_equal(network.head(last), golden.output("logits"))


def test_queries_and_keys_are_those_of_the_attention():
    theirs = VisionTransformer(32, 16, 2, 4, 32, 128, num_classes=5).eval()
    own = TimeSformer(3, 5, frames=1, size=32, attention="space", width=32, depth=2, heads=4).eval()
    state = timesformer.from_torchvision(theirs.state_dict())
    own.load_state_dict(state, strict=False)
    own.norm.eps = theirs.encoder.ln.eps
    images = torch.randn(3, 3, 32, 32)
    assert_equal(block_tokens(stream(theirs), images, 2), block_tokens(stream(own), images, 2))


def test_other_networks_have_no_tokens_of_frames():
    network = stream(TimeSformer(3, 5, size=32, width=32, depth=2, heads=4))
    with pytest.raises(ParameterError, match="tokens is 1; it applies to vision transformers"):
        check_tokens(network, 1)
    network = stream(ClipVit(3, 5, **TINY))
    with pytest.raises(ParameterError, match=r"tokens is 4; .* has 3 blocks"):
        check_tokens(network, 4)
