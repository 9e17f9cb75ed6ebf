"""TimeSformer: a vision transformer whose attention is divided between time and space.

G. Bertasius, H. Wang, L. Torresani, "Is Space-Time Attention All You Need for Video
Understanding?", ICML 2021. As in the released code, the class token takes no part in the attention
over time, and each frame's copy of it is averaged after the attention over space. The layers have
the names of the release, so that its weights load directly.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models import transformer
from flowpipe.models.transformer import Attention, Block, from_torchvision, layer_norm

__all__ = ["DividedBlock", "TimeSformer", "from_torchvision", "own_names"]

AttentionKind = Literal["divided", "joint", "space"]


class TimeSformer(nn.Module):
    """Score clips with TimeSformer.

    Parameters
    ----------
    channels
        Channels of the input.
    classes
        Number of classes.
    frames
        Number of frames that the time embeddings are for; they are resized to clips of others.
    size
        Height and width of the frames; the position embeddings are resized to others.
    patch
        Side of a patch, in pixels.
    width, depth, heads
        Size of a token, number of blocks, number of heads; the defaults are ViT-B's.
    attention
        ``divided``: over time, then over space; ``joint``: over all tokens; ``space``: in each
        frame alone, and the frames are averaged.
    drop_path
        Probability with which the last block is skipped in training; earlier ones less often.

    Raises
    ------
    ParameterError
        A parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> network = TimeSformer(channels=2, classes=5, size=32, width=32, depth=2, heads=4).eval()
    >>> network(torch.zeros(1, 2, 8, 32, 32)).shape
    torch.Size([1, 5])
    """

    head_name = "head"
    """The last layer."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 400,
        *,
        frames: int = 8,
        size: int | tuple[int, int] = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        attention: AttentionKind = "divided",
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if attention not in ("divided", "joint", "space"):
            raise ParameterError(f"attention is {attention!r}; it must be divided, joint or space")
        height, wide = (size, size) if isinstance(size, int) else size
        if height % patch or wide % patch:
            raise ParameterError(f"size is {size}; it must be a multiple of the patch, {patch}")
        self.attention = attention
        self.n_features = width
        self.patch_embed = PatchEmbedding(channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.grid = (height // patch, wide // patch)
        self.tubelet = (1, patch, patch)
        self.token_grid = (frames, *self.grid)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], width))
        if attention != "space":
            self.time_embed = nn.Parameter(torch.zeros(1, frames, width))
        kind = DividedBlock if attention == "divided" else Block
        self.blocks = nn.ModuleList(
            kind(width, heads, 4 * width, drop_path=rate)
            for rate in transformer.drop_rates(drop_path, depth)
        )
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, classes)
        transformer.initialise(self)
        for block in self.blocks:
            # Silent attention over time: the network starts as a ViT on each frame.
            if isinstance(block, DividedBlock):
                nn.init.zeros_(block.temporal_fc.weight)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @property
    def plain_names(self) -> dict[str, str]:
        """Names of the weights that a vision transformer has, by the names here.

        Attention over time begins as a copy of that over space, as in the release.
        """
        return {
            name: name.replace("temporal_attn.", "attn.").replace("temporal_norm1.", "norm1.")
            for name in self.state_dict()
            if name != "time_embed" and "temporal_fc." not in name
        }

    def features(self, clips: Tensor) -> Tensor:
        """Return the class token of each clip: (B, C, T, H, W) -> (B, 1, D)."""
        tokens = self._encoded(self._tokens(clips))
        if self.attention == "space":
            tokens = tokens.mean(dim=1)
        normed: Tensor = self.norm(tokens)
        return normed[:, :1]

    def visible_tokens(self, clips: Tensor, places: Tensor) -> Tensor:
        """Encode some places of clips as if there were no others.

        Parameters
        ----------
        clips
            (B, C, T, H, W).
        places
            (B, K) indices of places, row by row.

        Returns
        -------
        (B, T, K, D)
        """
        tokens = self.norm(self._encoded(transformer.at_places(self._tokens(clips), places)))
        if self.attention == "space":
            return tokens[:, :, 1:]
        # The time steps of a place are neighbours.
        return tokens[:, 1:].unflatten(1, (places.shape[1], -1)).transpose(1, 2)

    def _tokens(self, clips: Tensor) -> Tensor:
        """Return the tokens of the patches of each frame with their places, (B, T, places, D)."""
        maps = self.patch_embed(clips.transpose(1, 2).flatten(0, 1))
        positions = self._positions((maps.shape[2], maps.shape[3]))
        tokens = maps.flatten(2).transpose(1, 2) + positions[:, 1:]
        return tokens.unflatten(0, (len(clips), -1))

    def _encoded(self, tokens: Tensor) -> Tensor:
        """Return all tokens after the blocks, before the normalisation.

        With attention in each frame alone (B, T, 1 + places, D), else (B, 1 + places x T, D).
        """
        batch, frames = tokens.shape[:2]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        if self.attention == "space":
            first = first[:, None].expand(-1, frames, -1, -1)
            tokens = torch.cat([first, tokens], dim=2).flatten(0, 1)
            for block in self.blocks:
                tokens = block(tokens)
            return tokens.unflatten(0, (batch, frames))
        # (B, h w, T, D): the time steps of a place are neighbours, as in the release.
        placed = tokens.transpose(1, 2) + self._times(frames)
        tokens = torch.cat([first, placed.flatten(1, 2)], dim=1)
        for block in self.blocks:
            is_divided = isinstance(block, DividedBlock)
            tokens = block(tokens, frames) if is_divided else block(tokens)
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.head(self.features(clips)[:, 0])
        return scores

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.grid:
            return self.pos_embed
        places = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, self.grid)
        resized = nn.functional.interpolate(places, size=grid, mode="nearest")
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)

    def _times(self, frames: int) -> Tensor:
        if frames == self.time_embed.shape[1]:
            return self.time_embed
        times = self.time_embed.transpose(1, 2)
        return nn.functional.interpolate(times, size=frames, mode="nearest").transpose(1, 2)


class PatchEmbedding(nn.Module):
    """Project the patches of frames to tokens."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, H / patch, W / patch)."""
        maps: Tensor = self.proj(frames)
        return maps


class DividedBlock(Block):
    """Add attention over time, attention over space and an MLP.

    The parameters are those of :class:`~flowpipe.models.transformer.Block`.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, drop_path: float = 0.0) -> None:
        super().__init__(width, heads, hidden, drop_path=drop_path)
        self.temporal_norm1 = layer_norm(width)
        self.temporal_attn = Attention(width, heads)
        self.temporal_fc = nn.Linear(width, width)

    def forward(self, tokens: Tensor, frames: int = 1) -> Tensor:
        """Map (B, 1 + places x T, D) to the same; the time steps of a place are neighbours."""
        first, places = tokens[:, :1], tokens[:, 1:].unflatten(1, (-1, frames))  # (B, P, T, D)
        over_time = self.drop_path(self.temporal_attn(self.temporal_norm1(places)))
        places = places + self.temporal_fc(over_time)
        per_frame = torch.cat(
            [first[:, None].expand(-1, frames, -1, -1), places.transpose(1, 2)], dim=2
        )
        over_space = self.drop_path(self.attn(self.norm1(per_frame)))  # (B, T, 1 + P, D)
        first = first + over_space[:, :, 0].mean(dim=1, keepdim=True)
        places = places + over_space[:, :, 1:].transpose(1, 2)
        tokens = torch.cat([first, places.flatten(1, 2)], dim=1)
        added: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return added


_HUGGING_FACE = (
    (r"^timesformer\.embeddings\.cls_token$", "cls_token"),
    (r"^timesformer\.embeddings\.position_embeddings$", "pos_embed"),
    (r"^timesformer\.embeddings\.time_embeddings$", "time_embed"),
    (r"^timesformer\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^timesformer\.encoder\.layer\.", "blocks."),
    (r"temporal_attention\.attention\.qkv\.", "temporal_attn.qkv."),
    (r"temporal_attention\.output\.dense\.", "temporal_attn.proj."),
    (r"temporal_layernorm\.", "temporal_norm1."),
    (r"temporal_dense\.", "temporal_fc."),
    (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^timesformer\.layernorm\.", "norm."),
    (r"^classifier\.", "head."),
    (r"^model\.", ""),
)


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of Hugging Face's or the release's TimeSformer under the names here."""
    return transformer.renamed(state, _HUGGING_FACE)
