"""I3D: Inception-v1 inflated to three dimensions.

J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
CVPR 2017. The layers have the names of the PyTorch port that most projects use, so that weights in
that form load directly. Convolutions and pools pad as TensorFlow's "SAME" does, which puts the odd
pixel at the end; a network with symmetric padding gives other numbers from the first layer on.
"""

from __future__ import annotations

import re
from collections import OrderedDict

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.flat_conv import FlatConv3d

Triple = tuple[int, int, int]

# Per module: 1x1 | 3x3 reduction, 3x3 | 3x3 reduction, 3x3 | 1x1 after the pool.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


class I3D(nn.Module):
    """Score clips with I3D.

    Parameters
    ----------
    channels
        Channels of the input: 3 for RGB, 2 for flow, both in -1 to 1.
    classes
        Number of classes.
    dropout
        Probability with which a feature is dropped before the last layer.
    width
        Factor on the number of channels of every layer; 1 is the paper's.

    Raises
    ------
    ParameterError
        A parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> network = I3D(channels=2, classes=5, width=1 / 16).eval()
    >>> network(torch.zeros(1, 2, 16, 64, 64)).shape
    torch.Size([1, 5])
    """

    head_name = "logits"
    """The last layer."""

    @staticmethod
    def from_images(state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of torchvision's GoogLeNet under the names here, as they are.

        It has the same layers on input of the same range, but pads symmetrically.
        """
        return own_names(state)

    def __init__(
        self, channels: int = 3, classes: int = 400, *, dropout: float = 0.5, width: float = 1.0
    ) -> None:
        super().__init__()
        if channels < 1 or classes < 1 or width <= 0:
            raise ParameterError(
                f"channels is {channels}, classes {classes}, width {width}; all must be positive"
            )

        def wide(count: int) -> int:
            return max(1, int(count * width))

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["Conv3d_1a_7x7"] = Unit(channels, wide(64), (7, 7, 7), (2, 2, 2))
        layers["MaxPool3d_2a_3x3"] = MaxPoolSame((1, 3, 3), (1, 2, 2))
        layers["Conv3d_2b_1x1"] = Unit(wide(64), wide(64), (1, 1, 1))
        layers["Conv3d_2c_3x3"] = Unit(wide(64), wide(192), (3, 3, 3))
        layers["MaxPool3d_3a_3x3"] = MaxPoolSame((1, 3, 3), (1, 2, 2))
        features = wide(192)
        for name, counts in _MIXED.items():
            if name == "4b":
                layers["MaxPool3d_4a_3x3"] = MaxPoolSame((3, 3, 3), (2, 2, 2))
            if name == "5b":
                layers["MaxPool3d_5a_2x2"] = MaxPoolSame((2, 2, 2), (2, 2, 2))
            mixed = Mixed(features, *(wide(count) for count in counts))
            layers[f"Mixed_{name}"] = mixed
            features = mixed.out_channels
        self._stages = tuple(layers)
        for name, module in layers.items():
            self.add_module(name, module)
        self.dropout = nn.Dropout(dropout)
        self.logits = Unit(features, classes, (1, 1, 1), plain=True)
        self.n_features = features

    def stages(self, clips: Tensor) -> dict[str, Tensor]:
        """Return the output of every stage, by its name, each (B, C, T, H, W)."""
        outputs = {}
        for name in self._stages:
            clips = self.get_submodule(name)(clips)
            outputs[name] = clips
        return outputs

    def features(self, clips: Tensor) -> Tensor:
        """Return features per time step: (B, C, T, H, W) -> (B, T', F).

        Each is the mean over two steps of the last stage (one, where there is only one) and over
        space: 8 frames of the input per step.
        """
        return self._pooled(clips).mean(dim=(3, 4)).transpose(1, 2)

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax, averaged over time: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.logits(self.dropout(self._pooled(clips)))
        return scores.mean(dim=(2, 3, 4))

    def _pooled(self, clips: Tensor) -> Tensor:
        for name in self._stages:
            clips = self.get_submodule(name)(clips)
        # The released head takes 7 x 7 maps; smaller inputs are averaged over what they have.
        kernel = [min(size, most) for size, most in zip(clips.shape[2:], (2, 7, 7), strict=True)]
        return nn.functional.avg_pool3d(clips, kernel, stride=1)


class Unit(nn.Module):
    """Apply a convolution, batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs
        Channels.
    kernel, stride
        Sizes in (T, H, W).
    plain
        Apply the convolution alone, with a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        *,
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.conv3d = FlatConv3d(inputs, outputs, kernel, stride, bias=plain)
        # The momentum of the release, .999, is torch's .001.
        self.bn = None if plain else nn.BatchNorm3d(outputs, eps=1e-3, momentum=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps of the next layer: (B, C, T, H, W) -> (B, C', T', H', W')."""
        kernel, stride = self.conv3d.kernel_size, self.conv3d.stride
        before, after = _same_padding(maps, kernel, stride)
        if before == after:
            # The convolution pads by itself, without a copy of the maps.
            maps = self.conv3d.padded_by(before, maps)
        else:
            maps = self.conv3d(_padded(maps, before, after))
        return maps if self.bn is None else nn.functional.relu(self.bn(maps), inplace=True)


class MaxPoolSame(nn.MaxPool3d):
    """Take the maximum, with the padding of TensorFlow's "SAME".

    The padding is zero, not minus infinity: after a ReLU this is the same.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled maps: (B, C, T, H, W) -> (B, C, T', H', W')."""
        return super().forward(_padded(maps, *_same_padding(maps, self.kernel_size, self.stride)))


class Mixed(nn.Module):
    """Concatenate the four branches of an Inception module."""

    def __init__(
        self,
        inputs: int,
        direct: int,
        reduced: int,
        convolved: int,
        reduced_more: int,
        convolved_more: int,
        pooled: int,
    ) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = Unit(inputs, direct, one)
        self.b1a = Unit(inputs, reduced, one)
        self.b1b = Unit(reduced, convolved, three)
        self.b2a = Unit(inputs, reduced_more, one)
        self.b2b = Unit(reduced_more, convolved_more, three)
        self.b3a = MaxPoolSame(three, one)
        self.b3b = Unit(inputs, pooled, one)
        self.out_channels = direct + convolved + convolved_more + pooled

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps of the next layer: (B, C, T, H, W) -> (B, C', T, H, W)."""
        branches = (
            self.b0(maps),
            self.b1b(self.b1a(maps)),
            self.b2b(self.b2a(maps)),
            self.b3b(self.b3a(maps)),
        )
        return torch.cat(branches, dim=1)


_GOOGLENET = {
    "conv1": "Conv3d_1a_7x7",
    "conv2": "Conv3d_2b_1x1",
    "conv3": "Conv3d_2c_3x3",
    **{
        f"inception{number}": f"Mixed_{own}"
        for number, own in zip("3a 3b 4a 4b 4c 4d 4e 5a 5b".split(), _MIXED, strict=True)
    },
    "branch1": "b0",
    "branch2.0": "b1a",
    "branch2.1": "b1b",
    "branch3.0": "b2a",
    "branch3.1": "b2b",
    "branch4.1": "b3b",
    "fc.weight": "logits.conv3d.weight",
    "fc.bias": "logits.conv3d.bias",
}


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of torchvision's GoogLeNet under the names of :class:`I3D`.

    Weights of pytorch-i3d have these names already and are returned as they are.
    """
    if "inception5b.branch1.conv.weight" not in state:
        return state
    renamed = {}
    for full, value in state.items():
        name = full.replace(".conv.", ".conv3d.")
        for theirs, own in _GOOGLENET.items():
            name = re.sub(rf"\b{re.escape(theirs)}(?=\.|$)", own, name)
        renamed[name] = value
    return renamed


def _same_padding(maps: Tensor, kernel: object, stride: object) -> tuple[list[int], list[int]]:
    """Return the padding before and after T, H and W that TensorFlow's "SAME" adds."""
    before, after = [], []
    for size, extent, step in zip(maps.shape[2:], _triple(kernel), _triple(stride), strict=True):
        total = max((-(-size // step) - 1) * step + extent - size, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before, after


def _triple(value: object) -> Triple:
    assert isinstance(value, tuple)
    assert len(value) == 3
    return value


def _padded(maps: Tensor, before: list[int], after: list[int]) -> Tensor:
    if not any(before) and not any(after):
        return maps
    # torch takes the last axis first.
    pairs = [size for axis in (2, 1, 0) for size in (before[axis], after[axis])]
    return nn.functional.pad(maps, pairs)
