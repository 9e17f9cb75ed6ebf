"""Kernels between clips: linear, and chi-squared over several channels.

A linear SVM needs only the products of its vectors. The 13 320 clips of UCF101 have 109 000 numbers
each, 5.8 GB, but their Gram matrix has 0.7 GB; and the Gram matrices of the descriptors add up to
that of all of them side by side, so that every combination comes from the same few matrices.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.pairwise import additive_chi2_kernel

from flowpipe.errors import ParameterError

Vectors = NDArray[np.floating]
Gram = NDArray[np.float32]

_BLOCK = 1024
_COLUMNS = 16384
"""Columns per float32 product; the products are added up in float64."""


def linear_gram(vectors: Vectors) -> Gram:
    """Return the products of all pairs of vectors.

    Parameters
    ----------
    vectors
        (n, D); a memory map or an HDF5 dataset is read in blocks of 1024 rows.

    Returns
    -------
    (n, n) float32
        Symmetric.
    """
    count, width = vectors.shape
    gram = np.empty((count, count), np.float32)
    for top in range(0, count, _BLOCK):
        upper = np.asarray(vectors[top : top + _BLOCK], np.float32)
        for left in range(top, count, _BLOCK):
            lower = np.asarray(vectors[left : left + _BLOCK], np.float32) if left > top else upper
            products = np.zeros((len(upper), len(lower)))
            for first in range(0, width, _COLUMNS):
                columns = slice(first, first + _COLUMNS)
                products += upper[:, columns] @ lower[:, columns].T
            gram[top : top + _BLOCK, left : left + _BLOCK] = products
            gram[left : left + _BLOCK, top : top + _BLOCK] = products.T
    return gram


def mean_gram(grams: Iterable[Gram]) -> Gram:
    """Return the Gram matrix of vectors side by side, scaled to norm 1 where each had norm 1.

    Parameters
    ----------
    grams
        (n, n) each, consumed one at a time: they need not be in memory together.

    Raises
    ------
    ParameterError
        There is none, or their shapes differ.
    """
    total: Gram | None = None
    count = 0
    for gram in grams:
        count += 1
        if total is None:
            total = gram.copy()
        elif total.shape != gram.shape:
            raise ParameterError(
                f"Gram matrices of one shape are needed, not of {total.shape} and {gram.shape}"
            )
        else:
            total += gram
    if total is None:
        raise ParameterError("Gram matrices of one shape are needed, and there is none")
    total /= count
    return total


def chi2_distances(histograms: Vectors) -> Gram:
    """Return ``1/2 sum (a - b)^2 / (a + b)`` of all pairs of histograms.

    Parameters
    ----------
    histograms
        (n, K), not negative. Distances of histograms with L1 norm 1 are 0 to 1.

    Returns
    -------
    (n, n) float32

    Raises
    ------
    ParameterError
        A number is negative.
    """
    table = np.ascontiguousarray(histograms)
    if table.size and table.min() < 0:
        raise ParameterError(
            f"a histogram holds {table.min():g}; the chi-squared distance needs 0 or more"
        )
    count = len(table)
    distances = np.empty((count, count), np.float32)
    for top in range(0, count, _BLOCK):
        block = additive_chi2_kernel(table[top : top + _BLOCK], table[top:])
        distances[top : top + _BLOCK, top:] = block * -0.5
        distances[top:, top : top + _BLOCK] = distances[top : top + _BLOCK, top:].T
    return distances


def multichannel_gram(channels: Iterable[Gram], train: NDArray[np.integer]) -> Gram:
    """Return ``exp(-sum_c D_c / A_c)``, the chi-squared kernel of several channels.

    J. Zhang, M. Marszałek, S. Lazebnik and C. Schmid, "Local features and kernels for
    classification of texture and object categories", IJCV 2007: A_c is the mean distance in channel
    c between training clips, here over pairs of two different ones.

    Parameters
    ----------
    channels
        (n, n) distances of each channel, consumed one at a time.
    train
        Indices of the training clips, the only ones that A_c depends on.

    Returns
    -------
    (n, n) float32
    """
    total: Gram | None = None
    for distances in channels:
        if total is None:
            total = np.zeros_like(distances)
        mean = mean_distance(distances, train)
        # A channel in which all training clips are equal is ignored.
        if mean > 0:
            total += distances / np.float32(mean)
    if total is None:
        raise ParameterError("a kernel needs at least one channel")
    return np.asarray(np.exp(-total))


def mean_distance(distances: Gram, train: NDArray[np.integer]) -> float:
    """Return A_c of a channel: the mean distance between two different training clips."""
    pairs = len(train) * (len(train) - 1)
    among = distances[np.ix_(train, train)]
    between = among.sum(dtype=np.float64) - np.trace(among, dtype=np.float64)
    return float(between / pairs) if pairs else 0.0
