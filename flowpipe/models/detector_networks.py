"""Networks that score the present of a sequence of features, besides OadTR: an LSTM, a probe."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.models.oadtr import Detection, OadTR


class LinearDetector(nn.Module):
    """Score each step by itself: a linear probe of the features.

    Parameters
    ----------
    n_features, classes
        Size of a step's feature; number of classes, with the background.
    """

    steps = 1

    def __init__(self, n_features: int, classes: int) -> None:
        super().__init__()
        self.now = nn.Linear(n_features, classes)

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, F) to scores of the last step; of no later one."""
        scores = self.now(features[:, -1])
        return Detection(scores, scores[:, None][:, :0])


class LstmDetector(nn.Module):
    """Score the last step by the state of an LSTM that has read the window.

    Parameters
    ----------
    n_features, classes
        Size of a step's feature; number of classes, with the background.
    steps
        Number of steps of a window.
    width, depth
        Size of the state, number of layers.
    dropout
        Probability with which units are dropped, before the first and after the last layer.
    """

    def __init__(
        self,
        n_features: int,
        classes: int,
        *,
        steps: int = 64,
        width: int = 1024,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.linear_encoding = nn.Linear(n_features, width)
        self.lstm = nn.LSTM(width, width, depth, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.now = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, F) to scores of the last step; of no later one."""
        encoded = self.dropout(torch.relu(self.linear_encoding(features)))
        states, _ = self.lstm(encoded)
        scores = self.now(self.dropout(states[:, -1]))
        return Detection(scores, scores[:, None][:, :0])


class Standardised(nn.Module):
    """Give a detector features of mean 0 and variance 1.

    Parameters
    ----------
    network
        The detector.
    n_features
        Size of a step's feature.

    Attributes
    ----------
    mean, scale
        (n_features,) mean and standard deviation of the features of training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, n_features: int) -> None:
        super().__init__()
        self.network = network
        self.steps = network.steps
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def measure(self, features: Tensor) -> None:
        """Take mean and deviation of (N, n_features); what does not vary keeps its scale."""
        deviation, mean = torch.std_mean(features.double(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, n_features) to scores."""
        found: Detection = self.network((features - self.mean) / self.scale)
        return found


def oadtr(n_features: int, classes: int, *, width: int, **options: Any) -> OadTR:
    """Return OadTR whose hidden layers are as wide as its tokens, as they are published."""
    return OadTR(n_features, classes, width=width, hidden=width, decoder_hidden=width, **options)
