"""When TV-L1 stops iterating: the stopping criterion of OpenCV's CUDA solver, for all devices.

A warp has converged when the summed squared change of u in an iteration is at most `stop`, epsilon
squared times the number of pixels. The change is evaluated after the second iteration, and after
that only when it can have become small enough: a change e is taken to fall by `stop` with every
iteration, and iterations come in pairs. So the next evaluation is due in :func:`until_next`
iterations, and those in between need not compute the change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from numba.extending import register_jitable

if TYPE_CHECKING:
    from torch import Tensor

FIRST = 2
"""Number of iterations until the change is evaluated for the first time."""
MOST = 1_000_000
"""No evaluation is further away than twice this; `iterations` ends a warp long before."""


@register_jitable
def until_next(change: float, stop: float) -> int:
    """Return the number of iterations until the change is to be evaluated again.

    The Triton kernel has the same expression (:mod:`flowpipe.flow.kernels.cuda_loops`).

    Parameters
    ----------
    change
        Summed squared change of u in the last iteration.
    stop
        Threshold, more than 0.
    """
    return 2 * (int(min(change / (2 * stop), 1_000_000.0)) + 1)


def until_next_of_batch(change: Tensor, stop: float) -> Tensor:
    """Return :func:`until_next` for each pair of a batch, int64."""
    return 2 * ((change.double() / (2 * stop)).clamp(max=MOST).floor().long() + 1)
