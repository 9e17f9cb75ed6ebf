"""Run systems of trajectories: encode tables, train SVMs, pool maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import protocol_from_json
from flowpipe.classify.scores import Scores, load_scores
from flowpipe.classify.work import ScoreSplit, load_split_scores
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.table import ENCODERS
from flowpipe.errors import FlowpipeError
from flowpipe.pipelines.classify import classify
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison
from flowpipe.pipelines.encode import PROTOCOL, encode
from flowpipe.pipelines.encode import description_of as encoding_of
from flowpipe.pipelines.split_scores import ALL, tasks_of
from flowpipe.pipelines.split_scores import description_of as classifying
from flowpipe.pipelines.tdd_baseline import encoding_of_maps, pool_maps
from flowpipe.runner.provenance import digest, short_hash
from flowpipe.runner.run import run_stage
from flowpipe.training.tdd import map_layers


def classified(on: Comparison, tables: Path, encoding: Encoding, meter: Meter) -> Scores:
    """Return the scores of Fisher vectors and SVMs on tables of trajectories."""
    svm = Svm()
    with meter.part("training"):
        vectors = _vectors(on, tables, encoding, meter)
        out = on.out / f"classify-{short_hash(classifying(vectors, svm))}"
        meter.uses(out)
        classify(vectors, out, svm, title=on.dataset.name, workers=on.workers)
    return load_scores(out / "scores.npz")


def run_tdd(on: Comparison, tracks: Path, maps: Path, encoding: Encoding, meter: Meter) -> Scores:
    """Pool maps along trajectories, and return the scores of what is pooled."""
    layers = map_layers([maps])
    with meter.part("extraction"):
        pooled = pool_maps(on.clips, layers, tracks, on.out, on.workers)
    meter.uses(pooled)
    return classified(on, pooled, encoding_of_maps(encoding, layers), meter)


def run_shuffled(on: Comparison, tracks: Path, encoding: Encoding, meter: Meter) -> Scores:
    """Return the scores of SVMs whose training labels are shuffled.

    Raises
    ------
    FlowpipeError
        They could not be trained.
    """
    svm = Svm()
    with meter.part("training"):
        vectors = _vectors(on, tracks, encoding, meter)
        out = on.out / f"classify-{short_hash({**classifying(vectors, svm), 'shuffled': True})}"
        meter.uses(out)
        protocol = protocol_from_json(vectors / PROTOCOL)
        upstream = classifying(vectors, svm)["encode"]
        tasks = tasks_of(protocol, {ALL: upstream["descriptors"]}, vectors, out, svm)
        shuffled = []
        for number, task in enumerate(tasks):
            other = shuffled_labels(task.training_labels, on.settings.seed, number)
            shuffled.append(
                dataclasses.replace(task, training_labels=other, key=digest([task.key, other]))
            )
        kernel = ENCODERS[upstream["encoding"]].kernel
        summary = run_stage(
            ScoreSplit(svm, kernel, out), shuffled, out=out, workers=on.workers, unit="SVMs",
            noun="split",
        )  # fmt: skip
    if summary.failed:
        raise FlowpipeError(f"the SVMs of {summary.failed} splits could not be trained")
    parts = []
    for task in shuffled:
        names, scores = load_split_scores(task.path, len(protocol.classes))
        parts.append(protocol.scored(task.split.name, names, scores))
    return Scores(protocol.classes, tuple(parts))


def shuffled_labels(labels: Sequence[int], seed: int, number: int) -> tuple[int, ...]:
    """Return the labels of a split's training clips in an order of its own.

    One order for all splits would make their luck the same, and the interval too narrow.
    """
    return tuple(np.random.default_rng([seed, number]).permutation(labels).tolist())


def _vectors(on: Comparison, tables: Path, encoding: Encoding, meter: Meter) -> Path:
    vectors = on.out / f"encode-{short_hash(encoding_of(on.protocol, tables, encoding))}"
    meter.uses(vectors)
    encode(on.clips, on.protocol, tables, vectors, encoding, workers=on.workers)
    return vectors
