"""Which flow fields or frames of a clip a network sees.

Temporal segment networks (Wang et al., ECCV 2016) cut a clip into K equal segments and take one
snippet of L consecutive flow fields from each: anywhere in the segment for training, its middle for
validation. Tests take 25 snippets at equal steps. The original two-stream network (Simonyan and
Zisserman, NIPS 2014) is K = 1, L = 10.

A snippet is given by its first index, counted from 0, and lies inside the clip: the last one that
can be drawn ends with the clip's last field. A clip shorter than L has none, which is an error
here; the published loaders repeat its last field, or take another clip in its place.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError

Sampling = Literal["random", "centre", "test"]
Indices = NDArray[np.int64]


def random_starts(n: int, segments: int, length: int, rng: np.random.Generator) -> Indices:
    """First indices of one random snippet in each of equal segments: training.

    Segments are ``(n - length + 1) // segments`` starts long, as in TSN and tsn-pytorch, so up to
    ``segments - 1`` starts at the end of the clip are never drawn. A clip that has fewer starts
    than segments gives sorted draws from all of them; where tsn-pytorch means to do that it draws
    one number instead and stops with an error.

    Parameters
    ----------
    n
        Flow fields, or frames, of the clip.
    segments, length
        K and L, at least 1.
    rng
        What is drawn depends on its state alone.

    Returns
    -------
    (segments,) int64
        From 0 to ``n - length``, ascending.

    Raises
    ------
    ParameterError
        The clip is shorter than `length`, or a number is not positive.
    """
    places = _places(n, segments, length)
    duration = places // segments
    if duration:
        return duration * np.arange(segments) + rng.integers(duration, size=segments)
    return np.sort(rng.integers(places, size=segments))


def centre_starts(n: int, segments: int, length: int) -> Indices:
    """First indices of the snippet in the middle of each segment: validation.

    ``int(tick / 2 + tick * k)`` with ``tick = (n - length + 1) / segments``, as tsn-pytorch
    does it. (Clips with no more starts than segments give its validation the first start only,
    and its test these; these are taken.)

    Parameters, return value and errors are those of :func:`random_starts`.
    """
    tick = _places(n, segments, length) / segments
    return np.array([int(tick / 2 + tick * k) for k in range(segments)], np.int64)


def tick_starts(n: int, segments: int, length: int) -> Indices:
    """First indices of snippets at equal whole steps from the beginning: tests.

    TSN's ticks: the step is ``(n - length) // (segments - 1)``, 0 for clips with few starts, which
    then give their first snippet over and over. One segment is the middle of the clip.

    Parameters, return value and errors are those of :func:`random_starts`.
    """
    places = _places(n, segments, length)
    if segments == 1:
        return np.array([(places - 1) // 2], np.int64)
    return (places - 1) // (segments - 1) * np.arange(segments)


def starts(
    sampling: Sampling, n: int, segments: int, length: int, rng: np.random.Generator
) -> Indices:
    """First indices by the name of the rule; only ``random`` draws from the generator.

    Raises
    ------
    ParameterError
        There is no such rule, or as :func:`random_starts`.
    """
    match sampling:
        case "random":
            return random_starts(n, segments, length, rng)
        case "centre":
            return centre_starts(n, segments, length)
        case "test":
            return tick_starts(n, segments, length)
    raise ParameterError(
        f"sampling is {sampling!r}; it must be one of {', '.join(get_args(Sampling))}"
    )


def _places(n: int, segments: int, length: int) -> int:
    """Return the number of starts from which a snippet fits into the clip."""
    if segments < 1 or length < 1:
        raise ParameterError(
            f"segments is {segments} and length is {length}; both must be at least 1"
        )
    if n < length:
        raise ParameterError(f"a clip of {n} cannot give a snippet of {length}")
    return n - length + 1
