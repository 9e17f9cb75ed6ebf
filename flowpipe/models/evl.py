"""EVL: a small transformer decoder on the frozen features of an image network.

Z. Lin et al., "Frozen CLIP Models are Efficient Video Learners", ECCV 2022. The decoder reads the
tokens of the last blocks of the image network, one block per layer; maps of a CNN are tokens too.
No gradient reaches the image network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.transformer import quick_gelu


@dataclass(frozen=True, slots=True)
class BlockFeatures:
    """Tokens of a block of the image network, for all frames of a clip.

    Attributes
    ----------
    out
        (B, T, N, D) tokens. N is one class token and the places of the grid, or the places alone.
    q, k
        (B, T, N, heads, D / heads) queries and keys of the block; None where it has none, as in a
        CNN: the tokens then take their place.
    """

    out: Tensor
    q: Tensor | None = None
    k: Tensor | None = None


class EVLDecoder(nn.Module):
    """Score clips from the tokens of an image network.

    Parameters
    ----------
    width
        Size D of a token.
    frames
        Number of frames T of a clip.
    grid
        Height and width of the grid of places, of all layers or of each.
    classes
        Number of classes.
    inputs
        Size of a token of the image network, for each layer. Where it is not `width`, tokens are
        normalised and projected; their queries and keys are not.
    layers
        Number of layers, each for one block of the image network.
    heads
        Number of heads.
    mlp_factor
        Size of the hidden layer of the MLPs, in units of `width`.
    dropout
        Probability with which hidden units and features are dropped.
    convolution, positions, cross_attention
        Which temporal parts are added to the tokens: a convolution over time per channel, position
        embeddings, and attention between neighbouring frames.

    Examples
    --------
    >>> import torch
    >>> decoder = EVLDecoder(32, frames=4, grid=(3, 3), classes=5, layers=1, heads=4).eval()
    >>> decoder([BlockFeatures(torch.zeros(2, 4, 9, 32))]).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        width: int,
        frames: int,
        grid: tuple[int, int] | Sequence[tuple[int, int]],
        classes: int,
        *,
        inputs: Sequence[int] = (),
        layers: int = 4,
        heads: int = 12,
        mlp_factor: float = 4.0,
        dropout: float = 0.5,
        convolution: bool = True,
        positions: bool = True,
        cross_attention: bool = True,
    ) -> None:
        super().__init__()
        self.frames = frames
        grids = cast(
            list[tuple[int, int]], [grid] * layers if isinstance(grid[0], int) else list(grid)
        )
        self.projections = nn.ModuleList(
            projection(size, width) if size != width else nn.Identity() for size in inputs
        )
        self.cls_token = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.cls_token, std=0.02)
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(width, heads, int(width * mlp_factor), dropout) for _ in range(layers)
        )
        self.temporal_conv = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=1, groups=width) for _ in range(layers * convolution)
        )
        self.temporal_pos_embed = nn.ParameterList(
            torch.zeros(frames, width) for _ in range(layers * positions)
        )
        self.cross_attention = nn.ModuleList(
            FrameAttention(width, each) for each in grids * cross_attention
        )
        self.proj = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, classes)
        )
        self.n_features = width

    def forward(self, blocks: Sequence[BlockFeatures]) -> Tensor:
        """Return scores before the softmax: one :class:`BlockFeatures` a layer -> (B, classes)."""
        scores: Tensor = self.proj(self.features(blocks)[:, 0])
        return scores

    def features(self, blocks: Sequence[BlockFeatures]) -> Tensor:
        """Return the query after the last layer, (B, 1, D)."""
        if len(blocks) != len(self.decoder_layers):
            raise ParameterError(
                f"there are features of {len(blocks)} blocks; the decoder has "
                f"{len(self.decoder_layers)} layers"
            )
        query = self.cls_token.expand(len(blocks[0].out), 1, -1)
        for index, (block, layer) in enumerate(zip(blocks, self.decoder_layers, strict=True)):
            query = layer(query, self.frame_features(index, block).flatten(1, 2))
        return query

    def frame_features(self, index: int, block: BlockFeatures) -> Tensor:
        """Return what a layer attends to: the tokens with the temporal parts, (B, T, N, D)."""
        # Frozen features: gradients stop here.
        tokens = block.out.detach()
        if tokens.shape[1] != self.frames:
            raise ParameterError(
                f"a clip has {tokens.shape[1]} frames; this decoder takes {self.frames}"
            )
        if self.projections:
            tokens = self.projections[index](tokens)
        features = tokens
        if self.temporal_conv:
            lines = tokens.permute(0, 2, 3, 1).flatten(0, 1)  # (B N, D, T)
            lines = self.temporal_conv[index](lines)
            features = features + lines.unflatten(0, tokens.shape[::2][:2]).permute(0, 3, 1, 2)
        if self.temporal_pos_embed:
            features = features + self.temporal_pos_embed[index][None, :, None]
        if self.cross_attention:
            q = (tokens[..., None, :] if block.q is None else block.q).detach()
            k = (tokens[..., None, :] if block.k is None else block.k).detach()
            features = features + self.cross_attention[index](q, k)
        return features


def projection(inputs: int, width: int) -> nn.Module:
    """Return what normalises frozen tokens and projects them to another size.

    The scale and shift of the normalisation are the projection's.
    """
    return nn.Sequential(nn.LayerNorm(inputs, elementwise_affine=False), nn.Linear(inputs, width))


class FrameAttention(nn.Module):
    """Turn the attention between neighbouring frames into tokens.

    Each place attends to those of the frame before and of the frame after; the weights, averaged
    over the heads, sum vectors that are learnt for every displacement.

    Parameters
    ----------
    width
        Size of a token.
    grid
        Height and width of the grid of places.
    """

    displacements: Tensor

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        height, wide = grid
        count = (2 * height - 1) * (2 * wide - 1)
        self.w1 = nn.Parameter(torch.zeros(count, width))
        self.w2 = nn.Parameter(torch.zeros(count, width))
        rows = torch.arange(height).repeat_interleave(wide)
        columns = torch.arange(wide).repeat(height)
        index = (rows[:, None] - rows[None] + height - 1) * (2 * wide - 1)
        index = index + columns[:, None] - columns[None] + wide - 1
        self.register_buffer("displacements", index, persistent=False)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Map (B, T, N, heads, D / heads) twice to (B, T, N, D); zero for a class token."""
        places = len(self.displacements)
        has_class_token = queries.shape[2] - places
        if has_class_token not in (0, 1):
            raise ParameterError(
                f"a frame has {queries.shape[2]} tokens; the grid has {places} places"
            )
        # (B, T, heads, N, D / heads)
        queries = queries[:, :, has_class_token:].transpose(2, 3) / queries.shape[-1] ** 0.5
        keys = keys[:, :, has_class_token:].transpose(2, 3)
        before = self._summed(queries[:, 1:], keys[:, :-1], self.w1)
        after = self._summed(queries[:, :-1], keys[:, 1:], self.w2)
        # The first frame has none before it, the last none after it.
        summed = nn.functional.pad(before, (0, 0, 0, 0, 1, 0))
        summed = summed + nn.functional.pad(after, (0, 0, 0, 0, 0, 1))
        return nn.functional.pad(summed, (0, 0, has_class_token, 0))

    def _summed(self, queries: Tensor, keys: Tensor, vectors: Tensor) -> Tensor:
        weights = torch.softmax(queries @ keys.transpose(-1, -2), dim=-1).mean(dim=2)
        # (B, T, N, N) with (N, N, D): one product per query place.
        return torch.einsum("btqk,qkd->btqd", weights, vectors[self.displacements])


class DecoderLayer(nn.Module):
    """Add cross attention to the features of all frames, then an MLP, to a query."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attn = CrossAttention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, query: Tensor, features: Tensor) -> Tensor:
        """Map (B, Q, D) and (B, N, D) to (B, Q, D)."""
        query = query + self.attn(self.norm1(query), self.norm3(features))
        hidden = self.mlp["fc1"](self.norm2(query))
        hidden = self.dropout(quick_gelu(hidden))
        added: Tensor = query + self.mlp["fc2"](hidden)
        return added


class CrossAttention(nn.Module):
    """Let queries attend to keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, query: Tensor, keys: Tensor, *, causal: bool = False) -> Tensor:
        """Map (B, Q, D) and (B, N, D) to (B, Q, D)."""

        def heads_of(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        attended = nn.functional.scaled_dot_product_attention(
            heads_of(self.q_proj(query)),
            heads_of(self.k_proj(keys)),
            heads_of(self.v_proj(keys)),
            is_causal=causal,
        )
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected
