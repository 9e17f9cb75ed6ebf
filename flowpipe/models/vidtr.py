"""VidTr-like separable attention over time and space, with frames that are dropped on the way.

After Y. Zhang et al., "VidTr: Video Transformer Without Convolutions", ICCV 2021: each block
attends over time, then over space, and after some blocks only the frames are kept whose attention
over time varies the most, in their order. No code was released; here the class token of each frame
is averaged over the frames that are left, and attention over time is silent at the start, as in
ViViT's model 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models import transformer
from flowpipe.models.timesformer import PatchEmbedding
from flowpipe.models.transformer import Attention, Block, layer_norm


class VidTr(nn.Module):
    """Score clips by separable attention.

    Parameters
    ----------
    channels
        Channels of a frame.
    classes
        Number of classes.
    frames, size
        Number of frames, and height and width of a clip.
    patch
        Side of a patch in pixels.
    width, depth, heads
        Size of a token, number of blocks, of heads; the defaults are ViT-B's.
    kept
        Number of frames that are kept after a block, by its number from 0.
    drop_path
        Probability with which the last block is skipped in training; earlier ones less often.

    Raises
    ------
    ParameterError
        A parameter is out of range, or a clip has another size than the network.

    Examples
    --------
    >>> import torch
    >>> network = VidTr(2, 5, frames=8, size=32, width=32, depth=2, heads=4, kept={0: 4}).eval()
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
        size: int = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        kept: Mapping[int, int] | None = None,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if size % patch:
            raise ParameterError(f"size is {size}; it must be a multiple of the patch, {patch}")
        self.kept = dict(kept or {})
        counts = [frames, *(self.kept[block] for block in sorted(self.kept))]
        if counts != sorted(counts, reverse=True) or counts[-1] < 1:
            raise ParameterError(
                f"kept is {self.kept}; of {frames} frames, fewer and fewer are left"
            )
        if any(not 0 <= block < depth for block in self.kept):
            raise ParameterError(f"kept is {self.kept}; there are {depth} blocks")
        self.n_features = width
        self.patch_embed = PatchEmbedding(channels, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        self.time_embed = nn.Parameter(torch.zeros(1, frames, width))
        self.blocks = nn.ModuleList(
            SeparableBlock(width, heads, 4 * width, drop_path=rate)
            for rate in transformer.drop_rates(drop_path, depth)
        )
        self.norm = layer_norm(width)
        self.head = nn.Linear(width, classes)
        transformer.initialise(self)
        for block in self.blocks:
            assert isinstance(block, SeparableBlock)
            nn.init.zeros_(block.temporal_attn.proj.weight)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    @property
    def plain_names(self) -> dict[str, str]:
        """Names of the weights that a vision transformer has, by the names here."""
        return {
            name: name
            for name in self.state_dict()
            if name != "time_embed" and "temporal_" not in name
        }

    def features(self, clips: Tensor) -> Tensor:
        """Return the feature of each clip: (B, C, T, H, W) -> (B, 1, D)."""
        maps = self.patch_embed(clips.transpose(1, 2).flatten(0, 1))
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        if tokens.shape[1] != self.pos_embed.shape[1] or clips.shape[2] != self.time_embed.shape[1]:
            raise ParameterError(
                f"a clip has {clips.shape[2]} frames of {tokens.shape[1] - 1} patches; this "
                f"network takes {self.time_embed.shape[1]} of {self.pos_embed.shape[1] - 1}"
            )
        tokens = (tokens + self.pos_embed).unflatten(0, (len(clips), -1))  # (B, T, 1 + P, D)
        tokens = tokens + self.time_embed[:, :, None]
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, self.kept.get(number))
        feature: Tensor = self.norm(tokens[:, :, 0]).mean(dim=1)
        return feature[:, None]

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.head(self.features(clips)[:, 0])
        return scores


class SeparableBlock(Block):
    """Add attention over time, attention over space and an MLP; perhaps keep some frames only.

    The parameters are those of :class:`~flowpipe.models.transformer.Block`.
    """

    def __init__(self, width: int, heads: int, hidden: int, *, drop_path: float = 0.0) -> None:
        super().__init__(width, heads, hidden, drop_path=drop_path)
        self.temporal_norm1 = layer_norm(width)
        self.temporal_attn = Attention(width, heads)

    def forward(self, tokens: Tensor, keep: int | None = None) -> Tensor:
        """Map (B, T, P, D) to the same, or to the `keep` frames that are kept."""
        normed = self.temporal_norm1(tokens).transpose(1, 2)  # (B, P, T, D)
        over_time = self.temporal_attn(normed).transpose(1, 2)
        tokens = tokens + self.drop_path(over_time)
        if keep is not None:
            chosen = varied_frames(self.temporal_attn, normed, keep)
            tokens = tokens[torch.arange(len(tokens), device=tokens.device)[:, None], chosen]
        added: Tensor = super().forward(tokens)
        return added


def varied_frames(attention: Attention, tokens: Tensor, count: int) -> Tensor:
    """Return the frames whose attention over time varies the most, in their order.

    Parameters
    ----------
    attention
        Over time.
    tokens
        (B, P, T, D) that it attends to.
    count
        Number of frames.

    Returns
    -------
    (B, count) int64
        Of each frame the standard deviation of its weights for all frames is taken, averaged over
        places and heads.
    """
    queries, keys, _ = attention.heads_of(tokens.detach())
    weights = torch.softmax(queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5, dim=-1)
    spread = weights.std(dim=-1, correction=0).mean(dim=(1, 2))  # (B, T)
    return spread.topk(count, dim=1).indices.sort(dim=1).values
