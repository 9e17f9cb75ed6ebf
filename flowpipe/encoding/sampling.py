"""Sample the rows of the training clips that encoders are fitted to.

Every clip gives the same number of rows; a clip with fewer rows gives all of them, and the others
give more. A uniform sample of all rows would favour the classes that move most. Which rows are
drawn from a clip depends on the seed, its name and its number of rows, not on the order of clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError

Indices = NDArray[np.int64]


def balanced_counts(lengths: Sequence[int] | NDArray[np.integer], total: int) -> Indices:
    """Return how many rows each clip gives.

    Parameters
    ----------
    lengths
        Number of rows of each clip, 0 or more.
    total
        Number of rows to sample.

    Returns
    -------
    (n,) int64
        At most `lengths`, with the sum `total` or, where that is less, the sum of `lengths`. Clips
        that do not give all of their rows differ by one row at most.

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
    # From the shortest clip on, each gives an equal share of what is still needed.
    for done, clip in enumerate(np.argsort(have, kind="stable")):
        counts[clip] = min(int(have[clip]), left // (have.size - done))
        left -= int(counts[clip])
    return counts


def sample_rows(lengths: Mapping[str, int], total: int, seed: int) -> dict[str, Indices]:
    """Draw rows without replacement, balanced over the clips.

    Parameters
    ----------
    lengths
        Number of rows of each training clip, by its name.
    total
        Number of rows to sample; see :func:`balanced_counts`.
    seed
        The same seed draws the same rows.

    Returns
    -------
    dict
        Increasing indices of rows, by clip name, in the order of `lengths`.
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
