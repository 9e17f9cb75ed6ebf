"""Tokens of vision transformers that see each frame by itself, with their queries and keys.

EVL (Z. Lin et al., ECCV 2022) reads them of the last blocks: what a block returns, and the queries
and keys of its attention, before these are scaled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from flowpipe.errors import ParameterError
from flowpipe.models.clip_vit import ClipVit
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.timesformer import TimeSformer
from flowpipe.models.transformer import Attention

PARTS = ("out", "q", "k")
"""What is taken of a block."""


@dataclass(frozen=True, slots=True)
class FrameTransformer:
    """The blocks of a vision transformer that sees each frame by itself.

    Attributes
    ----------
    blocks
        In order.
    heads
        Number of heads of their attention.
    grid
        Height and width of the grid of patches. Before its tokens there is a class token.
    """

    blocks: tuple[nn.Module, ...]
    heads: int
    grid: tuple[int, int]


def frame_transformer(network: StreamNetwork) -> FrameTransformer | None:
    """Return the blocks of a network, or None if it is of another kind."""
    backbone: Any = network.backbone
    if isinstance(backbone, VisionTransformer):
        side = backbone.image_size // backbone.patch_size
        blocks = tuple(backbone.encoder.layers.children())
        return FrameTransformer(blocks, cast(Any, blocks[0]).num_heads, (side, side))
    if isinstance(backbone, ClipVit) or (
        isinstance(backbone, TimeSformer) and backbone.attention == "space"
    ):
        blocks = tuple(backbone.blocks)
        return FrameTransformer(blocks, cast(Any, blocks[0]).attn.heads, backbone.grid)
    return None


def check_tokens(network: StreamNetwork, count: int) -> FrameTransformer:
    """Return the blocks of a network, of which the last are asked for.

    Raises
    ------
    ParameterError
        It has no such blocks, or fewer.
    """
    found = frame_transformer(network)
    if found is None:
        name = network.network.model
        raise ParameterError(
            f"tokens is {count}; it applies to vision transformers that see each frame by itself, "
            f"such as vit_b_16, clip-vit-b-16 and timesformer-space, and the network is {name}"
        )
    if not 1 <= count <= len(found.blocks):
        raise ParameterError(
            f"tokens is {count}; {network.network.model} has {len(found.blocks)} blocks"
        )
    return found


def block_tokens(network: StreamNetwork, images: Tensor, count: int) -> Tensor:
    """Return outputs, queries and keys of the last blocks, those of a block together.

    Parameters
    ----------
    network
        See :func:`check_tokens`.
    images
        (N, C, H, W).
    count
        Number of blocks.

    Returns
    -------
    (N, 3 count, tokens, D)
        The class token first; the heads of queries and keys one after the other.
    """
    kept: list[Tensor] = []
    handles = []
    for block in check_tokens(network, count).blocks[-count:]:
        own = "attn" if hasattr(block, "attn") else "self_attention"
        attention = block.get_submodule(own)
        handles.append(attention.register_forward_pre_hook(_keep_queries(kept)))
        handles.append(block.register_forward_hook(_keep_output(kept)))
    try:
        if network.takes == "snippets":
            network.backbone(images)
        else:
            cast(Any, network.backbone).features(images[:, :, None])
    finally:
        for handle in handles:
            handle.remove()
    # Attention runs first: queries, keys, output of each block.
    parts = [kept[at + which] for at in range(0, len(kept), 3) for which in (2, 0, 1)]
    return torch.stack(parts, dim=1)


def _keep_queries(kept: list[Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tokens = inputs[0]
        if isinstance(module, Attention):
            queries, keys, _ = module.heads_of(tokens)
            kept.extend(each.transpose(-2, -3).flatten(-2) for each in (queries, keys))
            return
        attention: Any = module
        width = tokens.shape[-1]
        weight, bias = attention.in_proj_weight[: 2 * width], attention.in_proj_bias[: 2 * width]
        kept.extend(nn.functional.linear(tokens, weight, bias).split(width, dim=-1))

    return keep


def _keep_output(kept: list[Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    return keep
