"""Systems of networks that are trained on the set, a network for each stream and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from flowpipe.classify.scores import Scores
from flowpipe.models import MODELS
from flowpipe.models.clip_input import Modality
from flowpipe.models.weight_names import identity
from flowpipe.pipelines.compare.measure import Meter
from flowpipe.pipelines.compare.shared import Need
from flowpipe.pipelines.compare.system import Comparison, Cost, NotAvailableError, Prepared
from flowpipe.pipelines.compare.weights import initial_weights
from flowpipe.runner.json_files import Json
from flowpipe.training.parameters import Preset, Stream, preset
from flowpipe.training.testing import Testing

SMALL: Mapping[str, Any] = {
    "optimizer": "adamw", "lr": 2e-4, "schedule": "cosine", "head_rate": 10.0, "conv1_lr": 1.0,
    "weight_decay": 0.01, "dropout": 0.5, "batch_size": 8,
}  # fmt: skip
"""Training of all networks in the recipe ``small``; see docs/two_stream.md, From ImageNet."""
SMALL_2D: Mapping[str, Any] = {"epochs": 30, "warmup": 2.0, "batch_norm": "train"}
SMALL_3D: Mapping[str, Any] = {"epochs": 12, "warmup": 1.0, "batch_norm": "frozen"}
SCRATCH: Mapping[str, Any] = {
    "optimizer": "adamw", "lr": 4e-3, "schedule": "cosine", "conv1_lr": 1.0, "weight_decay": 0.01,
    "dropout": 0.0, "batch_size": 12, "batch_norm": "train", "balanced_batches": True,
    "epochs": 40, "warmup": 1.0,
}  # fmt: skip
"""Training of all networks in the recipe ``scratch``."""


@dataclass(frozen=True)
class SmallRecipe:
    """How all networks are trained and tested, in place of the recipe of each.

    Attributes
    ----------
    preset
        What it is based on.
    with_backbone, others
        Options of networks that have a backbone, and of others.
    of_flow
        Options of streams of flow.
    span
        Number of fields from the first of a snippet of flow to behind its last; 0: all are used.
    related
        Number of segments of networks that relate segments; others have 3.
    backbone, residual_backbone
        The backbone, and that of networks that need one of residual blocks.
    size, others_size
        Height and width of the input, and of that of other networks on clips of any size.
    of_snippets, testing
        Views of a test clip, for networks that score snippets and for others.
    """

    preset: Preset
    with_backbone: Mapping[str, Any]
    others: Mapping[str, Any]
    of_flow: Mapping[str, Any]
    span: int
    related: int
    backbone: str
    residual_backbone: str
    size: int
    others_size: int
    of_snippets: Testing
    testing: Testing = field(default_factory=Testing)


RECIPES: Mapping[str, SmallRecipe] = {
    # Their authors take 25 snippets.
    "small": SmallRecipe(
        "finetune", {**SMALL, **SMALL_2D}, {**SMALL, **SMALL_3D}, {}, 0, 4,
        "mobilenet_v2", "mobilenet_v2", 160, 112, Testing(test_clips=10, crops=10),
    ),
    # Flow without the mean of each field, as the first network that learned it from random weights.
    # A snippet spans ten frames, whatever the number of its fields.
    "scratch": SmallRecipe(
        "small", SCRATCH, SCRATCH, {"subtract_mean": True}, 10, 3,
        "shufflenet_v2_x1_0", "resnet18", 64, 64, Testing(test_clips=5, crops=1),
        Testing(test_clips=5, crops=1),
    ),
}  # fmt: skip
"""Recipes of settings that are not those of the authors."""


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
    residual
        Whether its backbone must have residual blocks.
    """

    name: str
    model: str
    streams: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    length: int = 5
    backbone: str | None = None
    residual: bool = False

    def __call__(self, on: Comparison) -> Prepared:
        """Return the system for a comparison."""
        wanted = on.settings.streams or self.streams
        streams = {name: self.stream(on, name) for name in self.streams if name in wanted}
        if not streams:
            raise NotAvailableError(
                f"it sees {' and '.join(self.streams)}, and --streams is {' '.join(wanted)}"
            )
        testing = self.testing(on)
        settings: Json = {"flow": on.shared.flow_record(on.settings), "streams": {}}
        for name, stream in streams.items():
            described = {**stream.description(), "weights": identity(stream.weights)}
            settings["streams"][name] = {**described, **testing.description(), "stage": "system"}
        needs: tuple[Need, ...] = ("flow",)  # with the frames
        if "warped-flow" in streams:
            needs = ("flow", "warped-flow")
        run = partial(_run, on, self, streams, testing)
        cost = partial(_cost, on, streams, testing)
        return Prepared(settings, run, needs, cost, tuple(streams))

    def stream(self, on: Comparison, name: str) -> Stream:
        """Return what is trained for a stream."""
        entry, settings = MODELS[self.model], on.settings
        modality, recipe = cast(Modality, name), RECIPES.get(settings.recipe)
        usual = "resnet50"
        if recipe is not None:
            usual = recipe.residual_backbone if self.residual else recipe.backbone
        backbone = self.backbone or settings.backbone or usual
        theirs = backbone if entry.has_backbone else entry.torchvision
        if self.model == "tea" or backbone in ("cnn-m-2048", "bn-inception"):
            theirs = "" if entry.has_backbone else theirs  # torchvision has none
        names = (self.name, self.model, *([backbone] if entry.has_backbone else []))
        if settings.recipe == "scratch":
            weights = on.weights_for(*names) or "none"
        else:
            weights = initial_weights(on, *names, torchvision_name=theirs)
        options: dict[str, Any] = {"weights": weights, "seed": settings.seed}
        if entry.has_backbone and self.model != "tea":
            options["backbone"] = backbone
        if recipe is not None:
            options |= self._small(recipe, name)
        if entry.has_backbone and settings.input_size is not None:
            options["input_size"] = settings.input_size
        options |= dict(self.options)
        if settings.epochs is not None:
            options["epochs"] = settings.epochs
            options["warmup"] = min(options.get("warmup", 0.0), settings.epochs / 4)
        if weights == "none":
            options["batch_norm"] = "train"
        base = "published" if recipe is None else recipe.preset
        return preset(base, modality, self.model).changed(**options)

    def _small(self, recipe: SmallRecipe, name: str) -> dict[str, Any]:
        entry = MODELS[self.model]
        if not entry.has_backbone:
            own: dict[str, Any] = dict(recipe.others)
            if entry.finetune:  # transformers have no batch normalisation
                own["batch_norm"] = "partial"
            elif entry.takes == "frames" and entry.any_length:
                own |= {"input_size": recipe.others_size}
            if self.model in ("i3d", "s3d"):
                own["length"] = 16
            if self.model == "s3d":  # its last maps would be smaller than what they are pooled over
                own["input_size"] = 224
            return own
        options = {
            **recipe.with_backbone,
            "segments": recipe.related if entry.relates_segments else 3,
            "length": self.length if name != "rgb" else 1,
            "input_size": recipe.size,
        }
        if name != "rgb":
            stride = max(1, recipe.span // self.length)
            options |= {**recipe.of_flow, "frame_stride": stride}
        return options

    def testing(self, on: Comparison) -> Testing:
        """Return the views of a test clip."""
        entry, recipe = MODELS[self.model], RECIPES.get(on.settings.recipe)
        if recipe is None:
            return Testing()
        snippets = entry.takes == "snippets" and not entry.relates_segments
        return recipe.of_snippets if snippets else recipe.testing


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
