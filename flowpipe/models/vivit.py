"""ViViT: four video transformers on tubelets, models 1 to 4 of the paper.

A. Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021, as released in Scenic: the GELU is
its tanh form, and models 3 and 4 average the tokens instead of a class token.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models import transformer
from flowpipe.models.inflation import How
from flowpipe.models.transformer import Attention, Block, layer_norm
from flowpipe.models.vivit_names import from_torchvision

Factorisation = Literal["joint", "encoder", "attention", "heads"]
"""Models 1 to 4: no factorisation, two encoders, two attentions a block, two kinds of heads."""
Pooling = Literal["token", "mean"]
_POSITIONS = "encoder.pos_embed"


class Encoder(nn.Module):
    """Add position embeddings to a sequence of tokens and apply the blocks.

    Parameters
    ----------
    blocks
        The blocks, each (B, N, D) -> (B, N, D).
    width
        Size of a token.
    length
        Number of tokens, without the class token.
    pooling
        Return the class token, or the mean of all tokens.
    """

    def __init__(self, blocks: list[nn.Module], width: int, length: int, pooling: Pooling) -> None:
        super().__init__()
        if pooling == "token":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pooling = pooling
        self.pos_embed = nn.Parameter(torch.zeros(1, length + (pooling == "token"), width))
        self.blocks = nn.ModuleList(blocks)
        self.norm = layer_norm(width)
        nn.init.normal_(self.pos_embed, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, D) to (B, D)."""
        if self.pooling == "token":
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        if tokens.shape[1] != self.pos_embed.shape[1]:
            raise ParameterError(
                f"a clip has {tokens.shape[1]} tokens, and the network "
                f"{self.pos_embed.shape[1]} positions; give it clips of its own size and length"
            )
        tokens = self._blocks(tokens + self.pos_embed)
        return tokens[:, 0] if self.pooling == "token" else tokens.mean(dim=1)

    def visible_tokens(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Encode the tokens of some places, at all times, as if there were no others.

        Parameters
        ----------
        tokens
            (B, T, places, D), without positions.
        places
            (B, K) indices.

        Returns
        -------
        (B, T, K, D)
        """
        first = int(self.pooling == "token")
        positions = self.pos_embed[:, first:].unflatten(1, tokens.shape[1:3])
        kept = transformer.at_places(tokens + positions, places)
        sequence = kept.flatten(1, 2)
        if first:
            token = self.cls_token + self.pos_embed[:, :1]
            sequence = torch.cat([token.expand(len(tokens), -1, -1), sequence], dim=1)
        return self._blocks(sequence)[:, first:].unflatten(1, kept.shape[1:3])

    def _blocks(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens)
        return normed


class Vivit(nn.Module):
    """Score clips with ViViT.

    Parameters
    ----------
    channels
        Channels of the input, in -1 to 1.
    classes
        Number of classes.
    frames, size
        Number of frames, and height and width of a clip.
    tubelet
        Extent of a token in time, height and width.
    factorisation
        Which of the four models: ``joint`` (1), ``encoder`` (2), ``attention`` (3), ``heads`` (4).
    width, depth, heads, hidden
        Size of a token, number of blocks, of heads, and of hidden units; the defaults are ViT-B's.
    temporal_depth, temporal_heads, temporal_hidden
        Those of model 2's encoder over time; by default 4, and those of the encoder over space.
    pooling
        What is scored in models 1 and 2: the class token or the mean of the tokens.
    drop_path
        Probability with which the last block is skipped in training; earlier ones less often.

    Raises
    ------
    ParameterError
        A parameter is out of range, or a clip has another size than the network.

    Examples
    --------
    >>> import torch
    >>> network = Vivit(2, 5, frames=8, size=32, width=32, depth=2, heads=4, hidden=64).eval()
    >>> network(torch.zeros(1, 2, 8, 32, 32)).shape
    torch.Size([1, 5])
    """

    head_name = "head"
    """The last layer."""
    inflation: How = "centre"
    """Kernels of images are put into the middle of those of tubelets: the network then begins with
    frames 1, 3, 5, ... of a clip (from 0, for tubelets of 2), as the paper does."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 400,
        *,
        frames: int = 32,
        size: int | tuple[int, int] = 224,
        tubelet: tuple[int, int, int] = (2, 16, 16),
        factorisation: Factorisation = "encoder",
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        temporal_depth: int = 4,
        temporal_heads: int | None = None,
        temporal_hidden: int | None = None,
        pooling: Pooling = "token",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        height, wide = (size, size) if isinstance(size, int) else size
        extents = (frames, height, wide)
        if any(extent % step for extent, step in zip(extents, tubelet, strict=True)):
            raise ParameterError(
                f"a clip has T, H, W = {extents}; they must be multiples of the tubelet, {tubelet}"
            )
        times, *grid = (extent // step for extent, step in zip(extents, tubelet, strict=True))
        places = grid[0] * grid[1]
        self.factorisation = factorisation
        self.n_features = width
        self.tubelet = tubelet
        self.token_grid = (times, grid[0], grid[1])
        self.patch_embed = nn.Conv3d(channels, width, tubelet, stride=tubelet)
        rates = transformer.drop_rates(drop_path, depth)
        match factorisation:
            case "joint":
                self.encoder = Encoder(
                    _blocks(rates, width, heads, hidden), width, times * places, pooling
                )
            case "encoder":
                self.encoder = Encoder(_blocks(rates, width, heads, hidden), width, places, pooling)
                self.temporal = Encoder(
                    _blocks(
                        [0.0] * temporal_depth,
                        width,
                        temporal_heads or heads,
                        temporal_hidden or hidden,
                    ),
                    width,
                    times,
                    pooling,
                )
            case "attention":
                blocks: list[nn.Module] = [
                    FactorisedBlock(width, heads, hidden, times, drop_path=rate) for rate in rates
                ]
                self.encoder = Encoder(blocks, width, times * places, "mean")
            case "heads":
                blocks = [
                    Block(width, heads, hidden, drop_path=rate, gelu="tanh") for rate in rates
                ]
                for block in blocks:
                    block.attn = FactorisedHeads(width, heads, times)
                self.encoder = Encoder(blocks, width, times * places, "mean")
            case _:
                raise ParameterError(
                    f"factorisation is {factorisation!r}; it must be joint, encoder, attention or "
                    "heads"
                )
        self.head = nn.Linear(width, classes)
        transformer.initialise(self)
        for module in self.modules():
            # Silent attention over time. Only the projection is zero: with all of the attention at
            # zero, as in the release, its gradient would be zero too.
            if isinstance(module, FactorisedBlock):
                nn.init.zeros_(module.temporal_attn.proj.weight)
        nn.init.zeros_(self.head.weight)

    @property
    def plain_names(self) -> dict[str, str]:
        """Names of the weights that a vision transformer has, by the names here."""
        return {name: name for name in self.state_dict() if "temporal" not in name}

    def from_images(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of torchvision's ViT under the names here, as many as there are."""
        return self.fitted(from_torchvision(state))

    def fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Repeat the positions of a vision transformer at all times; leave other weights as is.

        Its class token is left out where the network has none.
        """
        kernel, positions = state.get("patch_embed.weight"), state.get(_POSITIONS)
        if kernel is None or positions is None or kernel.ndim != 4:
            return state
        state = dict(state)
        token, places = positions[:, :1], positions[:, 1:]
        if self.factorisation != "encoder":
            places = places.repeat(1, self.token_grid[0], 1)
        has_token = self.encoder.pooling == "token"
        state[_POSITIONS] = torch.cat([token, places], dim=1) if has_token else places
        if not has_token:
            state.pop("encoder.cls_token", None)
        return state

    def features(self, clips: Tensor) -> Tensor:
        """Return the feature of each clip: (B, C, T, H, W) -> (B, 1, D)."""
        maps = self.patch_embed(clips)
        batch, times = maps.shape[0], maps.shape[2]
        if self.factorisation == "encoder":
            frames = maps.transpose(1, 2).flatten(0, 1).flatten(2).transpose(1, 2)
            per_time = self.encoder(frames).unflatten(0, (batch, times))
            feature: Tensor = self.temporal(per_time)
        else:
            feature = self.encoder(maps.flatten(2).transpose(1, 2))
        return feature[:, None]

    def visible_tokens(self, clips: Tensor, places: Tensor) -> Tensor:
        """Encode some places of clips as if there were no others; not for model 2.

        Parameters
        ----------
        clips
            (B, C, T, H, W).
        places
            (B, K) indices of places, row by row.

        Returns
        -------
        (B, T / tubelet, K, D)
        """
        tokens = self.patch_embed(clips).flatten(3).permute(0, 2, 3, 1)
        return self.encoder.visible_tokens(tokens, places)

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.head(self.features(clips)[:, 0])
        return scores


def _blocks(rates: list[float], width: int, heads: int, hidden: int) -> list[nn.Module]:
    return [Block(width, heads, hidden, drop_path=rate, gelu="tanh") for rate in rates]


class FactorisedBlock(Block):
    """Add attention over time, attention over space and an MLP (model 3)."""

    def __init__(
        self, width: int, heads: int, hidden: int, times: int, *, drop_path: float = 0.0
    ) -> None:
        super().__init__(width, heads, hidden, drop_path=drop_path, gelu="tanh")
        self.times = times
        self.temporal_norm1 = layer_norm(width)
        self.temporal_attn = Attention(width, heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T x places, D) to the same; the places of a time step are neighbours."""
        tokens = tokens.unflatten(1, (self.times, -1))  # (B, T, P, D)
        over_time = self.temporal_attn(self.temporal_norm1(tokens).transpose(1, 2))
        tokens = tokens + self.drop_path(over_time.transpose(1, 2))
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        tokens = tokens.flatten(1, 2)
        added: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return added


class FactorisedHeads(Attention):
    """Let half of the heads attend over time and half over space (model 4)."""

    def __init__(self, width: int, heads: int, times: int) -> None:
        super().__init__(width, heads)
        if heads % 2:
            raise ParameterError(f"heads is {heads}; it must be even, half for time")
        self.times = times

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T x places, D) to the same."""
        half = self.heads // 2
        # (B, heads, T, P, D / heads)
        parts = [part.unflatten(2, (self.times, -1)) for part in self.heads_of(tokens)]
        time = nn.functional.scaled_dot_product_attention(
            *(part[:, :half].transpose(2, 3) for part in parts)
        ).transpose(2, 3)
        space = nn.functional.scaled_dot_product_attention(*(part[:, half:] for part in parts))
        return self.joined(torch.cat([time, space], dim=1).flatten(2, 3), tokens)
