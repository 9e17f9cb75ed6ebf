"""Systems on features or maps of networks that are not trained further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.parameters import Svm
from flowpipe.classify.scores import Scores
from flowpipe.models import MODELS
from flowpipe.models.probes import Probe
from flowpipe.models.weight_names import identity
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.system import Comparison, Cost, Prepared
from flowpipe.pipelines.compare.weights import trained_weights
from flowpipe.runner.json_files import Json
from flowpipe.training.features.sources import PublishedNetwork
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.probe_parameters import ProbeTraining

BACKBONE = "mobilenet_v2"
"""The network on single frames of the frozen systems, whatever the other settings."""
MAP_LAYER = "features.14.conv.0"
"""Its layer for maps along trajectories: the last of 1/16 of the frame behind a ReLU."""
PROBE_STAGES = {
    BACKBONE: FeatureStage(maps="features.18"),
    "i3d": FeatureStage(maps="Mixed_5c", short_side=224),
}
"""Maps for heads, by network: of the last layer, of 1/32 of the frame."""
_EVERY = 4
"""Frames from one feature of the network on single frames to the next."""

Reduce = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Extraction:
    """Features or maps that a system reads.

    Attributes
    ----------
    settings
        All that determines them.
    extract
        Compute what is missing, and return their folder.
    """

    settings: Json
    extract: Callable[[Meter], Path]


def mean_over_time(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the (T, F) features of a clip."""
    return np.asarray(features.mean(axis=0, dtype=np.float64))


def middle(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the feature in the middle of the (T, F) features of a clip."""
    return np.asarray(features[len(features) // 2], np.float64)


def features_of(on: Comparison, model: str) -> Extraction:
    """Return features of a network: of every fourth frame, or of windows of its usual length."""
    stage = FeatureStage(stride=_EVERY) if model not in MODELS else FeatureStage()
    return _extraction(on, model, stage)


def maps_of(on: Comparison) -> Extraction:
    """Return maps of the network on single frames, of every frame."""
    return _extraction(on, BACKBONE, FeatureStage(maps=MAP_LAYER))


def _extraction(on: Comparison, model: str, stage: FeatureStage) -> Extraction:
    theirs = MODELS[model].torchvision if model in MODELS else model
    weights = trained_weights(on, model, torchvision_name=theirs)
    settings: Json = {
        "model": model,
        "weights": identity(weights),
        "maps": stage.maps,
        "stride": stage.stride,
        # Left out where there is none, so that earlier features keep their folder.
        **({} if stage.short_side is None else {"short_side": stage.short_side}),
        "frames": on.shared.flow_record(on.settings),
    }
    published = PublishedNetwork(model, weights)
    return Extraction(settings, partial(_extract, on, published, stage, settings))


def _extract(
    on: Comparison, published: PublishedNetwork, stage: FeatureStage, settings: Json, meter: Meter
) -> Path:
    from flowpipe.pipelines.compare.run_frozen import extract  # which imports torch

    return extract(on, published, stage, settings, meter)


def prepare_probe(on: Comparison, head: str, model: str = BACKBONE) -> Prepared:
    """Return a head that is trained on the maps of a network."""
    maps = _extraction(on, model, PROBE_STAGES[model])
    training = ProbeTraining(seed=on.settings.seed)
    if (epochs := on.settings.epochs) is not None:
        training = replace(training, epochs=epochs, warmup=min(training.warmup, epochs / 4))
    probe = Probe(head=head)
    settings = {"maps": maps.settings, "head": asdict(probe), "training": asdict(training)}
    run = partial(_run_probe, on, maps, probe, training)
    return Prepared(settings, run, ("flow",), partial(_cost, on, model))


def prepare_svm(on: Comparison, model: str) -> Prepared:
    """Return linear SVMs on the mean of a network's features over time."""
    return _prepared(on, model, "mean over time", mean_over_time)


def prepare_one_frame(on: Comparison) -> Prepared:
    """Return the control that sees one frame of a clip: linear SVMs on its feature."""
    return _prepared(on, BACKBONE, "the one in the middle", middle)


def _prepared(on: Comparison, model: str, what: str, reduced: Reduce) -> Prepared:
    features = features_of(on, model)
    settings = {"features": features.settings, "of_a_clip": what, "svm": Svm().description()}
    run = partial(_run, on, features, reduced)
    return Prepared(settings, run, ("flow",), partial(_cost, on, model))


def _run(
    on: Comparison, features: Extraction, reduced: Reduce, meter: Meter
) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_frozen import run_svm

    return {"features": run_svm(on, features.extract(meter), reduced, meter)}


def _run_probe(
    on: Comparison, maps: Extraction, probe: Probe, training: ProbeTraining, meter: Meter
) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_frozen import run_probe

    return {"maps": run_probe(on, maps.extract(meter), probe, training, meter)}


def _cost(on: Comparison, model: str) -> Cost:
    from flowpipe.pipelines.compare.run_frozen import cost_of_frozen

    return cost_of_frozen(on, model)
