"""Names that other programs give to the weights of ViViT, and torchvision to those of ViT."""

from __future__ import annotations

import re

from torch import Tensor

from flowpipe.models import transformer

_SCENIC = (
    (r"^SpatialTransformer/", "encoder."),
    (r"^TemporalTransformer/", "temporal."),
    (r"^Transformer/", "encoder."),
    (r"^cls_SpatialTransformer$", "encoder.cls_token"),
    (r"^cls_TemporalTransformer$", "temporal.cls_token"),
    (r"^cls$", "encoder.cls_token"),
    (r"posembed_input/pos_embedding", "pos_embed"),
    (r"encoder_norm/", "norm."),
    (r"encoderblock_(\d+)/", r"blocks.\1."),
    (r"LayerNorm_(?:0|space)/", "norm1."),
    (r"LayerNorm_(?:1|mlp)/", "norm2."),
    (r"LayerNorm_time/", "temporal_norm1."),
    (r"MlpBlock(?:_0)?/Dense_0/", "mlp.fc1."),
    (r"MlpBlock(?:_0)?/Dense_1/", "mlp.fc2."),
    (r"MultiHeadDotProductAttention_(?:0|space)/", "attn."),
    (r"MultiHeadDotProductAttention_time/", "temporal_attn."),
    (r"^embedding/", "patch_embed."),
    (r"^output_projection/", "head."),
    (r"scale$", "weight"),
)
_HUGGING_FACE = (
    (r"^vivit\.embeddings\.cls_token$", "encoder.cls_token"),
    (r"^vivit\.embeddings\.position_embeddings$", "encoder.pos_embed"),
    (r"^vivit\.embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^vivit\.(?:encoder\.layer|layers)\.", "encoder.blocks."),
    # Version 4 of transformers, then version 5.
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"^vivit\.layernorm\.", "encoder.norm."),
    (r"^classifier\.", "head."),
)


_IMAGES = (
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^(cls_token$|pos_embed$|blocks\.|norm\.)", r"encoder.\1"),
)

_QKV = ("query", "key", "value")


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of Scenic's or Hugging Face's ViViT, or of torchvision's ViT, renamed.

    The names are those of :class:`~flowpipe.models.vivit.Vivit`.
    """
    if any("/" in name for name in state):
        return from_scenic(state)
    if "conv_proj.weight" in state:
        return from_torchvision(state)
    return from_hugging_face(state)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of torchvision's ViT under the names of this package."""
    return transformer.renamed(transformer.from_torchvision(state), _IMAGES)


def from_scenic(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of Scenic's ViViT under the names of this package.

    Parameters
    ----------
    state
        Weights by their path, such as ``Transformer/encoderblock_0/LayerNorm_0/scale``, in the
        axis order of JAX.
    """
    result = {}
    for name, value in transformer.renamed(state, _SCENIC).items():
        attention = re.fullmatch(r"(.*attn\.)(query|key|value|out)/(kernel|bias)", name)
        if attention:
            owner, role, part = attention.groups()
            name = f"{owner}{'proj' if role == 'out' else role}.{part}"
            # JAX keeps the heads apart: (in, heads, D / heads), and (heads, D / heads, out).
            if role == "out" and part == "kernel":
                value = value.flatten(0, 1)
            elif role != "out":
                value = value.flatten(-2)
        if name.endswith("kernel"):
            name = name.removesuffix("kernel") + "weight"
            value = value.permute(4, 3, 0, 1, 2) if value.ndim == 5 else value.T
        result[name] = value.contiguous()
    return transformer.with_joined_qkv(result, _QKV)


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of Hugging Face's ViViT (model 1) under the names of this package."""
    return transformer.with_joined_qkv(transformer.renamed(state, _HUGGING_FACE), _QKV)
