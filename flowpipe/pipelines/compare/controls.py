"""Controls: what can be told of a clip without motion and appearance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from flowpipe.classify.scores import ClassScores, Scores
from flowpipe.classify.svm import filled
from flowpipe.datasets.base import Clip
from flowpipe.errors import FlowpipeError
from flowpipe.io import video
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison, NotAvailableError, Prepared

NEIGHBOURS = 5


def prepare_clip_size(on: Comparison) -> Prepared:
    """Return the control that knows width, height and length of a clip, and nothing else."""
    settings = {"of_a_clip": "width, height, frames", "nearest_neighbours": NEIGHBOURS}
    return Prepared(settings, partial(_run, on))


def _run(on: Comparison, meter: Meter) -> Mapping[str, Scores]:
    sizes, missing = {}, {}
    with meter.part("extraction"):
        for clip in on.clips:
            try:
                sizes[clip.name] = size_of_clip(clip)
            except (FlowpipeError, OSError) as error:
                missing[clip.name] = str(error)
    if not sizes:
        raise NotAvailableError("no video can be read")
    protocol = on.protocol
    if missing:
        from flowpipe.pipelines.labelled import without_clips  # which imports torch

        protocol = without_clips(protocol, missing)
    with meter.part("training"):
        parts = []
        for split in protocol.splits:
            train, test = (
                np.log(np.array([sizes[name] for name in half], np.float64))
                for half in (split.train, split.test)
            )
            labels = protocol.indices(split.train)
            scores = nearest(train, labels, test, len(protocol.classes))
            parts.append(protocol.scored(split.name, split.test, scores))
        return {"size": Scores(protocol.classes, tuple(parts))}


def size_of_clip(clip: Clip) -> tuple[int, int, int]:
    """Return width, height and number of frames of a clip; frames are counted if need be.

    Raises
    ------
    FlowpipeError
        The clip cannot be read.
    """
    info = video.probe(clip.path)
    declared = info.declared_frames
    frames = declared or sum(1 for _ in video.frames(clip.path, keep_damaged=True))
    return info.width, info.height, max(1, frames)


def nearest(
    train: NDArray[np.float64], labels: NDArray[np.int64], test: NDArray[np.float64], n_classes: int
) -> ClassScores:
    """Return the share of each class among the nearest training clips.

    Parameters
    ----------
    train, test
        (n, D) numbers of each clip, which are scaled by those of the training clips.
    labels
        (train,) class indices.
    n_classes
        Number of classes.

    Returns
    -------
    (test, n_classes) float32
        Near neighbours count more. A class without a training clip scores below every other.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    classifier = KNeighborsClassifier(min(NEIGHBOURS, len(train)), weights="distance")
    classifier.fit((train - mean) / deviation, labels)
    shares = classifier.predict_proba((test - mean) / deviation)
    return filled(shares, classifier.classes_, n_classes)
