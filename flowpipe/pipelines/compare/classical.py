"""Systems of trajectories: dense and improved ones, and maps of a network along them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from flowpipe.classify.parameters import Svm
from flowpipe.classify.scores import Scores
from flowpipe.encoding.parameters import Encoding
from flowpipe.pipelines.compare.frozen import Extraction, maps_of
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.shared import Kind, Need, trajectory_stage
from flowpipe.pipelines.compare.system import Comparison, Prepared
from flowpipe.runner.json_files import Json

STREAM = "trajectories"


def prepare_trajectories(on: Comparison, kind: Kind) -> Prepared:
    """Return Fisher vectors and SVMs of trajectories of a kind."""
    need: Need = "trajectories-dt" if kind == "dt" else "trajectories-idt"
    return Prepared(_settings(on, kind), partial(_run_trajectories, on, need), (need,))


def prepare_tdd(on: Comparison) -> Prepared:
    """Return maps of a frozen network along improved trajectories."""
    maps = maps_of(on)
    settings = {**_settings(on, "idt"), "maps": maps.settings}
    return Prepared(settings, partial(_run_tdd, on, maps), ("trajectories-idt", "flow"))


def prepare_shuffled(on: Comparison) -> Prepared:
    """Return the control whose training labels are shuffled: it can only guess."""
    shuffled = f"shuffled with seed {on.settings.seed} and the number of the split"
    settings = {**_settings(on, "idt"), "training_labels": shuffled}
    return Prepared(settings, partial(_run_shuffled, on), ("trajectories-idt",))


def _settings(on: Comparison, kind: Kind) -> Json:
    return {
        "trajectories": trajectory_stage(on.settings, kind).description(),
        "encoding": encoding_of_trajectories(on).description(),
        "svm": Svm().description(),
    }


def encoding_of_trajectories(on: Comparison) -> Encoding:
    """Return the parameters of the encoders."""
    return Encoding(gaussians=on.settings.gaussians, seed=on.settings.seed)


# What runs them imports torch, for classifiers and for maps.


def _run_trajectories(on: Comparison, need: Need, meter: Meter) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_classical import classified

    tracks = on.shared.get(on, need)
    return {STREAM: classified(on, tracks, encoding_of_trajectories(on), meter)}


def _run_tdd(on: Comparison, maps: Extraction, meter: Meter) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_classical import run_tdd

    tracks = on.shared.get(on, "trajectories-idt")
    return {STREAM: run_tdd(on, tracks, maps.extract(meter), encoding_of_trajectories(on), meter)}


def _run_shuffled(on: Comparison, meter: Meter) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_classical import run_shuffled

    tracks = on.shared.get(on, "trajectories-idt")
    return {STREAM: run_shuffled(on, tracks, encoding_of_trajectories(on), meter)}
