"""Temporal modules inside a 2-D backbone, whose batch holds the frames of clips one after another.

A temporal module reshapes (B K, C, H, W) to (B, K, C, H, W) to see the K frames of each clip. K is
set before each forward pass (:func:`set_frames`) and never stored with the weights: a network that
was trained with 8 frames can be tested with 16, and the frames of two clips are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.regnet import ResBottleneckBlock
from torchvision.models.resnet import BasicBlock, Bottleneck

from flowpipe.errors import ParameterError
from flowpipe.models.non_local import NonLocal


class Temporal(nn.Module):
    """Base class of modules that see the frames of a clip.

    Attributes
    ----------
    frames : int
        Number of frames K of each clip in the batch; see :func:`set_frames`.
    """

    frames = 1

    def clips(self, maps: Tensor) -> Tensor:
        """Map (B K, ...) to (B, K, ...)."""
        if len(maps) % self.frames:
            raise ParameterError(
                f"a batch holds {len(maps)} frames; it must be a multiple of {self.frames} per clip"
            )
        return maps.unflatten(0, (-1, self.frames))

    def change(self, convolved: Tensor, maps: Tensor) -> Tensor:
        """Return the convolved maps of the next frame less the maps of each; 0 for the last.

        (B K, C, H, W) twice -> (B K, C, H, W).
        """
        change = self.clips(convolved)[:, 1:] - self.clips(maps)[:, :-1]
        return nn.functional.pad(change, (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)


def set_frames(network: nn.Module, frames: int) -> None:
    """Set the number of frames per clip of all temporal modules of a network."""
    for module in network.modules():
        if isinstance(module, Temporal):
            module.frames = frames


class TemporalShift(Temporal):
    """Shift part of the channels by a frame before a convolution (TSM).

    J. Lin, C. Gan, S. Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV
    2019. The first channels come from the next frame, as many more from the previous one; there are
    zeros at the ends of a clip. The online form shifts from the previous frame only, so that no
    frame depends on a later one.

    Parameters
    ----------
    net
        The convolution. It keeps this name, under which the released weights store it.
    divisor
        One in how many channels comes from the next frame, and one from the previous.
    online
        Shift from the previous frame only.

    Examples
    --------
    >>> import torch
    >>> shift = TemporalShift(torch.nn.Identity(), divisor=4)
    >>> shift.frames = 3
    >>> clip = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1).expand(3, 4, 1, 1)
    >>> shift(clip)[:, :, 0, 0].tolist()
    [[2.0, 0.0, 1.0, 1.0], [3.0, 1.0, 2.0, 2.0], [0.0, 2.0, 3.0, 3.0]]
    """

    def __init__(self, net: nn.Module, divisor: int = 8, *, online: bool = False) -> None:
        super().__init__()
        if divisor < 2:
            raise ParameterError(f"divisor is {divisor}; it must be at least 2")
        self.net = net
        self.divisor = divisor
        self.online = online

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C', H', W')."""
        convolved: Tensor = self.net(self.shift(maps))
        return convolved

    def shift(self, maps: Tensor) -> Tensor:
        """Return the shifted maps: (B K, C, H, W) -> (B K, C, H, W)."""
        clips = self.clips(maps)
        fold = clips.shape[2] // self.divisor
        shifted = torch.empty_like(clips)
        first = 0
        if not self.online:
            shifted[:, :-1, :fold] = clips[:, 1:, :fold]
            shifted[:, -1, :fold] = 0
            first = fold
        shifted[:, 1:, first : first + fold] = clips[:, :-1, first : first + fold]
        shifted[:, 0, first : first + fold] = 0
        shifted[:, :, first + fold :] = clips[:, :, first + fold :]
        return shifted.flatten(0, 1)


class TemporalConvolution(Temporal):
    """Convolve each channel over three frames.

    Parameters
    ----------
    channels
        Number of channels.
    divisor
        Start as a :class:`TemporalShift` with this divisor; None: start as the identity.
    """

    def __init__(self, channels: int, divisor: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        taps = torch.zeros(channels, 1, 3)
        fold = channels // divisor if divisor else 0
        taps[:fold, 0, 2] = 1
        taps[fold : 2 * fold, 0, 0] = 1
        taps[2 * fold :, 0, 1] = 1
        self.conv.weight.data.copy_(taps)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C, H, W)."""
        clips = self.clips(maps)  # (B, K, C, H, W)
        _, _, channels, height, width = clips.shape
        lines = clips.permute(0, 3, 4, 2, 1).reshape(-1, channels, self.frames)
        lines = self.conv(lines)
        lines = lines.view(-1, height, width, channels, self.frames)
        return lines.permute(0, 4, 3, 1, 2).flatten(0, 1)


class NonLocal2d(Temporal):
    """Apply a non-local block over the frames of each clip of a 2-D network.

    Parameters
    ----------
    channels
        Channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = NonLocal(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C, H, W)."""
        attended: Tensor = self.block(self.clips(maps).transpose(1, 2))
        return attended.transpose(1, 2).flatten(0, 1)


class MotionExcitation(Temporal):
    """Strengthen channels that change between frames (TEA).

    Y. Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", CVPR 2020.

    Parameters
    ----------
    channels
        Channels of the maps.
    reduction
        One in how many channels remains where the frames are compared.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C, H, W)."""
        reduced = self.bn1(self.conv1(maps))
        pooled = self.change(self.conv2(reduced), reduced).mean(dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(self.bn3(self.conv3(pooled))) - 0.5
        return maps + maps * gate


class SpatioTemporalMotion(Temporal):
    """Add channel-wise convolution over time and encoded motion to a 3 x 3 convolution (STM).

    B. Jiang et al., "STM: SpatioTemporal and Motion Encoding for Action Recognition", ICCV 2019. No
    code was released: where the paper leaves it open, the motion is averaged to the size of a
    strided convolution's output.

    Parameters
    ----------
    conv
        The 3 x 3 convolution of a bottleneck.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        inputs, outputs = conv.in_channels, conv.out_channels
        inner = max(1, inputs // 16)
        self.time = TemporalConvolution(inputs, divisor=8)
        self.conv = conv
        self.reduce = nn.Conv2d(inputs, inner, 1, bias=False)
        self.motion = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.expand = nn.Conv2d(inner, outputs, 1, bias=False)
        self.stride = conv.stride[0]

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B K, C, H, W) to (B K, C', H', W')."""
        reduced = self.reduce(maps)
        change = self.change(self.motion(reduced), reduced)
        if self.stride > 1:
            change = nn.functional.avg_pool2d(change, self.stride, ceil_mode=True)
        added: Tensor = self.conv(self.time(maps)) + self.expand(change)
        return added


Insert = Callable[[nn.Conv2d], nn.Module]


def wrap_first_convolutions(backbone: nn.Module, wrap: Insert) -> int:
    """Wrap the first convolution of every residual block of a 2-D network.

    Parameters
    ----------
    backbone
        A ResNet, ResNeXt, RegNet or MobileNetV2 of torchvision. As TSM does, every second block is
        wrapped where a stage has 23 blocks or more.
    wrap
        Return the module that takes the place of a convolution.

    Returns
    -------
    int
        The number of convolutions that were wrapped.

    Raises
    ------
    ParameterError
        The network has no residual blocks of a known kind.
    """
    wrapped = 0
    for parent, name in list(_first_convolutions(backbone)):
        setattr(parent, name, wrap(getattr(parent, name)))
        wrapped += 1
    if not wrapped:
        raise ParameterError(
            f"{type(backbone).__name__} has no residual blocks; take a ResNet, ResNeXt, RegNet or "
            "MobileNetV2"
        )
    return wrapped


def bottlenecks(backbone: nn.Module) -> list[Bottleneck]:
    """Return the bottleneck blocks of a ResNet of torchvision, of 50 layers or more.

    Raises
    ------
    ParameterError
        The network has none.
    """
    found = [module for module in backbone.modules() if isinstance(module, Bottleneck)]
    if not found:
        raise ParameterError(
            f"{type(backbone).__name__} has no bottlenecks; take a ResNet of 50 layers or more"
        )
    return found


def add_non_local(backbone: nn.Module) -> None:
    """Put five non-local blocks into the second and third stage of a ResNet, as in the paper.

    Raises
    ------
    ParameterError
        The network has no stages ``layer2`` and ``layer3``.
    """
    for stage, indices in (("layer2", (1, 3)), ("layer3", (1, 3, 5))):
        blocks = getattr(backbone, stage, None)
        if not isinstance(blocks, nn.Sequential):
            raise ParameterError(f"{type(backbone).__name__} has no {stage}; take a ResNet")
        for index in (index for index in indices if index < len(blocks)):
            block = blocks[index]
            last = [each for each in block.modules() if isinstance(each, nn.BatchNorm2d)]
            blocks[index] = nn.Sequential(block, NonLocal2d(last[-1].num_features))


def _first_convolutions(backbone: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield the parent and the name of the first convolution of every residual block."""
    for stage in backbone.modules():
        blocks = [
            block
            for block in stage.children()
            if isinstance(block, BasicBlock | Bottleneck | InvertedResidual | ResBottleneckBlock)
        ]
        step = 2 if len(blocks) >= 23 else 1
        for block in blocks[::step]:
            if isinstance(block, InvertedResidual):
                # Without an expansion the first convolution is the depthwise one.
                if block.use_res_connect and len(block.conv) > 3:
                    yield block.conv[0], "0"
            elif isinstance(block, ResBottleneckBlock):
                yield block.f.a, "0"
            else:
                yield block, "conv1"
