"""Temporal relations between frames (TRN), as the head of a 2-D network.

B. Zhou, A. Andonian, A. Oliva, A. Torralba, "Temporal Relational Reasoning in Videos", ECCV 2018.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError


class Relation(nn.Module):
    """Score the features of all frames of a clip, in their order, with one MLP (TRN).

    Parameters
    ----------
    n_features
        Size of a frame's feature.
    frames
        Number of frames K of a clip.
    classes
        Number of classes.
    hidden
        Size of the hidden layer.
    """

    def __init__(self, n_features: int, frames: int, classes: int, hidden: int = 512) -> None:
        super().__init__()
        self.frames = frames
        self.classifier = _mlp(n_features * frames, hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, K, F) to (B, classes)."""
        scores: Tensor = self.classifier(_checked(features, self.frames).flatten(1))
        return scores


class MultiScaleRelation(nn.Module):
    """Add the scores of relations between 2, 3, ... and all frames (multi-scale TRN).

    The tuples of a size share an MLP. In training, up to `draws` tuples of each size are drawn per
    forward pass; in evaluation all are used, so that a score does not depend on the draw (the
    released code draws in tests as well). In both cases, the scores of a size are their mean times
    the number of tuples that training uses: training and evaluation have the same scale.

    Parameters
    ----------
    n_features
        Size of a frame's feature.
    frames
        Number of frames K of a clip, at least 2.
    classes
        Number of classes.
    hidden
        Size of the hidden layer.
    draws
        Number of tuples per size and forward pass in training.

    Examples
    --------
    >>> import torch
    >>> head = MultiScaleRelation(n_features=4, frames=8, classes=3).eval()
    >>> head(torch.zeros(2, 8, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, n_features: int, frames: int, classes: int, hidden: int = 256, draws: int = 3
    ) -> None:
        super().__init__()
        if frames < 2 or draws < 1:
            raise ParameterError(
                f"frames is {frames} and draws {draws}; they must be at least 2 and 1"
            )
        self.frames = frames
        self.draws = draws
        # From all frames down to two, the order of the released weights.
        self.sizes = range(frames, 1, -1)
        self.fc_fusion_scales = nn.ModuleList(
            _mlp(n_features * size, hidden, classes) for size in self.sizes
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, K, F) to (B, classes)."""
        _checked(features, self.frames)
        scores = [
            self.score_tuples(features, scale, self._tuples(size))
            * min(self.draws, _count(self.frames, size))
            for scale, size in enumerate(self.sizes)
        ]
        return torch.stack(scores).sum(dim=0)

    def score_tuples(self, features: Tensor, scale: int, tuples: Tensor) -> Tensor:
        """Return the mean score of tuples of frames.

        Parameters
        ----------
        features
            (B, K, F).
        scale
            Index of the size of the tuples, from 0 for all frames to K - 2 for two.
        tuples
            (N, size) indices of frames, ascending in each row.

        Returns
        -------
        (B, classes).
        """
        chosen = features[:, tuples].flatten(2)  # (B, N, size x F)
        scores: Tensor = self.fc_fusion_scales[scale](chosen)
        return scores.mean(dim=1)

    def _tuples(self, size: int) -> Tensor:
        tuples = torch.tensor(list(combinations(range(self.frames), size)))
        if not self.training or len(tuples) <= self.draws:
            return tuples
        return tuples[torch.randperm(len(tuples))[: self.draws]]


def _mlp(inputs: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


def _count(frames: int, size: int) -> int:
    return sum(1 for _ in combinations(range(frames), size))


def _checked(features: Tensor, frames: int) -> Tensor:
    if features.shape[1] != frames:
        raise ParameterError(
            f"a clip has {features.shape[1]} frames; a temporal relation network must be trained "
            f"and tested with the same number, {frames} here"
        )
    return features
