"""Convolutional fusion of a spatial and a temporal stream.

C. Feichtenhofer, A. Pinz, A. Zisserman, "Convolutional Two-Stream Network Fusion for Video Action
Recognition", CVPR 2016, with the released initial weights: a 3-D convolution joins the last maps of
both streams at several instants and starts as .25 of the spatial and .75 of the temporal map,
smoothed by a Gaussian. The temporal stream keeps a head of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError

SPATIAL_SHARE = 0.25
"""Part of the spatial map in what the fusion starts with; the rest is the temporal map's."""


class FusedScores(NamedTuple):
    """Scores before the softmax, each (B, classes)."""

    fused: Tensor
    temporal: Tensor


class StreamFusion(nn.Module):
    """Score clips by two streams that are joined at their last maps.

    Parameters
    ----------
    spatial, temporal
        Networks that return the last maps of a frame and of a flow stack: (N, C, H, W) ->
        (N, F, H', W'), with the same F and size.
    n_maps
        F.
    classes
        Number of classes.
    hidden
        Size of the two hidden layers of each head; VGG's is 4096. None: there are none, as suits
        backbones that end with an average.
    dropout
        Probability with which a feature is dropped.

    Examples
    --------
    >>> import torch
    >>> streams = [torch.nn.Conv2d(channels, 8, 3, padding=1) for channels in (3, 20)]
    >>> network = StreamFusion(*streams, n_maps=8, classes=5).eval()
    >>> clip = {"rgb": torch.zeros(2, 3, 5, 14, 14), "flow": torch.zeros(2, 20, 5, 14, 14)}
    >>> network(clip).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        spatial: nn.Module,
        temporal: nn.Module,
        n_maps: int,
        classes: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.85,
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal
        self.fuse = nn.Conv3d(2 * n_maps, n_maps, 3, padding=1)
        with torch.no_grad():
            self.fuse.weight.copy_(initial_fusion(n_maps))
            assert self.fuse.bias is not None
            self.fuse.bias.zero_()
        self.n_features = hidden or n_maps
        self.head = _head(n_maps, classes, hidden, dropout)
        self.temporal_head = _head(n_maps, classes, hidden, dropout)

    def scores(self, clips: Mapping[str, Tensor]) -> FusedScores:
        """Return the scores of both heads, for the two losses of training; see :meth:`forward`."""
        frames = _instants(clips)
        maps = [
            stream(clips[name].transpose(1, 2).flatten(0, 1))
            .unflatten(0, (-1, frames))
            .transpose(1, 2)
            for name, stream in (("rgb", self.spatial), ("flow", self.temporal))
        ]
        if maps[0].shape != maps[1].shape:
            raise ParameterError(
                f"the streams' maps have shapes {tuple(maps[0].shape)} and "
                f"{tuple(maps[1].shape)}; they must be equal"
            )
        fused = nn.functional.relu(self.fuse(torch.cat(maps, dim=1)), inplace=True)
        return FusedScores(self.head(_pooled(fused)), self.temporal_head(_pooled(maps[1])))

    def forward(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return the logarithm of the mean of both heads' softmax.

        Parameters
        ----------
        clips
            ``{"rgb": (B, 3, K, H, W), "flow": (B, 2 L, K, H, W)}``: K frames, and the flow around
            each.

        Returns
        -------
        (B, classes). A softmax of it gives the mean of the two heads' probabilities.
        """
        both = torch.stack([nn.functional.log_softmax(each, dim=1) for each in self.scores(clips)])
        return torch.logsumexp(both, dim=0)


def initial_fusion(n_maps: int, spatial_share: float = SPATIAL_SHARE) -> Tensor:
    """Return the weights that the fusion starts with, (F, 2 F, 3, 3, 3).

    Each output is the share of the spatial and of the temporal map of the same channel, smoothed by
    a Gaussian of unit deviation along time, height and width.
    """
    steps = torch.arange(-1.0, 2.0) ** 2
    gaussian = torch.exp(-(steps[:, None, None] + steps[:, None] + steps) / 2)
    shares = torch.cat(
        [spatial_share * torch.eye(n_maps), (1 - spatial_share) * torch.eye(n_maps)], dim=1
    )
    return shares[:, :, None, None, None] * (gaussian / gaussian.sum())


def _instants(clips: Mapping[str, Tensor]) -> int:
    if clips["rgb"].shape[2] != clips["flow"].shape[2]:
        raise ParameterError(
            f"a clip has {clips['rgb'].shape[2]} frames and {clips['flow'].shape[2]} flow stacks; "
            "they must be of the same instants"
        )
    return clips["rgb"].shape[2]


def _pooled(maps: Tensor) -> Tensor:
    """Take the maximum over all instants and 2 x 2 places: (B, F, K, H, W) -> (B, F, H', W')."""
    size = min(2, *maps.shape[3:])
    return nn.functional.max_pool3d(maps, (maps.shape[2], size, size))[:, :, 0]


def _head(n_maps: int, classes: int, hidden: int | None, dropout: float) -> nn.Sequential:
    if hidden is None:
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(n_maps, classes)
        )
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(n_maps * 7 * 7, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )
