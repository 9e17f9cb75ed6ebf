"""BN-Inception, the backbone of temporal segment networks and of ECO.

S. Ioffe and C. Szegedy, "Batch Normalization", ICML 2015. The layers have the names of the networks
released with TSN and ECO, so that their weights load directly. Inputs are in BGR order, with the
mean (104, 117, 128) subtracted; pools round up and count the padding, as in Caffe.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

NAME = "bn-inception"

ECO_LAYER = "inception_3c_double_3x3_1"
"""The layer whose maps ECO passes on to its 3-D half."""


class Inception(NamedTuple):
    """Channels of an Inception module; 0 where it lacks a branch."""

    direct: int
    reduce: int
    out: int
    double_reduce: int
    double_1: int
    double_2: int
    pool: Literal["average", "max", "strided"]
    pool_proj: int


MODULES = {
    "3a": Inception(64, 64, 64, 64, 96, 96, "average", 32),
    "3b": Inception(64, 64, 96, 64, 96, 96, "average", 64),
    "3c": Inception(0, 128, 160, 64, 96, 96, "strided", 0),
    "4a": Inception(224, 64, 96, 96, 128, 128, "average", 128),
    "4b": Inception(192, 96, 128, 96, 128, 128, "average", 128),
    "4c": Inception(160, 128, 160, 128, 160, 160, "average", 128),
    "4d": Inception(96, 128, 192, 160, 192, 192, "average", 128),
    "4e": Inception(0, 128, 192, 192, 256, 256, "strided", 0),
    "5a": Inception(352, 192, 320, 160, 224, 224, "average", 128),
    "5b": Inception(352, 192, 320, 192, 224, 224, "max", 128),
}


class BNInception(nn.Module):
    """Score frames or stacks with BN-Inception.

    Parameters
    ----------
    channels
        Channels of the input.
    classes
        Number of classes; None leaves out the last layer.
    width
        Factor on the number of channels of every layer; 1 is the paper's.
    until
        The last module to build, such as ``3c``; ECO needs no others.

    Examples
    --------
    >>> import torch
    >>> network = BNInception(channels=10, classes=5, width=1 / 16).eval()
    >>> network(torch.zeros(1, 10, 64, 64)).shape
    torch.Size([1, 5])
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int | None = 1000,
        *,
        width: float = 1.0,
        until: str = "5b",
    ) -> None:
        super().__init__()
        self.width = width
        self._convolution("conv1_7x7_s2", channels, 64, 7, stride=2)
        self._convolution("conv2_3x3_reduce", self._wide(64), 64, 1)
        self._convolution("conv2_3x3", self._wide(64), 192, 3)
        inputs = self._wide(192)
        self.inception_modules: list[str] = []
        for name, module in MODULES.items():
            self.inception_modules.append(name)
            inputs = self._inception(f"inception_{name}", inputs, module)
            if name == until:
                break
        self.n_features = inputs
        if classes is not None:
            self.fc = nn.Linear(inputs, classes)

    def _wide(self, count: int) -> int:
        return max(1, int(count * self.width)) if count else 0

    def _convolution(
        self, name: str, inputs: int, count: int, kernel: int, *, stride: int = 1
    ) -> int:
        outputs = self._wide(count)
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs))
        return outputs

    def _inception(self, name: str, inputs: int, module: Inception) -> int:
        """Add the layers of a module; return the channels of its output."""
        stride = 2 if module.pool == "strided" else 1
        total = inputs if module.pool == "strided" else 0
        if module.direct:
            total += self._convolution(f"{name}_1x1", inputs, module.direct, 1)
        reduced = self._convolution(f"{name}_3x3_reduce", inputs, module.reduce, 1)
        total += self._convolution(f"{name}_3x3", reduced, module.out, 3, stride=stride)
        reduced = self._convolution(f"{name}_double_3x3_reduce", inputs, module.double_reduce, 1)
        once = self._convolution(f"{name}_double_3x3_1", reduced, module.double_1, 3)
        total += self._convolution(f"{name}_double_3x3_2", once, module.double_2, 3, stride=stride)
        if module.pool_proj:
            total += self._convolution(f"{name}_pool_proj", inputs, module.pool_proj, 1)
        return total

    def apply_layer(self, name: str, maps: Tensor) -> Tensor:
        """Apply a convolution, its normalisation and a ReLU."""
        normed = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(maps))
        return nn.functional.relu(normed, inplace=True)

    def stem(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 192, H / 8, W / 8)."""
        maps = self.apply_layer("conv1_7x7_s2", images)
        maps = nn.functional.max_pool2d(maps, 3, 2, ceil_mode=True)
        maps = self.apply_layer("conv2_3x3", self.apply_layer("conv2_3x3_reduce", maps))
        return nn.functional.max_pool2d(maps, 3, 2, ceil_mode=True)

    def apply_module(self, name: str, maps: Tensor) -> Tensor:
        """Apply an Inception module by its name, such as ``3a``."""
        module, layer = MODULES[name], f"inception_{name}"
        branches = []
        if module.direct:
            branches.append(self.apply_layer(f"{layer}_1x1", maps))
        branches.append(
            self.apply_layer(f"{layer}_3x3", self.apply_layer(f"{layer}_3x3_reduce", maps))
        )
        double = self.apply_layer(f"{layer}_double_3x3_reduce", maps)
        for part in ("1", "2"):
            double = self.apply_layer(f"{layer}_double_3x3_{part}", double)
        branches.append(double)
        match module.pool:
            case "strided":
                branches.append(nn.functional.max_pool2d(maps, 3, 2, ceil_mode=True))
            case "max":
                pooled = nn.functional.max_pool2d(maps, 3, 1, 1, ceil_mode=True)
                branches.append(self.apply_layer(f"{layer}_pool_proj", pooled))
            case "average":
                pooled = nn.functional.avg_pool2d(maps, 3, 1, 1, ceil_mode=True)
                branches.append(self.apply_layer(f"{layer}_pool_proj", pooled))
        return torch.cat(branches, dim=1)

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps of the last module: (N, C, H, W) -> (N, 1024, H / 32, W / 32)."""
        maps = self.stem(images)
        for name in self.inception_modules:
            maps = self.apply_module(name, maps)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return scores before the softmax: (N, C, H, W) -> (N, classes)."""
        scores: Tensor = self.fc(self.maps(images).mean(dim=(2, 3)))
        return scores
