"""Mix clips, average weights over steps, and compute batch statistics again.

H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. The exponential moving
average is that of ``torch.optim.swa_utils``. Precise batch normalisation: Y. Wu and J. Johnson,
"Rethinking 'Batch' in BatchNorm", 2021, whose authors' SlowFast code takes 200 batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flowpipe.models.trainable import Trainable
from flowpipe.training.distributed import Group


def mix(
    snippets: Tensor, labels: Tensor, n_classes: int, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mix clips with others of the batch.

    Parameters
    ----------
    snippets
        (B, K, C, H, W).
    labels
        (B,) classes.
    n_classes
        Number of classes.
    alpha
        Of the beta distribution of the shares; more than 0.
    rng
        Draws the share and the partners.

    Returns
    -------
    Tensor, Tensor
        Mixed clips, and the share of each class in each: (B, classes). A clip's own share is at
        least a half.
    """
    drawn = float(rng.beta(alpha, alpha))
    share = max(drawn, 1 - drawn)
    partners = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
    own = nn.functional.one_hot(labels, n_classes).float()
    shares = own.lerp(own[partners], 1 - share)
    return snippets.lerp(snippets[partners], 1 - share), shares


def moving_average(network: Trainable, decay: float) -> AveragedModel:
    """Return a copy of a network that follows its weights and statistics at each step."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def trained_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisations whose statistics follow the batches."""
    return [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]


@torch.no_grad()
def compute_statistics(
    network: Trainable, batches: Iterable[Any], group: Group | None = None
) -> None:
    """Set the statistics of trained batch normalisations to those of all values of the batches.

    The variance is that of all batches combined, as in the appendix of Wu and Johnson: it has the
    spread of the batches' means too, which the mean of the batches' variances lacks, and which
    matters where batches are small. A batch counts by its size.

    Parameters
    ----------
    network
        In training; frozen normalisations keep their statistics.
    batches
        Clips as the network takes them, (B, C, T, H, W).
    group
        Processes that have batches of their own each; all get the statistics of all batches.
    """
    norms = trained_norms(network)
    momenta = [norm.momentum for norm in norms]
    moments = [_Moments(norm) for norm in norms]
    hooks = []
    for norm, own in zip(norms, moments, strict=True):
        norm.reset_running_stats()
        norm.momentum = 1.0  # torch then keeps the statistics of the last batch
        hooks.append(norm.register_forward_hook(own.add))
    try:
        for clips in batches:
            network(clips)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, own in zip(norms, moments, strict=True):
        if group is not None:
            own.sums = group.total(own.sums)
        own.store(norm)


class _Moments:
    """Sums over the batches that a normalisation has seen, from which its statistics follow."""

    def __init__(self, norm: _BatchNorm) -> None:
        mean, _ = _statistics(norm)
        # Number of values, their sums and the sums of their squares, (3, F).
        self.sums = mean.new_zeros((3, len(mean)), dtype=torch.float64)

    def add(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add the batch whose statistics the normalisation has just stored."""
        assert isinstance(norm, _BatchNorm)
        mean, variance = _statistics(norm)
        count = inputs[0].numel() // norm.num_features
        # torch stores the variance with the divisor count - 1.
        squares = mean.double() ** 2 * count + variance.double() * (count - 1)
        self.sums += torch.stack([torch.full_like(squares, count), mean.double() * count, squares])

    def store(self, norm: _BatchNorm) -> None:
        """Set the statistics of the normalisation, if it has seen a batch."""
        count, values, squares = self.sums
        if not count[0]:
            return
        mean, variance = _statistics(norm)
        total = values / count
        spread = (squares - total**2 * count) / (count - 1).clamp(min=1)
        mean.copy_(total)
        variance.copy_(spread.clamp(min=0))


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance
