"""TEA: Res2Net whose groups of channels are convolved over time, with motion excitation.

Y. Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", CVPR 2020; S.-H.
Gao et al., "Res2Net: A New Multi-scale Backbone Architecture", PAMI 2021. As in the released code,
the first block of each stage does not chain its groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowpipe.models.temporal import MotionExcitation, TemporalConvolution

GROUPS = 4


class TeaBlock(nn.Module):
    """Add a bottleneck with motion excitation and multiple temporal aggregation.

    Parameters
    ----------
    inputs, planes
        Channels of the input; a quarter of those of the output.
    stride
        Stride of the 3 x 3 convolutions.
    base_width
        Channels of a group where `planes` is 64.
    first
        The block begins a stage: its groups are not chained, and its shortcut is projected.
    """

    def __init__(
        self, inputs: int, planes: int, stride: int = 1, *, base_width: int = 26, first: bool
    ) -> None:
        super().__init__()
        width = planes * base_width // 64
        self.first = first
        self.conv1 = nn.Conv2d(inputs, width * GROUPS, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * GROUPS)
        self.me = MotionExcitation(width * GROUPS)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride, 1, bias=False) for _ in range(GROUPS - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(GROUPS - 1))
        # The last group, which has no convolution of its own, starts as a shift.
        self.shifts = nn.ModuleList(
            TemporalConvolution(width, divisor=2 if group == GROUPS - 1 else None)
            for group in range(GROUPS)
        )
        self.pool = nn.AvgPool2d(3, stride, 1) if first else None
        self.conv3 = nn.Conv2d(width * GROUPS, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )
            if first
            else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, 4 planes, H / stride, W / stride)."""
        hidden = self.me(nn.functional.relu(self.bn1(self.conv1(maps)), inplace=True))
        groups = hidden.chunk(GROUPS, dim=1)
        outputs: list[Tensor] = []
        for index in range(GROUPS - 1):
            group = groups[index]
            if outputs and not self.first:
                group = group + outputs[-1]
            group = self.convs[index](self.shifts[index](group))
            outputs.append(nn.functional.relu(self.bns[index](group), inplace=True))
        last = self.shifts[-1](groups[-1])
        outputs.append(last if self.pool is None else self.pool(last))
        added = self.bn3(self.conv3(torch.cat(outputs, dim=1)))
        shortcut = maps if self.downsample is None else self.downsample(maps)
        return nn.functional.relu(added + shortcut, inplace=True)


class TeaResNet(nn.Module):
    """Score frames with TEA's network of 50 layers.

    It is a 2-D backbone whose batch holds the frames of clips one after another; see
    :mod:`flowpipe.models.temporal`.

    Parameters
    ----------
    classes
        Number of classes.
    blocks
        Number of blocks of each stage.
    base_width
        Channels of a group in the first stage.
    """

    def __init__(
        self, classes: int = 1000, blocks: Sequence[int] = (3, 4, 6, 3), base_width: int = 26
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, count in enumerate(blocks):
            planes = 64 * 2**stage
            layers = []
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(
                    TeaBlock(inputs, planes, stride, base_width=base_width, first=index == 0)
                )
                inputs = 4 * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B K, 3, H, W) to (B K, classes)."""
        maps = self.maxpool(nn.functional.relu(self.bn1(self.conv1(frames)), inplace=True))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            maps = self.get_submodule(stage)(maps)
        scores: Tensor = self.fc(maps.mean(dim=(2, 3)))
        return scores
