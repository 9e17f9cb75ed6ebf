"""Parts that the video transformers share: attention, MLP, blocks, position embeddings.

A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. The names of the layers are those
of the usual PyTorch code of that paper.
"""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from flowpipe.errors import ParameterError

Gelu = Literal["none", "tanh", "quick"]
"""The exact activation, or its approximation by a hyperbolic tangent, which JAX code uses, or by a
sigmoid, which CLIP uses."""


class Attention(nn.Module):
    """Let every token attend to all tokens of its sequence.

    Parameters
    ----------
    width
        Size of a token.
    heads
        Number of heads.
    bias
        Add a bias to queries, keys and values.

    Raises
    ------
    ParameterError
        The size is no multiple of the number of heads.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ParameterError(f"width is {width}; it must be a multiple of {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., N, D) to (..., N, D)."""
        queries, keys, values = self.heads_of(tokens)
        return self.joined(
            nn.functional.scaled_dot_product_attention(queries, keys, values), tokens
        )

    def heads_of(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (..., heads, N, D / heads)."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        return parts[0], parts[1], parts[2]

    def joined(self, attended: Tensor, tokens: Tensor) -> Tensor:
        """Return what the heads attended to as tokens of the shape of those given."""
        projected: Tensor = self.proj(attended.transpose(-2, -3).reshape(tokens.shape))
        return projected


class Mlp(nn.Module):
    """Apply two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, gelu: Gelu = "none") -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.gelu = gelu

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        hidden = self.fc1(tokens)
        if self.gelu == "quick":
            hidden = quick_gelu(hidden)
        else:
            hidden = nn.functional.gelu(hidden, approximate=self.gelu)
        projected: Tensor = self.fc2(hidden)
        return projected


class Block(nn.Module):
    """Add attention, then an MLP, each of the normalised tokens.

    Parameters
    ----------
    width, heads, hidden
        Size of a token, number of heads, size of the MLP's hidden layer.
    drop_path
        Probability with which the block is skipped for a clip in training.
    gelu
        Form of the activation.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, drop_path: float = 0.0, gelu: Gelu = "none"
    ) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, heads)
        self.norm2 = layer_norm(width)
        self.mlp = Mlp(width, hidden, gelu)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        added: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return added


def quick_gelu(hidden: Tensor) -> Tensor:
    """Return the approximation of the GELU that CLIP uses."""
    return hidden * torch.sigmoid(1.702 * hidden)


def layer_norm(width: int) -> nn.LayerNorm:
    """Return the layer normalisation of vision transformers, whose epsilon is 1e-6."""
    return nn.LayerNorm(width, eps=1e-6)


def drop_rates(highest: float, depth: int) -> list[float]:
    """Return the probability of skipping each block, which grows linearly with depth."""
    return [highest * index / max(depth - 1, 1) for index in range(depth)]


def initialise(module: nn.Module) -> None:
    """Draw the weights of linear layers from a truncated normal distribution; clear biases."""
    for each in module.modules():
        if isinstance(each, nn.Linear):
            nn.init.trunc_normal_(each.weight, std=0.02)
            if each.bias is not None:
                nn.init.zeros_(each.bias)


def at_places(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens of some places: (B, T, P, D) and (B, K) indices -> (B, T, K, D)."""
    batch, times, _, width = tokens.shape
    index = places[:, None, :, None].expand(batch, times, -1, width)
    return tokens.gather(2, index)


_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_1\.", ".norm1."),
    (r"\.ln_2\.", ".norm2."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a torchvision ViT under the names of this package."""
    return renamed(state, _TORCHVISION)


def with_joined_qkv(state: dict[str, Tensor], names: tuple[str, str, str]) -> dict[str, Tensor]:
    """Concatenate the weights of queries, keys and values, which are one layer here, ``qkv``.

    Parameters
    ----------
    state
        Weights by name.
    names
        What the layers of queries, keys and values are called in it.
    """
    first, *others = (f".{name}." for name in names)
    result = {}
    for name, value in state.items():
        if first in name:
            parts = [value, *(state[name.replace(first, other)] for other in others)]
            result[name.replace(first, ".qkv.")] = torch.cat(parts)
        elif not any(other in name for other in others):
            result[name] = value
    return result


def renamed(state: dict[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    """Return weights under other names, by regular expressions that are applied in order."""
    result = {}
    for full, value in state.items():
        name = full
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = value
    return result
