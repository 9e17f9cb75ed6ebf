"""Segment consensus: scores of a clip from those of its snippets.

Temporal segment networks (Wang et al., ECCV 2016; PAMI 2019) train on the consensus, so that the
loss sees the clip and not the snippet. Their average is the default, their maximum and their
attention weighting are the alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.network import Consensus


class Average(nn.Module):
    """Return the mean over the segments."""

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return scores of the clips: (B, K, classes), (B, K, F) -> (B, classes)."""
        return scores.mean(dim=1)


class Maximum(nn.Module):
    """Return the largest score of each class over the segments."""

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return scores of the clips: (B, K, classes), (B, K, F) -> (B, classes)."""
        return scores.amax(dim=1)


class Attention(nn.Module):
    """Return the mean over the segments, with weights that are computed from their features.

    It starts as the plain mean.

    Parameters
    ----------
    n_features
        Size F of a feature.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.importance = nn.Linear(n_features, 1)
        nn.init.zeros_(self.importance.weight)
        nn.init.zeros_(self.importance.bias)

    def forward(self, scores: Tensor, features: Tensor) -> Tensor:
        """Return scores of the clips: (B, K, classes), (B, K, F) -> (B, classes)."""
        weights = torch.softmax(self.importance(features), dim=1)
        return (weights * scores).sum(dim=1)


def consensus(kind: Consensus, n_features: int) -> nn.Module:
    """Return the consensus of a name.

    Raises
    ------
    ParameterError
        There is none of that name.
    """
    match kind:
        case "average":
            return Average()
        case "max":
            return Maximum()
        case "attention":
            return Attention(n_features)
    raise ParameterError(
        f"consensus is {kind!r}; it must be one of {', '.join(get_args(Consensus))}"
    )


def mean_score(scores: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean probability of scores before the softmax; one as it is."""
    if len(scores) == 1:
        return scores[0]
    logs = torch.stack([nn.functional.log_softmax(each, dim=1) for each in scores])
    return torch.logsumexp(logs, dim=0) - math.log(len(scores))
