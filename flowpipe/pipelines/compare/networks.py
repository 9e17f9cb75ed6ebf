"""Systems of networks that are trained on the set, a network for each stream and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from flowpipe.classify.scores import Scores
from flowpipe.models import MODELS
from flowpipe.models.clip_input import Modality
from flowpipe.models.weight_names import identity
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.shared import Need
from flowpipe.pipelines.compare.system import Comparison, Cost, Prepared
from flowpipe.pipelines.compare.weights import initial_weights
from flowpipe.runner.json_files import Json
from flowpipe.training.parameters import Stream, preset
from flowpipe.training.testing import Testing

SMALL: Mapping[str, Any] = {
    "optimizer": "adamw", "lr": 2e-4, "schedule": "cosine", "head_rate": 10.0, "conv1_lr": 1.0,
    "weight_decay": 0.01, "dropout": 0.5, "batch_size": 8,
}  # fmt: skip
"""Training of all networks in the recipe ``small``; see docs/two_stream.md, From ImageNet."""
SMALL_2D: Mapping[str, Any] = {"epochs": 30, "warmup": 2.0, "batch_norm": "train"}
SMALL_3D: Mapping[str, Any] = {"epochs": 12, "warmup": 1.0, "batch_norm": "frozen"}
SMALL_TESTING = Testing(test_clips=10, crops=10)
"""Tests of networks that score snippets, whose authors take 25 snippets."""
_SMALL_BACKBONE, _SMALL_SIZE, _SMALL_SIZE_3D = "mobilenet_v2", 160, 112
_RELATED_SEGMENTS = 4


@dataclass(frozen=True)
class NetworkSystem:
    """A network of the table, as a system.

    Attributes
    ----------
    name
        Name of the system.
    model
        Name of the network.
    streams
        What its networks see, one each.
    options
        Options of the network that are the system's own.
    length
        Number of fields of a snippet of flow, where the network has a backbone.
    backbone
        Backbone that it needs; None takes that of the settings.
    """

    name: str
    model: str
    streams: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    length: int = 5
    backbone: str | None = None

    def __call__(self, on: Comparison) -> Prepared:
        """Return the system for a comparison."""
        streams = {name: self.stream(on, name) for name in self.streams}
        testing = self.testing(on)
        settings: Json = {"flow": on.shared.flow_record(on.settings), "streams": {}}
        for name, stream in streams.items():
            described = {**stream.description(), "weights": identity(stream.weights)}
            settings["streams"][name] = {**described, **testing.description(), "stage": "system"}
        needs: tuple[Need, ...] = ("flow",)
        if "warped-flow" in streams:
            needs = ("flow", "warped-flow")
        run = partial(_run, on, self, streams, testing)
        return Prepared(settings, run, needs, partial(_cost, on, streams, testing))

    def stream(self, on: Comparison, name: str) -> Stream:
        """Return what is trained for a stream."""
        entry, settings = MODELS[self.model], on.settings
        modality, small = cast(Modality, name), settings.recipe == "small"
        backbone = self.backbone or settings.backbone or (_SMALL_BACKBONE if small else "resnet50")
        theirs = backbone if entry.has_backbone else entry.torchvision
        if self.model == "tea" or backbone in ("cnn-m-2048", "bn-inception"):
            theirs = "" if entry.has_backbone else theirs  # torchvision has none
        names = (self.name, self.model, *([backbone] if entry.has_backbone else []))
        options: dict[str, Any] = {
            "weights": initial_weights(on, *names, torchvision_name=theirs),
            "seed": settings.seed,
        }
        if entry.has_backbone and self.model != "tea":
            options["backbone"] = backbone
        if small:
            options |= self._small(name)
        if entry.has_backbone and (size := settings.input_size or (_SMALL_SIZE if small else None)):
            options["input_size"] = size
        options |= dict(self.options)
        if settings.epochs is not None:
            options["epochs"] = settings.epochs
            options["warmup"] = min(options.get("warmup", 0.0), settings.epochs / 4)
        if options["weights"] == "none":
            options["batch_norm"] = "train"
        return preset("finetune" if small else "published", modality, self.model).changed(**options)

    def _small(self, name: str) -> dict[str, Any]:
        entry = MODELS[self.model]
        if not entry.has_backbone:
            own: dict[str, Any] = {**SMALL, **SMALL_3D}
            if entry.finetune:  # transformers have no batch normalisation
                own["batch_norm"] = "partial"
            elif entry.takes == "frames" and entry.any_length:
                own |= {"input_size": _SMALL_SIZE_3D}
            if self.model in ("i3d", "s3d"):
                own["length"] = 16
            if self.model == "s3d":  # its last maps would be smaller than what they are pooled over
                own["input_size"] = 224
            return own
        segments = _RELATED_SEGMENTS if entry.relates_segments else 3
        length = self.length if name != "rgb" else 1
        return {**SMALL, **SMALL_2D, "segments": segments, "length": length}

    def testing(self, on: Comparison) -> Testing:
        """Return the views of a test clip."""
        entry = MODELS[self.model]
        snippets = entry.takes == "snippets" and not entry.relates_segments
        return SMALL_TESTING if on.settings.recipe == "small" and snippets else Testing()


def _run(
    on: Comparison,
    system: NetworkSystem,
    streams: Mapping[str, Stream],
    testing: Testing,
    meter: Meter,
) -> Mapping[str, Scores]:
    from flowpipe.pipelines.compare.run_networks import run_networks  # which imports torch

    return run_networks(on, system.name, streams, testing, meter)


def _cost(on: Comparison, streams: Mapping[str, Stream], testing: Testing) -> Cost:
    from flowpipe.pipelines.compare.run_networks import cost_of_networks

    return cost_of_networks(on, streams, testing)
