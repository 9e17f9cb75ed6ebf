"""Late fusion: a weighted sum of the scores of several streams.

TSN adds the scores before the softmax, RGB to flow as 1 to 1.5; the original two-stream network
averages softmax outputs. Scores of SVMs on trajectories take part like any others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from flowpipe.classify.scores import Scores, SplitScores, load_scores
from flowpipe.classify.splits import CLASSIFIERS
from flowpipe.errors import FlowpipeError, ParameterError

_LISTED = 20


class UnlikeScoresError(FlowpipeError):
    """Scores of different clips, classes or splits cannot be added."""


@dataclass(frozen=True, eq=False)
class StreamScores:
    """Scores of a stream, with their weight in a fusion.

    Attributes
    ----------
    name
        Name for tables and errors, such as that of the file.
    scores
        Scores of all splits.
    weight
        Weight in the sum.
    classifiers
        Folder of the classifiers that gave the scores, one for each split; None if there is none.
    """

    name: str
    scores: Scores
    weight: float = 1.0
    classifiers: Path | None = None

    def digest(self) -> str:
        """Return 64 hexadecimal digits that tell the scores apart, whatever their file."""
        state = hashlib.sha256()
        for split in self.scores.splits:
            state.update(repr((self.scores.classes, split.split, split.names)).encode())
            state.update(split.labels.tobytes())
            state.update(split.scores.tobytes())
        return state.hexdigest()


def parse(text: str) -> tuple[Path, float]:
    """Parse ``rgb.npz:1.5``: return the file and its weight, 1 where there is none.

    Raises
    ------
    ParameterError
        The weight is not a number.
    """
    if Path(text).is_file() or ":" not in text:
        return Path(text), 1.0
    path, _, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or not path:
        raise ParameterError(f"{text!r} is no file, and no file with a weight such as rgb.npz:1.5")
    return Path(path), weight


def read_stream(text: str, weight: float | None = None) -> StreamScores:
    """Read the scores of a file, with the weight given or the one in the text (see :func:`parse`).

    Raises
    ------
    ParameterError, FormatError
        There is no such file, or it holds something else.
    """
    path, in_text = parse(text) if weight is None else (Path(text), weight)
    if not math.isfinite(in_text):
        raise ParameterError(f"the weight of {text!r} is {in_text}; it must be finite")
    try:
        return StreamScores(str(path), load_scores(path), in_text, path.parent / CLASSIFIERS)
    except FileNotFoundError:
        raise ParameterError(f"{str(path)!r} does not exist; a scores.npz is expected") from None


def fuse(parts: Sequence[StreamScores], *, softmax: bool = False) -> Scores:
    """Add the scores of streams, split by split.

    Parameters
    ----------
    parts
        Streams that scored the same clips in the same splits. Their order is free; classes are
        matched by name, and so are clips.
    softmax
        Apply a softmax to each stream's scores first.

    Returns
    -------
    Scores
        In the order of the first stream.

    Raises
    ------
    UnlikeScoresError
        Classes, splits, clips or labels differ; the message lists what lacks where.
    ParameterError
        There is no stream, or the weights are all 0.
    """
    if not parts or all(part.weight == 0 for part in parts):
        raise ParameterError("nothing to fuse: at least one stream with a weight is needed")
    first = parts[0]
    for other in parts[1:]:
        _same(first, other, "classes", set(first.scores.classes), set(other.scores.classes))
        splits = [{split.split for split in part.scores.splits} for part in (first, other)]
        _same(first, other, "splits", *splits)
    return Scores(
        first.scores.classes,
        tuple(_fused(split.split, parts, softmax) for split in first.scores.splits),
    )


def standardised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores of each clip with mean 0 and standard deviation 1 over the classes.

    Sums of such scores do not depend on the scale of each: logits and distances of SVMs can be
    added. A clip with the same score for all classes gets zeros.

    Parameters
    ----------
    scores
        (clips, classes).
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    # Of equal scores, rounding may leave a deviation.
    least = 8 * np.finfo(np.float32).eps * np.abs(scores).max(axis=1, keepdims=True, initial=0)
    found: NDArray[np.float32] = np.divide(
        centred, deviation, out=np.zeros_like(centred), where=deviation > least
    )
    return found


def _fused(name: str, parts: Sequence[StreamScores], probabilities: bool) -> SplitScores:
    classes = parts[0].scores.classes
    like = _split(parts[0], name)
    total = np.zeros(like.scores.shape, np.float64)
    for part in parts:
        own = _split(part, name)
        _same(parts[0], part, f"clips of split {name!r}", set(like.names), set(own.names))
        row = {clip: i for i, clip in enumerate(own.names)}
        rows = [row[clip] for clip in like.names]
        columns = [part.scores.classes.index(label) for label in classes]
        truth = np.array([classes.index(part.scores.classes[i]) for i in own.labels[rows]])
        wrong = np.flatnonzero(truth != like.labels)
        if wrong.size:
            clip = like.names[wrong[0]]
            raise UnlikeScoresError(
                f"{parts[0].name} and {part.name} disagree on the true class of {wrong.size} clips "
                f"of split {name!r}, such as {clip!r}"
            )
        scores: NDArray[np.float64] = own.scores[rows][:, columns].astype(np.float64)
        total += part.weight * (special.softmax(scores, axis=1) if probabilities else scores)
    return SplitScores(name, like.names, like.labels, total.astype(np.float32))


def _split(part: StreamScores, name: str) -> SplitScores:
    return next(split for split in part.scores.splits if split.split == name)


def _same(
    first: StreamScores, other: StreamScores, what: str, ours: set[str], theirs: set[str]
) -> None:
    missing = [
        f"{part.name} lacks {_listed(sorted(lacking))}"
        for part, lacking in ((first, theirs - ours), (other, ours - theirs))
        if lacking
    ]
    if missing:
        raise UnlikeScoresError(
            f"{what} of {first.name} and {other.name} differ: {'; '.join(missing)}"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown
