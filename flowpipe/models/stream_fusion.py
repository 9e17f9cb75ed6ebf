"""Convolutional fusion of a spatial and a temporal stream.

C. Feichtenhofer, A. Pinz, A. Zisserman, "Convolutional Two-Stream Network Fusion for Video Action
Recognition", CVPR 2016, as the released code has it: the last maps of both streams at K instants
are joined by a 3-D convolution, which starts as .25 of the spatial and .75 of the temporal map,
smoothed by a Gaussian. The largest fused value of the K instants goes on through the upper layers
of the spatial stream; the temporal stream goes on alone, in the same way. Both are trained, each
with a loss of its own, and the mean of their probabilities is the score.

The paper draws its 5 instants 5 to 15 frames apart; here they are one of each of K equal parts of
the clip, as in all networks that relate segments.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.consensus import mean_score
from flowpipe.models.cut import above, above_names, below
from flowpipe.models.flat_conv import FlatConv3d
from flowpipe.models.temporal import set_frames

SPATIAL_SHARE = 0.25
"""Part of the spatial map in what the fusion starts with; the rest is the temporal map's."""


class StreamFusion(nn.Module):
    """Join two 2-D networks at their last maps.

    Parameters
    ----------
    rgb, flow
        Networks of the same kind without their last layer, one for frames and one for stacks of
        flow; see :mod:`flowpipe.models.cut` for the kinds.
    n_maps
        Number F of their last maps.
    n_features
        Number of features that they make of the maps.

    Attributes
    ----------
    first_channels : int
        Number of channels of a frame.

    Examples
    --------
    >>> import torch, torchvision
    >>> streams = [torchvision.models.resnet18(num_classes=1) for _ in range(2)]
    >>> streams[1].conv1 = torch.nn.Conv2d(20, 64, 7, stride=2, padding=3)
    >>> for stream in streams:
    ...     stream.fc = torch.nn.Identity()
    >>> network = StreamFusion(*streams, n_maps=512, n_features=512).eval()
    >>> clip = {"rgb": torch.zeros(2, 3, 5, 64, 64), "flow": torch.zeros(2, 20, 5, 64, 64)}
    >>> network.features(clip).shape
    torch.Size([2, 2, 512])
    """

    head_name = "fc"
    first_channels = 3

    def __init__(self, rgb: nn.Module, flow: nn.Module, *, n_maps: int, n_features: int) -> None:
        super().__init__()
        self.rgb = rgb
        self.flow = flow
        self.n_features = n_features
        self.fuse = FlatConv3d(2 * n_maps, n_maps, 3, padding=1)
        with torch.no_grad():
            self.fuse.weight.copy_(initial_fusion(n_maps))
            assert self.fuse.bias is not None
            self.fuse.bias.zero_()

    @property
    def streams(self) -> dict[str, nn.Module]:
        """The 2-D networks by what they see."""
        return {"rgb": self.rgb, "flow": self.flow}

    def upper_names(self) -> set[str]:
        """Return the names of the fusion's weights and of those above it."""
        upper = above_names(self.rgb)
        return {
            name
            for name, _ in self.named_parameters()
            if name.startswith("fuse.") or name.partition(".")[2].startswith(upper)
        }

    def features(self, clips: Mapping[str, Tensor]) -> Tensor:
        """Return the features of the fused maps and of the temporal stream.

        Parameters
        ----------
        clips
            ``{"rgb": (B, 3, K, H, W), "flow": (B, 2 L, K, H, W)}``: K frames, and the flow around
            each.

        Returns
        -------
        (B, 2, F'): fused, temporal.
        """
        frames = _instants(clips)
        maps = {}
        for name, stream in self.streams.items():
            set_frames(stream, frames)
            images = below(stream, clips[name].transpose(1, 2).flatten(0, 1))
            maps[name] = images.unflatten(0, (-1, frames)).transpose(1, 2)
        fused = nn.functional.relu(self.fuse(torch.cat([maps["rgb"], maps["flow"]], dim=1)))
        # With the pooling above the cut, this is the 3-D pooling of the paper.
        pooled = (above(self.rgb, fused.amax(dim=2)), above(self.flow, maps["flow"].amax(dim=2)))
        return torch.stack(pooled, dim=1)


class BothHeads(nn.Module):
    """Score the fused and the temporal features, each with a layer of its own.

    Parameters
    ----------
    n_features
        Size of a feature.
    classes
        Number of classes.
    """

    def __init__(self, n_features: int, classes: int) -> None:
        super().__init__()
        self.fused = nn.Linear(n_features, classes)
        self.flow = nn.Linear(n_features, classes)
        for layer in (self.fused, self.flow):
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.zeros_(layer.bias)

    def each(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores before the softmax of both, each (B, classes), for their losses."""
        return self.fused(features[:, 0]), self.flow(features[:, 1])

    def forward(self, features: Tensor) -> Tensor:
        """Return the logarithm of the mean of both softmaxes: (B, 2, F) -> (B, classes)."""
        return mean_score(self.each(features))


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
