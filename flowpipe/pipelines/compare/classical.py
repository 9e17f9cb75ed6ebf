"""Systems of trajectories: dense and improved ones, and maps of a network along them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
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
from flowpipe.pipelines.compare.frozen import maps_of
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.shared import Kind, Need, trajectory_stage
from flowpipe.pipelines.compare.system import Comparison, Prepared
from flowpipe.pipelines.encode import PROTOCOL, encode
from flowpipe.pipelines.encode import description_of as encoding_of
from flowpipe.pipelines.split_scores import ALL, tasks_of
from flowpipe.pipelines.split_scores import description_of as classifying
from flowpipe.pipelines.tdd_baseline import encoding_of_maps, pool_maps
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import digest, short_hash
from flowpipe.runner.run import run_stage
from flowpipe.training.tdd import map_layers

STREAM = "trajectories"


def prepare_trajectories(on: Comparison, kind: Kind) -> Prepared:
    """Return Fisher vectors and SVMs of trajectories of a kind."""
    need: Need = "trajectories-dt" if kind == "dt" else "trajectories-idt"
    return Prepared(
        {"trajectories": trajectory_stage(on.settings, kind).description(), **_classifiers(on)},
        partial(_run_trajectories, on, need),
        (need,),
    )


def _run_trajectories(on: Comparison, need: Need, meter: Meter) -> Mapping[str, Scores]:
    tracks = on.shared.get(on, need)
    return {STREAM: _classified(on, tracks, _encoding(on), meter)}


def prepare_tdd(on: Comparison) -> Prepared:
    """Return maps of a frozen network along improved trajectories."""
    maps = maps_of(on)
    settings = {
        "trajectories": trajectory_stage(on.settings, "idt").description(),
        "maps": maps.settings,
        **_classifiers(on),
    }
    return Prepared(settings, partial(_run_tdd, on, maps.extract), ("trajectories-idt", "flow"))


def _run_tdd(on: Comparison, extract: object, meter: Meter) -> Mapping[str, Scores]:
    assert callable(extract)
    tracks = on.shared.get(on, "trajectories-idt")
    layers = map_layers([extract(meter)])
    with meter.part("extraction"):
        pooled = pool_maps(on.clips, layers, tracks, on.out, on.workers)
    meter.uses(pooled)
    return {STREAM: _classified(on, pooled, encoding_of_maps(_encoding(on), layers), meter)}


def prepare_shuffled(on: Comparison) -> Prepared:
    """Return the control whose training labels are shuffled: it can only guess."""
    settings = {
        "trajectories": trajectory_stage(on.settings, "idt").description(),
        **_classifiers(on),
        "training_labels": f"shuffled with seed {on.settings.seed}",
    }
    return Prepared(settings, partial(_run_shuffled, on), ("trajectories-idt",))


def _run_shuffled(on: Comparison, meter: Meter) -> Mapping[str, Scores]:
    tracks, encoding = on.shared.get(on, "trajectories-idt"), _encoding(on)
    svm = Svm()
    with meter.part("training"):
        vectors = _vectors(on, tracks, encoding, meter)
        out = on.out / f"classify-{short_hash({**classifying(vectors, svm), 'shuffled': True})}"
        meter.uses(out)
        protocol = protocol_from_json(vectors / PROTOCOL)
        upstream = classifying(vectors, svm)["encode"]
        tasks = tasks_of(protocol, {ALL: upstream["descriptors"]}, vectors, out, svm)
        shuffled = []
        for task in tasks:
            labels = np.random.default_rng(on.settings.seed).permutation(task.training_labels)
            other = tuple(labels.tolist())
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
    return {STREAM: Scores(protocol.classes, tuple(parts))}


def _encoding(on: Comparison) -> Encoding:
    return Encoding(gaussians=on.settings.gaussians, seed=on.settings.seed)


def _classifiers(on: Comparison) -> Json:
    return {"encoding": _encoding(on).description(), "svm": Svm().description()}


def _vectors(on: Comparison, tables: Path, encoding: Encoding, meter: Meter) -> Path:
    vectors = on.out / f"encode-{short_hash(encoding_of(on.protocol, tables, encoding))}"
    meter.uses(vectors)
    encode(on.clips, on.protocol, tables, vectors, encoding, workers=on.workers)
    return vectors


def _classified(on: Comparison, tables: Path, encoding: Encoding, meter: Meter) -> Scores:
    """Return the scores of SVMs on tables of trajectories."""
    svm = Svm()
    with meter.part("training"):
        vectors = _vectors(on, tables, encoding, meter)
        out = on.out / f"classify-{short_hash(classifying(vectors, svm))}"
        meter.uses(out)
        classify(vectors, out, svm, title=on.dataset.name, workers=on.workers)
    return load_scores(out / "scores.npz")
