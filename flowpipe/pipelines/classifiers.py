"""Write the classifiers on trajectories: one for each split, or one that is fitted to all clips."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol, final_split, protocol_from_json
from flowpipe.classify.splits import FINAL, split_folder
from flowpipe.classify.work import SCORES_FORMAT, ScoreSplit, load_machines
from flowpipe.datasets.base import Split
from flowpipe.encoding.files import (
    Encoders,
    encoder_path,
    load_encoders,
    load_vectors,
    vector_name,
    vectors_path,
)
from flowpipe.encoding.table import ENCODERS
from flowpipe.errors import FlowpipeError
from flowpipe.io.npz import key_of
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.pipelines.split_scores import ALL, description_of, scores_path, tasks_of
from flowpipe.prediction.trajectories import classifier_of, key_of_classifier
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import run_stage

logger = logging.getLogger(__name__)


def of_all_clips(protocol: Protocol) -> Protocol:
    """Return the protocol of one split that trains on all clips and tests on none."""
    return replace(protocol, name=FINAL, splits=(final_split(protocol),))


def write_classifier(
    vectors: Path, scored: Path, number: int, split: Split, classes: tuple[str, ...], out: Path
) -> Path:
    """Write the classifier of a split whose SVMs have been trained.

    Parameters
    ----------
    vectors
        Folder of ``encode``.
    scored
        File of the split's scores and SVMs.
    number, split, classes
        The split, its number from 1, and the names of the classes.
    out
        The output folder.

    Returns
    -------
    Path
        ``parts/<number>-<split>/classifier.safetensors`` in it.
    """
    path = out / "parts" / split_folder(number, split.name) / "classifier.safetensors"
    key = provenance.digest([key_of(scored, SCORES_FORMAT), classes])
    if key_of_classifier(path) == key:
        return path
    upstream = provenance.read_stage(vectors) or {}
    encoders: Encoders = {}
    for descriptor in upstream["descriptors"]:
        found, encoding = load_encoders(encoder_path(vectors, number, descriptor))
        encoders |= found
    encoding = replace(encoding, descriptors=tuple(upstream["descriptors"]))
    machines, means = load_machines(scored, len(classes))
    classifier = classifier_of(
        path, classes, upstream["trajectories"], encoding, encoders, machines, means,
        partial(_vectors, vectors, split.train, number),
    )  # fmt: skip
    classifier.save(path, out, key)
    return path


def fit_final(vectors: Path, out: Path, svm: Svm, *, workers: Workers | int | None = None) -> Path:
    """Train the SVMs of vectors of all clips (:func:`of_all_clips`), and write the classifier.

    Returns
    -------
    Path
        The file.
    """
    description = description_of(vectors, svm)
    provenance.open_stage(out, description)
    protocol = protocol_from_json(vectors / PROTOCOL)
    upstream = description["encode"]
    tasks = tasks_of(protocol, {ALL: upstream["descriptors"]}, vectors, out, svm)
    (split,) = protocol.splits
    workers = as_workers(workers)
    kernel = ENCODERS[upstream["encoding"]].kernel
    score = ScoreSplit(svm, kernel, out, max(1, workers.local_jobs))
    summary = run_stage(
        score,
        tasks,
        out=out,
        workers=workers.within_memory(20 * len(split.train) ** 2),
        unit="SVMs",
        noun="classifier",
    )
    if summary.failed:
        raise FlowpipeError(f"the final SVMs could not be trained; {summary.failures} says why")
    return write_classifier(vectors, scores_path(out, 1, ALL), 1, split, protocol.classes, out)


def _vectors(
    vectors: Path, clips: tuple[str, ...], number: int, clip: int
) -> Mapping[str, NDArray[np.float32]]:
    """Return the vectors of a training clip by descriptor."""
    upstream = provenance.read_stage(vectors) or {}
    names = {vector_name(number, each): each for each in upstream["descriptors"]}
    found, _ = load_vectors(vectors_path(vectors, clips[clip]), tuple(names))
    return {names[name]: vector for name, vector in found.items()}
