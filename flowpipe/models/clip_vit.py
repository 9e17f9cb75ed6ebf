"""The image network of CLIP: a vision transformer, on each frame by itself.

A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML
2021. It has one layer normalisation more than the usual vision transformer, before the first block,
and another GELU. Weights load under the names of OpenAI, of Hugging Face's transformers and of timm
(EVL's, too). The projection into the space of texts, and the network of texts, are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models import transformer
from flowpipe.models.transformer import Block


class ClipVit(nn.Module):
    """Score the frames of clips with CLIP's image network.

    Parameters
    ----------
    channels
        Channels of a frame.
    classes
        Number of classes.
    size
        Height and width of frames.
    patch
        Side of a patch in pixels.
    width, depth, heads, hidden
        Size of a token, number of blocks, of heads, and of hidden units; the defaults are ViT-B's.

    Raises
    ------
    ParameterError
        A parameter is out of range, or frames have another size.

    Examples
    --------
    >>> import torch
    >>> network = ClipVit(3, 5, size=32, width=32, depth=2, heads=4, hidden=64).eval()
    >>> network.features(torch.zeros(1, 3, 8, 32, 32)).shape
    torch.Size([1, 8, 32])
    """

    head_name = "head"
    """The last layer."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 400,
        *,
        size: int | tuple[int, int] = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
    ) -> None:
        super().__init__()
        height, wide = (size, size) if isinstance(size, int) else size
        if height % patch or wide % patch:
            raise ParameterError(f"size is {size}; it must be a multiple of the patch, {patch}")
        self.grid = (height // patch, wide // patch)
        self.n_features = width
        self.conv = nn.Conv2d(channels, width, patch, stride=patch, bias=False)
        self.cls_token = nn.Parameter(torch.zeros(width))
        self.pos_embed = nn.Parameter(torch.zeros(1 + math.prod(self.grid), width))
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, gelu="quick") for _ in range(depth))
        for block in self.blocks.modules():
            if isinstance(block, nn.LayerNorm):
                block.eps = self.norm_pre.eps
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        transformer.initialise(self)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.02)

    def features(self, clips: Tensor) -> Tensor:
        """Return the class token of each frame: (B, C, T, H, W) -> (B, T, D)."""
        maps = self.conv(clips.transpose(1, 2).flatten(0, 1))
        if tuple(maps.shape[2:]) != self.grid:
            raise ParameterError(
                f"a frame has {maps.shape[2]} x {maps.shape[3]} patches, and the network positions "
                f"for {self.grid[0]} x {self.grid[1]}; give it frames of its own size"
            )
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), 1, -1), tokens], dim=1)
        tokens = self.norm_pre(tokens + self.pos_embed)
        for block in self.blocks:
            tokens = block(tokens)
        normed: Tensor = self.norm(tokens[:, 0])
        return normed.unflatten(0, (len(clips), -1))

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax, averaged over time: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.head(self.features(clips))
        return scores.mean(dim=1)


_OWN = (
    # OpenAI
    (r"^(?:class_embedding|embeddings\.class_embedding)$", "cls_token"),
    (r"^(?:positional_embedding|embeddings\.position_embedding\.weight)$", "pos_embed"),
    (r"^(?:conv1|embeddings\.patch_embedding|patch_embed\.proj)\.", "conv."),
    (r"^(?:pre_layrnorm|pre_layernorm|ln_pre)\.", "norm_pre."),
    (r"^(?:post_layernorm|ln_post)\.", "norm."),
    (r"^(?:transformer\.resblocks|encoder\.layers)\.", "blocks."),
    (r"\.(?:ln_|layer_norm)([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.self_attn\.", ".attn."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
)
_IMAGES = ("vision_model.", "visual.")
_LEFT_OUT = ("proj", "visual_projection.weight", "embeddings.position_ids")


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of OpenAI's, Hugging Face's, timm's or EVL's CLIP under the names here.

    What a file has of the network of texts is left out.
    """
    state = {name.removeprefix("clip."): value for name, value in state.items()}
    for prefix in _IMAGES:
        if any(name.startswith(prefix) for name in state):
            state = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
    state = {name: value for name, value in state.items() if name not in _LEFT_OUT}
    state = transformer.with_joined_qkv(
        transformer.renamed(state, _OWN), ("q_proj", "k_proj", "v_proj")
    )
    if state.get("cls_token", torch.empty(0)).ndim == 3:  # timm's
        state["cls_token"] = state["cls_token"][0, 0]
        state["pos_embed"] = state["pos_embed"].flatten(0, -2)
    weight = state.get("conv.weight")
    if weight is not None and weight.ndim == 2:  # EVL's: a linear layer on (RGB, y, x)
        side = math.isqrt(weight.shape[1] // 3)
        state["conv.weight"] = weight.unflatten(1, (3, side, side))
    return state
