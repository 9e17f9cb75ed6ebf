"""Non-local blocks: every position of a clip attends to every other.

X. Wang, R. Girshick, A. Gupta, K. He, "Non-local Neural Networks", CVPR 2018, in its embedded
Gaussian and its dot-product form. The scores are scaled by the root of the number of channels, as
in the released configurations. A new block is the identity, because the weight of its normalisation
starts at zero: it can be put into a trained network.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.flat_conv import FlatConv3d


class NonLocal(nn.Module):
    """Add to each position a weighted sum over all positions.

    Parameters
    ----------
    channels
        Channels of the maps.
    inner
        Channels of the embeddings; by default half of `channels`.
    pool
        Kernel (T, H, W) of the maximum over the positions that are attended to; None for all.
    form
        ``softmax``, the embedded Gaussian, or ``dot``, the dot product over the number of
        positions.

    Raises
    ------
    ParameterError
        The form is unknown.

    Examples
    --------
    >>> import torch
    >>> maps = torch.randn(1, 8, 4, 6, 6)
    >>> bool((NonLocal(8)(maps) == maps).all())
    True
    """

    def __init__(
        self,
        channels: int,
        inner: int | None = None,
        *,
        pool: tuple[int, int, int] | None = (1, 2, 2),
        form: Literal["softmax", "dot"] = "softmax",
    ) -> None:
        super().__init__()
        if form not in ("softmax", "dot"):
            raise ParameterError(f"form is {form!r}; it must be softmax or dot")
        inner = inner or max(1, channels // 2)
        self.form = form
        self.conv_theta = FlatConv3d(channels, inner, 1)
        self.conv_phi = FlatConv3d(channels, inner, 1)
        self.conv_g = FlatConv3d(channels, inner, 1)
        self.conv_out = FlatConv3d(inner, channels, 1)
        self.bn = nn.BatchNorm3d(channels)
        self.pool = nn.MaxPool3d(pool) if pool else None
        for layer in (self.conv_theta, self.conv_phi, self.conv_g, self.conv_out):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.bn.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps with what they attend to added: (B, C, T, H, W) -> (B, C, T, H, W)."""
        pooled = self.pool(maps) if self.pool else maps
        # (B, positions, inner)
        queries = self.conv_theta(maps).flatten(2).transpose(1, 2)
        keys = self.conv_phi(pooled).flatten(2).transpose(1, 2)
        values = self.conv_g(pooled).flatten(2).transpose(1, 2)
        if self.form == "softmax":
            attended = nn.functional.scaled_dot_product_attention(queries, keys, values)
        else:
            # keys^T values first: linear in the number of positions, where the scores are square.
            attended = queries @ (keys.transpose(1, 2) @ values / keys.shape[1])
        attended = attended.transpose(1, 2).unflatten(2, maps.shape[2:])
        added: Tensor = maps + self.bn(self.conv_out(attended))
        return added
