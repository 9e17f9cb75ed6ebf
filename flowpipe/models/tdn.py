"""TDN: a ResNet that sees the differences of neighbouring frames and of segments.

L. Wang, Z. Tong, B. Ji, G. Wu, "TDN: Temporal Difference Networks for Efficient Action
Recognition", CVPR 2021. The layers have the names of the release, so that its weights load
directly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.temporal import Temporal, TemporalConvolution, set_frames

FIELDS = 5
"""Frames of a segment, whose middle one is the image and whose differences are the motion."""

_TEMPORAL = re.compile(r"\.(mse|shift)\.|^conv1_5\.1\.")


class SegmentDifference(Temporal):
    """Strengthen places that change between segments, at three scales and in both directions.

    Parameters
    ----------
    channels
        Channels of the maps.
    reduction
        One in how many channels remains where the segments are compared.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3_smallscale2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn3_smallscale2 = nn.BatchNorm2d(inner)
        self.conv3_smallscale4 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn3_smallscale4 = nn.BatchNorm2d(inner)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C, H, W)."""
        reduced = self.bn1(self.conv1(maps))
        here, smoothed = self.clips(reduced), self.clips(self.conv2(reduced))
        backward = nn.functional.pad(smoothed[:, :-1] - here[:, 1:], (0, 0, 0, 0, 0, 0, 1, 0))
        forward = self.change(smoothed.flatten(0, 1), reduced)
        gate = (self._gate(forward) + self._gate(backward.flatten(0, 1))) / 2
        return maps + maps * gate

    def _gate(self, change: Tensor) -> Tensor:
        halved = nn.functional.avg_pool2d(change, 2) if min(change.shape[2:]) > 1 else change
        halved = self.bn3_smallscale2(self.conv3_smallscale2(halved))
        halved = nn.functional.interpolate(halved, change.shape[2:])
        full = self.bn3_smallscale4(self.conv3_smallscale4(change))
        mean = (change + halved + full) / 3
        return torch.sigmoid(self.bn3(self.conv3(mean))) - 0.5


class DifferenceBlock(nn.Module):
    """Add a bottleneck, with what changes between segments where `temporal`."""

    def __init__(self, inputs: int, planes: int, stride: int = 1, *, temporal: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.mse = SegmentDifference(planes) if temporal else nn.Identity()
        self.shift = TemporalConvolution(planes, divisor=8) if temporal else nn.Identity()
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * planes, 1, stride), nn.BatchNorm2d(4 * planes))
            if stride > 1 or inputs != 4 * planes
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, 4 planes, H / stride, W / stride)."""
        hidden = nn.functional.relu(self.bn1(self.conv1(maps)), inplace=True)
        hidden = self.conv2(self.shift(self.mse(hidden)))
        hidden = nn.functional.relu(self.bn2(hidden), inplace=True)
        hidden = self.bn3(self.conv3(hidden))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return nn.functional.relu(hidden + shortcut, inplace=True)


class TDN(nn.Module):
    """Score clips of segments with a temporal difference network.

    Parameters
    ----------
    classes
        Number of classes.
    motion_channels
        Channels of the motion of a segment: 12, the differences of 5 RGB frames; or 2 L for L flow
        fields that take their place.
    blocks
        Number of blocks of each stage.
    planes
        A quarter of the channels of each stage.
    image_weight
        Weight of the image's maps where those of the motion are added; the paper takes 0.5 for 8
        segments and 0.75 for 16.
    dropout
        Probability with which a feature is dropped before the last layer.

    Examples
    --------
    >>> import torch
    >>> network = TDN(5, blocks=(1, 1, 1, 1), planes=(4, 16, 16, 16)).eval()
    >>> network(torch.zeros(2, 15, 8, 32, 32)).shape
    torch.Size([2, 5])
    """

    head_name = "fc"
    """The last layer."""
    first_channels = 3
    """Channels of the first convolution, which sees one frame of each segment."""

    def __init__(
        self,
        classes: int = 400,
        *,
        motion_channels: int = 12,
        blocks: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        image_weight: float = 0.5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.image_weight = image_weight
        self.motion_channels = motion_channels
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv1_5 = nn.Sequential(
            nn.Conv2d(motion_channels, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, (count, width) in enumerate(zip(blocks, planes, strict=True)):
            layers = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(DifferenceBlock(inputs, width, stride, temporal=stage > 0))
                inputs = 4 * width
            self.add_module(f"layer{stage + 1}_bak", nn.Sequential(*layers))
        inputs = 64
        motion = []
        for _ in range(blocks[0]):
            motion.append(DifferenceBlock(inputs, planes[0], temporal=False))
            inputs = 4 * planes[0]
        self.resnext_layer1 = nn.Sequential(*motion)
        self.n_features = 4 * planes[-1]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.n_features, classes)

    @property
    def plain_names(self) -> dict[str, str]:
        """The weights that a network of images has, too: see :func:`from_torchvision`."""
        names = [name for name in self.state_dict() if not _TEMPORAL.search(name)]
        return dict(zip(names, names, strict=True))

    def features(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return the feature of every segment: see :meth:`forward` -> (B, K, F)."""
        image, motion, frames = self._inputs(clips)
        set_frames(self, frames)
        weights = self.image_weight, 1 - self.image_weight
        motion = self.maxpool(self.conv1_5(nn.functional.avg_pool2d(motion, 2)))
        maps = self.maxpool(nn.functional.relu(self.bn1(self.conv1(image)), inplace=True))
        maps = weights[0] * maps + weights[1] * nn.functional.interpolate(motion, maps.shape[2:])
        maps = self.get_submodule("layer1_bak")(maps)
        motion = self.resnext_layer1(motion)
        maps = weights[0] * maps + weights[1] * nn.functional.interpolate(motion, maps.shape[2:])
        for stage in ("layer2_bak", "layer3_bak", "layer4_bak"):
            maps = self.get_submodule(stage)(maps)
        return maps.mean(dim=(2, 3)).unflatten(0, (-1, frames))

    def forward(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Return scores before the softmax, averaged over the segments.

        Parameters
        ----------
        clips
            (B, 15, K, H, W): 5 RGB frames of each of K segments; or ``{"rgb": (B, 3, K, H, W),
            "flow": (B, 2 L, K, H, W)}``, whose flow takes the place of the differences.

        Returns
        -------
        (B, classes).

        Raises
        ------
        ParameterError
            The clips have another number of channels.
        """
        scores: Tensor = self.fc(self.dropout(self.features(clips)))
        return scores.mean(dim=1)

    def _inputs(self, clips: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor, int]:
        if isinstance(clips, Tensor):
            if clips.shape[1] != 3 * FIELDS:
                raise ParameterError(
                    f"a clip has {clips.shape[1]} channels; tdn takes {3 * FIELDS}, "
                    f"{FIELDS} RGB frames per segment"
                )
            frames = clips.transpose(1, 2).flatten(0, 1).unflatten(1, (FIELDS, 3))
            return frames[:, FIELDS // 2], frames.diff(dim=1).flatten(1, 2), clips.shape[2]
        image, motion = (clips[name].transpose(1, 2).flatten(0, 1) for name in ("rgb", "flow"))
        return image, motion, clips["rgb"].shape[2]


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the release as they are, and those of a torchvision ResNet renamed."""
    return from_torchvision(state) if "layer1.0.conv1.weight" in state else state


def from_torchvision(state: dict[str, Tensor], motion_channels: int = 12) -> dict[str, Tensor]:
    """Return the weights of a torchvision ResNet under the names of :class:`TDN`.

    The first convolution of the motion is the mean of the image's over its channels; the first
    stage of the motion starts as the image's. The biases of the convolutions, which a torchvision
    ResNet does not have, are 0. The last layer and the temporal modules are left out.
    """
    result = {}
    for name, value in state.items():
        if name.startswith("fc."):
            continue
        stage, _, rest = name.partition(".")
        places = [name]
        if name.startswith("layer"):
            places = [f"{stage}_bak.{rest}"]
            if stage == "layer1":
                places.append(f"resnext_layer1.{rest}")
        for place in places:
            result[place] = value
            if value.ndim == 4:
                result[place.removesuffix("weight") + "bias"] = value.new_zeros(len(value))
    mean = state["conv1.weight"].mean(dim=1, keepdim=True)
    result["conv1_5.0.weight"] = mean.expand(-1, motion_channels, -1, -1).clone()
    return result
