"""C3D: eight convolutions of 3 x 3 x 3.

D. Tran, L. Bourdev, R. Fergus, L. Torresani, M. Paluri, "Learning Spatiotemporal Features with 3D
Convolutional Networks", ICCV 2015. Its input is 16 consecutive frames of 112 x 112; its features
are the outputs of the layer fc6, which the paper normalises to length 1 and gives to a linear SVM.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from flowpipe.errors import ParameterError

FRAMES, SIZE = 16, 112

_CHANNELS = {
    "conv1a": 64,
    "conv2a": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}
# Names of the layers in the other widespread port, in the order of _CHANNELS.
_OTHER_NAMES = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")


class C3D(nn.Module):
    """Score clips of 16 frames of 112 x 112 with C3D.

    Parameters
    ----------
    channels
        Channels of the input.
    classes
        Number of classes.
    dropout
        Probability with which a feature is dropped after each of the two hidden layers.
    width
        Factor on the number of channels of every layer; 1 is the paper's.

    Raises
    ------
    ParameterError
        A parameter is out of range, or a clip has another size.

    Examples
    --------
    >>> import torch
    >>> network = C3D(channels=2, classes=5, width=1 / 16).eval()
    >>> network(torch.zeros(1, 2, 16, 112, 112)).shape
    torch.Size([1, 5])
    """

    head_name = "fc8"
    """The last layer."""

    def __init__(
        self, channels: int = 3, classes: int = 487, *, dropout: float = 0.5, width: float = 1.0
    ) -> None:
        super().__init__()
        if channels < 1 or classes < 1 or width <= 0:
            raise ParameterError(
                f"channels is {channels}, classes {classes}, width {width}; all must be positive"
            )
        inputs = channels
        for name, count in _CHANNELS.items():
            outputs = max(1, int(count * width))
            self.add_module(name, nn.Sequential(OrderedDict(conv=_convolution(inputs, outputs))))
            inputs = outputs
        self.n_features = max(1, int(4096 * width))
        self.fc6 = nn.Linear(inputs * 4 * 4, self.n_features)
        self.fc7 = nn.Linear(self.n_features, self.n_features)
        self.fc8 = nn.Linear(self.n_features, classes)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7, self.fc8):
            nn.init.normal_(layer.weight, std=0.005)
            nn.init.zeros_(layer.bias)

    def maps(self, clips: Tensor) -> Tensor:
        """Return the maps of the last pool: (B, C, 16, 112, 112) -> (B, 512, 1, 4, 4)."""
        if clips.shape[2:] != (FRAMES, SIZE, SIZE):
            raise ParameterError(
                f"a clip has T, H, W = {tuple(clips.shape[2:])}; "
                f"c3d takes {(FRAMES, SIZE, SIZE)} only"
            )
        for name in _CHANNELS:
            clips = nn.functional.relu(self.get_submodule(name)(clips), inplace=True)
            if name == "conv1a":
                clips = nn.functional.max_pool3d(clips, (1, 2, 2))
            elif name in ("conv2a", "conv3b", "conv4b"):
                clips = nn.functional.max_pool3d(clips, 2)
        # 7 x 7 maps are padded, so that the last pool leaves 4 x 4.
        return nn.functional.max_pool3d(clips, 2, padding=(0, 1, 1))

    def descriptors(self, clips: Tensor) -> Tensor:
        """Return the output of fc6 after the ReLU: (B, C, 16, 112, 112) -> (B, 4096)."""
        return nn.functional.relu(self.fc6(self.maps(clips).flatten(1)))

    def layer_features(self, clips: Tensor, layer: str) -> Tensor:
        """Return the output of fc6 or fc7 after the ReLU: (B, C, 16, 112, 112) -> (B, 1, 4096)."""
        return self.descriptors(clips)[:, None] if layer == "fc6" else self.features(clips)

    def features(self, clips: Tensor) -> Tensor:
        """Return the output of fc7 after the ReLU: (B, C, 16, 112, 112) -> (B, 1, 4096)."""
        hidden = self.dropout(self.descriptors(clips))
        return nn.functional.relu(self.fc7(hidden))[:, None]

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, 16, 112, 112) -> (B, classes)."""
        scores: Tensor = self.fc8(self.dropout(self.features(clips)[:, 0]))
        return scores


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a widespread port under the names of :class:`C3D`.

    Parameters
    ----------
    state
        Weights whose convolutions are called ``conv1.weight``, or ``conv1a.conv.weight`` as here.
    """
    renamed = {
        f"{other}.{part}": f"{name}.conv.{part}"
        for other, name in zip(_OTHER_NAMES, _CHANNELS, strict=True)
        for part in ("weight", "bias")
    }
    return {renamed.get(name, name): value for name, value in state.items()}


def _convolution(inputs: int, outputs: int) -> nn.Conv3d:
    made = nn.Conv3d(inputs, outputs, 3, padding=1)
    nn.init.normal_(made.weight, std=0.01)
    assert made.bias is not None
    nn.init.zeros_(made.bias)
    return made
