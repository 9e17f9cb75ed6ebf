"""DeepVideo: four ways to join the frames of a clip in a 2-D network.

A. Karpathy et al., "Large-scale Video Classification with Convolutional Neural Networks", CVPR
2014. No weights were released; the column here is the paper's, and `single` and `early` exist for
any backbone as a segment network of one RGB stack.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from flowpipe.errors import ParameterError

Joining = Literal["single", "early", "late", "slow"]

LATE_DISTANCE = 15
"""Frames between the two columns of late fusion."""
FRAMES = {"single": 1, "early": 10, "late": LATE_DISTANCE + 1, "slow": 10}
"""Frames that each network takes."""


class DeepVideo(nn.Module):
    """Score clips with a network of DeepVideo.

    Parameters
    ----------
    joining
        How frames are joined: ``single``: there is one; ``early``: in the first convolution;
        ``late``: two columns, 15 frames apart, in the first fully connected layer; ``slow``: in
        steps over the first three convolutions.
    channels
        Channels of a frame.
    classes
        Number of classes.
    width
        Factor on the number of channels of every layer; 1 is the paper's.

    Raises
    ------
    ParameterError
        The way of joining is unknown, or a clip has another number of frames.

    Examples
    --------
    >>> import torch
    >>> network = DeepVideo("slow", channels=2, classes=5, width=1 / 16).eval()
    >>> network(torch.zeros(1, 2, 10, 170, 170)).shape
    torch.Size([1, 5])
    """

    head_name = "fc8"
    """The last layer."""

    def __init__(
        self,
        joining: Joining = "slow",
        channels: int = 3,
        classes: int = 487,
        *,
        width: float = 1.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if joining not in FRAMES:
            raise ParameterError(f"joining is {joining!r}; it must be one of {', '.join(FRAMES)}")
        self.joining = joining
        self.frames = FRAMES[joining]

        def wide(count: int) -> int:
            return max(1, int(count * width))

        # Extent and stride in time of the first three convolutions: 10 -> 4 -> 2 -> 1 frames.
        times = ((4, 2), (2, 2), (2, 1)) if joining == "slow" else ((1, 1),) * 3
        if joining == "early":
            times = ((self.frames, 1), *times[1:])
        self.conv1 = nn.Conv3d(channels, wide(96), (times[0][0], 11, 11), (times[0][1], 3, 3))
        self.conv2 = nn.Conv3d(
            wide(96), wide(256), (times[1][0], 5, 5), (times[1][1], 1, 1), (0, 2, 2)
        )
        self.conv3 = nn.Conv3d(wide(256), wide(384), (times[2][0], 3, 3), padding=(0, 1, 1))
        self.conv4 = nn.Conv3d(wide(384), wide(384), (1, 3, 3), padding=(0, 1, 1))
        self.conv5 = nn.Conv3d(wide(384), wide(256), (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        columns = 2 if joining == "late" else 1
        self.n_features = wide(4096)
        self.fc6 = nn.Linear(columns * wide(256) * 6 * 6, self.n_features)
        self.fc7 = nn.Linear(self.n_features, self.n_features)
        self.fc8 = nn.Linear(self.n_features, classes)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def maps(self, clips: Tensor) -> Tensor:
        """Return the maps of the last convolution: (B, C, T, H, W) -> (B, 256, T', 6, 6)."""
        maps = clips
        for index in range(1, 6):
            maps = nn.functional.relu(self.get_submodule(f"conv{index}")(maps), inplace=True)
            if index <= 2:
                maps = self.norm(maps)
            if index in (1, 2, 5):
                maps = nn.functional.max_pool3d(maps, (1, 2, 2))
        # The identity at the paper's 170 pixels; other sizes are brought to its 6 by 6.
        return nn.functional.adaptive_avg_pool3d(maps, (maps.shape[2], 6, 6))

    def features(self, clips: Tensor) -> Tensor:
        """Return the output of the second hidden layer: (B, C, T, H, W) -> (B, 1, F)."""
        if clips.shape[2] != self.frames:
            raise ParameterError(
                f"a clip has {clips.shape[2]} frames; "
                f"deepvideo with {self.joining} joining takes {self.frames}"
            )
        if self.joining == "late":
            # The two columns share their weights: one batch.
            columns = clips[:, :, [0, -1]].transpose(1, 2).flatten(0, 1)[:, :, None]
            maps = self.maps(columns).unflatten(0, (-1, 2))
        else:
            maps = self.maps(clips)
        hidden = self.dropout(nn.functional.relu(self.fc6(maps.flatten(1))))
        return nn.functional.relu(self.fc7(hidden))[:, None]

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        scores: Tensor = self.fc8(self.dropout(self.features(clips)[:, 0]))
        return scores
