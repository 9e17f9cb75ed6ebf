"""CNN-M-2048, the network of the first two-stream paper.

K. Chatfield, K. Simonyan, A. Vedaldi, A. Zisserman, "Return of the Devil in the Details", BMVC
2014; used by K. Simonyan and A. Zisserman, "Two-Stream Convolutional Networks for Action
Recognition in Videos", NIPS 2014. Local response normalisation has the constants of the released
model; pooling rounds up, as Caffe does.
"""

from __future__ import annotations

from torch import Tensor, nn

NAME = "cnn-m-2048"


class CnnM2048(nn.Module):
    """Five convolutions and three fully connected layers, 2048 features before the last.

    Parameters
    ----------
    channels
        Of the input.
    second_norm
        Normalise after the second convolution, as the spatial network does; the temporal one of
        the paper does not.
    """

    def __init__(self, channels: int = 3, *, second_norm: bool = True) -> None:
        super().__init__()
        norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 96, 7, stride=2),
            nn.ReLU(inplace=True),
            norm,
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(96, 256, 5, stride=2, padding=1),
            nn.ReLU(inplace=True),
            norm if second_norm else nn.Identity(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.Conv2d(256, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, 512, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            # The identity at the paper's 224 pixels; other sizes are brought to its 6 by 6.
            nn.AdaptiveAvgPool2d(6),
        )
        self.classifier = nn.Sequential(
            nn.Linear(512 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 2048),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(2048, 1000),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, 1000)."""
        maps: Tensor = self.features(images)
        scores: Tensor = self.classifier(maps.flatten(1))
        return scores
