"""An LSTM over the frames of a clip (LRCN), as the head of a 2-D network.

J. Donahue et al., "Long-term Recurrent Convolutional Networks for Visual Recognition and
Description", CVPR 2015.
"""

from __future__ import annotations

from torch import Tensor, nn


class Recurrent(nn.Module):
    """Score every frame of a clip by an LSTM over the frames up to it.

    The state starts at zero with each clip. The score of a clip is the mean over its frames.

    Parameters
    ----------
    n_features
        Size of a frame's feature.
    classes
        Number of classes.
    hidden
        Size of the state.
    dropout
        Probability with which an output of the LSTM is dropped.

    Examples
    --------
    >>> import torch
    >>> head = Recurrent(n_features=4, classes=3)
    >>> head.per_frame(torch.zeros(2, 16, 4)).shape
    torch.Size([2, 16, 3])
    """

    def __init__(
        self, n_features: int, classes: int, hidden: int = 256, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        for name, weight in self.lstm.named_parameters():
            if name.startswith("weight"):
                nn.init.uniform_(weight, -0.01, 0.01)
            else:
                nn.init.zeros_(weight)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, classes)

    def per_frame(self, features: Tensor) -> Tensor:
        """Return scores that depend on no later frame: (B, K, F) -> (B, K, classes)."""
        scores: Tensor = self.fc(self.dropout(self.lstm(features)[0]))
        return scores

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, K, F) to (B, classes)."""
        return self.per_frame(features).mean(dim=1)
