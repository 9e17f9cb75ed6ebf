"""Mix clips, average weights over steps, and compute batch statistics again.

H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. The exponential moving
average is that of ``torch.optim.swa_utils``. Precise batch normalisation: Y. Wu and J. Johnson,
"Rethinking 'Batch' in BatchNorm", 2021, whose authors' SlowFast code takes 200 batches.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flowpipe.models.stream import StreamNetwork


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


def moving_average(network: StreamNetwork, decay: float) -> AveragedModel:
    """Return a copy of a network that follows its weights and statistics at each step."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def trained_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisations whose statistics follow the batches."""
    return [each for each in network.modules() if isinstance(each, _BatchNorm) and each.training]


@torch.no_grad()
def compute_statistics(network: StreamNetwork, batches: Iterable[Tensor]) -> None:
    """Set the statistics of trained batch normalisations to their mean over batches.

    Parameters
    ----------
    network
        In training; frozen normalisations keep their statistics.
    batches
        Clips as the network takes them, (B, C, T, H, W).
    """
    norms = trained_norms(network)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then keeps the plain mean
    for clips in batches:
        network(clips)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
