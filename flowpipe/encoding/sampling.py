"""Which rows of which training clips the encoders are fitted on.

Every clip gives the same number of rows, and a clip that has fewer gives all it has; what it leaves
is shared among the others. Drawing uniformly from all rows instead would fit the encoder to the
classes that move most. The rows drawn from a clip depend on the seed, its name and the numbers
alone, not on the order of the clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError

Indices = NDArray[np.int64]


def balanced_counts(lengths: Sequence[int] | NDArray[np.integer], total: int) -> Indices:
    """How many rows each clip gives.

    Parameters
    ----------
    lengths
        Rows that each clip has, 0 or more.
    total
        Rows wanted.

    Returns
    -------
    (n,) int64
        At most `lengths`, summing to `total` or, where that is less, to all there are. Clips that
        keep something back differ by one row at most.

    Raises
    ------
    ParameterError
        A negative length, or `total` below 1.
    """
    have = np.asarray(lengths, np.int64)
    if total < 1:
        raise ParameterError(f"rows to sample is {total}; it must be at least 1")
    if have.size and have.min() < 0:
        raise ParameterError(f"a clip has {have.min()} rows; it must be 0 or more")
    counts = np.zeros_like(have)
    left = min(total, int(have.sum()))
    # From the shortest clip on, each takes its share of what the shorter ones have left.
    for done, clip in enumerate(np.argsort(have, kind="stable")):
        counts[clip] = min(int(have[clip]), left // (have.size - done))
        left -= int(counts[clip])
    return counts


def sample_rows(lengths: Mapping[str, int], total: int, seed: int) -> dict[str, Indices]:
    """Draw rows without repetition, balanced over the clips.

    Parameters
    ----------
    lengths
        Rows of each training clip, by its name.
    total
        Rows wanted; see :func:`balanced_counts`.
    seed
        The same seed draws the same rows.

    Returns
    -------
    dict
        By clip name, in the order of `lengths`: indices of rows, increasing, none for a clip
        without rows.
    """
    names = sorted(lengths)
    counts = dict(
        zip(names, balanced_counts([lengths[name] for name in names], total), strict=True)
    )
    return {name: _draw(name, lengths[name], int(counts[name]), seed) for name in lengths}


def _draw(name: str, length: int, count: int, seed: int) -> Indices:
    if count == length:
        return np.arange(length)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    rng = np.random.default_rng([int.from_bytes(digest, "little"), seed])
    return np.sort(rng.choice(length, count, replace=False)).astype(np.int64)
