"""The loss of clips that have classes, of one data set or of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def loss(
    scores: Tensor, labels: Tensor, classes: Sequence[int], *, smoothing: float = 0.0
) -> Tensor:
    """Return the cross entropy of each clip, among the classes of its own data set.

    Parameters
    ----------
    scores
        (B, classes of all sets).
    labels
        (B,) indices into them; for one set also the share of each class, (B, classes).
    classes
        Number of classes of each set.
    smoothing
        Share of a label that is spread over all classes; for one set.

    Returns
    -------
    (B,) losses.
    """
    if len(classes) > 1:
        scores = mask_other_sets(scores, labels, classes)
    return nn.functional.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing)


def mask_other_sets(scores: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return scores with those of other sets' classes set to minus infinity."""
    if len(classes) == 1:
        return scores
    of_class = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(list(classes)))
    of_class = of_class.to(scores.device)
    foreign = of_class[None, :] != of_class[labels][:, None]
    return scores.masked_fill(foreign, -torch.inf)
