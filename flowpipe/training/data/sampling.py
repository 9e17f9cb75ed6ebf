"""Which flow fields or frames of a clip a network sees.

Temporal segment networks (Wang et al., ECCV 2016) cut a clip into K equal segments and take one
snippet of L consecutive flow fields from each: anywhere in the segment for training, its middle for
validation. Tests take 25 snippets at equal steps. The original two-stream network (Simonyan and
Zisserman, NIPS 2014) is K = 1, L = 10. A 3-D network is K = 1 with a longer snippet, whose frames
need not be neighbours: SlowFast sees every second one.

A snippet is given by its first index, counted from 0, and lies inside the clip: the last one that
can be drawn ends with the clip's last field. A clip that is shorter has none. It is refused, or its
beginning follows its end (I3D and mmaction2: ``loop``), or its last frame is repeated (PySlowFast:
``repeat``). Other published loaders take another clip in its place, which is never done here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.models.clip_input import ShortClips

Sampling = Literal["random", "centre", "test", "whole"]
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


def centre_starts(n: int, segments: int, length: int, clips: int = 1) -> Indices:
    """First indices of the snippet in the middle of each segment: validation.

    ``int(tick / 2 + tick * k)`` with ``tick = (n - length + 1) / segments``, as tsn-pytorch
    does it. (Clips with no more starts than segments give its validation the first start only,
    and its test these; these are taken.)

    Parameters
    ----------
    n, segments, length
        As for :func:`random_starts`.
    clips
        Number of times that all segments are sampled, at equal steps within each: the test of
        networks that relate the segments. Those of the first time come first.

    Returns
    -------
    (clips * segments,) int64

    Raises
    ------
    ParameterError
        As for :func:`random_starts`.
    """
    tick = _places(n, segments, length) / segments
    first = [tick * (j + 0.5) / clips for j in range(clips)]
    return np.array([int(at + tick * k) for at in first for k in range(segments)], np.int64)


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


def whole_starts(n: int, length: int) -> Indices:
    """First indices of as few snippets as cover a clip, at equal steps.

    Raises
    ------
    ParameterError
        As for :func:`random_starts`.
    """
    last = _places(n, 1, length) - 1
    return np.rint(np.linspace(0, last, -(-n // length))).astype(np.int64)


def snippets(
    starts: Indices, length: int, stride: int, n: int, short: ShortClips
) -> NDArray[np.int64]:
    """Return the indices of the fields or frames of snippets, all of which the clip has.

    Parameters
    ----------
    starts
        (S,) first indices.
    length, stride
        Number of fields or frames of a snippet, and from one of them to the next.
    n
        Fields or frames of the clip.
    short
        What follows the last one of a clip that is shorter than a snippet.

    Returns
    -------
    (S, length) int64

    Examples
    --------
    >>> snippets(np.array([0]), 4, 2, 5, "loop").tolist()
    [[0, 2, 4, 1]]
    >>> snippets(np.array([0]), 4, 2, 5, "repeat").tolist()
    [[0, 2, 4, 4]]
    """
    indices = starts[:, None] + stride * np.arange(length)
    return indices % n if short == "loop" else np.minimum(indices, n - 1)


def starts(
    sampling: Sampling,
    n: int,
    segments: int,
    length: int,
    rng: np.random.Generator,
    clips: int = 1,
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
            return centre_starts(n, segments, length, clips)
        case "test":
            return tick_starts(n, segments, length)
        case "whole":
            return whole_starts(n, length)
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
