"""The E step of a mixture as dense matrix products in torch, for a GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK = 16384
"""Rows per block; their posteriors take 16 MiB at K = 256."""
_LEAST = -80.0
"""Smallest log of a posterior relative to the row's largest: above denormal numbers."""


def weighted_sums(
    rows: NDArray[np.floating], theta: NDArray[np.float64], device: str
) -> tuple[NDArray[np.float64], float]:
    """Return the posterior-weighted sums of ``(x, x^2, 1)`` and the log-likelihood.

    Parameters
    ----------
    rows
        (n, D); multiplied in their own type, float32 or float64. TF32 is used only where
        ``torch.backends.cuda.matmul.allow_tf32`` has been set.
    theta
        (2 D + 1, K); see :class:`flowpipe.encoding.gmm.DiagonalGmm`.
    device
        A torch device, such as ``cuda``.

    Returns
    -------
    (K, 2 D + 1) float64 and float
    """
    kind = torch.float64 if rows.dtype == np.float64 else torch.float32
    coefficients = torch.as_tensor(theta, device=device, dtype=kind)
    sums = torch.zeros(theta.T.shape, device=device, dtype=torch.float64)
    likelihood = torch.zeros((), device=device, dtype=torch.float64)
    for first in range(0, len(rows), BLOCK):
        block = np.ascontiguousarray(rows[first : first + BLOCK])
        x = torch.from_numpy(block).to(device, kind)
        phi = torch.cat([x, x * x, torch.ones_like(x[:, :1])], dim=1)
        logits = phi @ coefficients
        largest = logits.amax(dim=1, keepdim=True)
        weights = torch.exp(torch.clamp(logits - largest, min=_LEAST))
        total = weights.sum(dim=1, keepdim=True)
        sums += (weights / total).T @ phi
        likelihood += (largest.double() + torch.log(total.double())).sum()
    return sums.cpu().numpy(), float(likelihood)
