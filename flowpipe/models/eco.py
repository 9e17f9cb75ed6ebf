"""ECO: a 2-D network per frame whose maps go through a 3-D network over all frames.

M. Zolfaghari, K. Singh, T. Brox, "ECO: Efficient Convolutional Network for Online Video
Understanding", ECCV 2018. The layers have the names of the release, so that its weights load
directly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.bn_inception import ECO_LAYER, BNInception

# Stages of the 3-D half: name, channels of the input and the output, stride.
_STAGES = (("res4", 128, 256), ("res5", 256, 512))


class ECO(BNInception):
    """Score clips of frames with ECO Lite, or with ECO Full.

    Parameters
    ----------
    channels
        Channels of a frame, as in :class:`~flowpipe.models.bn_inception.BNInception`.
    classes
        Number of classes.
    full
        Also average the 2-D network's features of the frames (ECO Full).
    dropout
        Probability with which a feature is dropped before the last layer.
    width
        Factor on the number of channels of every layer; 1 is the paper's.

    Raises
    ------
    ParameterError
        The number of frames is no multiple of 4.

    Examples
    --------
    >>> import torch
    >>> network = ECO(channels=3, classes=5, width=1 / 16).eval()
    >>> network(torch.zeros(1, 3, 4, 64, 64)).shape
    torch.Size([1, 5])
    """

    head_name = "fc_final"
    """The last layer."""

    def __init__(
        self,
        channels: int = 3,
        classes: int = 400,
        *,
        full: bool = False,
        dropout: float = 0.3,
        width: float = 1.0,
    ) -> None:
        super().__init__(channels, None, width=width, until="5b" if full else "3c")
        self.full = full
        if not full:
            # What follows the layer that the 3-D half takes is not part of ECO Lite.
            for name in list(self._modules):
                if name.startswith(("inception_3c_3x3", "inception_3c_double_3x3_2")):
                    delattr(self, name)
        self._convolution_3d("res3a_2", self._wide(96), 128, norm="res3a_bn")
        self._convolution_3d("res3b_1", self._wide(128), 128, norm="res3b_1_bn")
        self._convolution_3d("res3b_2", self._wide(128), 128, norm="res3b_bn")
        for name, inputs, outputs in _STAGES:
            self._convolution_3d(f"{name}a_1", self._wide(inputs), outputs, stride=2)
            self._convolution_3d(f"{name}a_2", self._wide(outputs), outputs, norm=f"{name}a_bn")
            self._convolution_3d(f"{name}a_down", self._wide(inputs), outputs, 2, norm="")
            self._convolution_3d(f"{name}b_1", self._wide(outputs), outputs)
            self._convolution_3d(f"{name}b_2", self._wide(outputs), outputs, norm=f"{name}b_bn")
        self.n_features = self._wide(512) + (self.n_features if full else 0)
        self.dropout = nn.Dropout(dropout)
        self.dropout_2d = nn.Dropout(0.5)
        self.fc_final = nn.Linear(self.n_features, classes)

    def _convolution_3d(
        self, name: str, inputs: int, count: int, stride: int = 1, *, norm: str | None = None
    ) -> None:
        outputs = self._wide(count)
        self.add_module(name, nn.Conv3d(inputs, outputs, 3, stride, 1))
        if norm != "":
            self.add_module(norm or f"{name}_bn", nn.BatchNorm3d(outputs))

    def features(self, clips: Tensor) -> Tensor:
        """Return the feature of each clip: (B, C, T, H, W) -> (B, 1, F)."""
        frames = clips.shape[2]
        if frames % 4:
            raise ParameterError(f"a clip has {frames} frames; eco takes a multiple of 4")
        maps = self.stem(clips.transpose(1, 2).flatten(0, 1))
        for name in ("3a", "3b"):
            maps = self.apply_module(name, maps)
        shared = self.apply_layer("inception_3c_double_3x3_reduce", maps)
        shared = self.apply_layer(ECO_LAYER, shared)
        feature = self._over_time(shared.unflatten(0, (-1, frames)).transpose(1, 2))
        if self.full:
            for name in self.inception_modules[2:]:
                maps = self.apply_module(name, maps)
            per_frame = self.dropout_2d(maps.mean(dim=(2, 3))).unflatten(0, (-1, frames))
            feature = torch.cat([per_frame.mean(dim=1), feature], dim=1)
        return feature[:, None]

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.fc_final(self.dropout(self.features(clips)[:, 0]))
        return scores

    def _over_time(self, maps: Tensor) -> Tensor:
        """Apply the 3-D half: (B, 96, T, H, W) -> (B, 512)."""
        # The shortcuts carry what comes before a normalisation.
        shortcut = self.get_submodule("res3a_2")(maps)
        maps = self._norm("res3a_bn", shortcut)
        first = self.get_submodule("res3b_1")(maps)
        maps = self.get_submodule("res3b_2")(self._norm("res3b_1_bn", first))
        maps = self._norm("res3b_bn", maps + shortcut)
        for name, _, _ in _STAGES:
            first = self.get_submodule(f"{name}a_1")(maps)
            first = self.get_submodule(f"{name}a_2")(self._norm(f"{name}a_1_bn", first))
            shortcut = first + self.get_submodule(f"{name}a_down")(maps)
            maps = self._norm(f"{name}a_bn", shortcut)
            second = self.get_submodule(f"{name}b_1")(maps)
            second = self.get_submodule(f"{name}b_2")(self._norm(f"{name}b_1_bn", second))
            maps = self._norm(f"{name}b_bn", second + shortcut)
        return maps.mean(dim=(2, 3, 4))

    def _norm(self, name: str, maps: Tensor) -> Tensor:
        normed: Tensor = nn.functional.relu(self.get_submodule(name)(maps))
        return normed
