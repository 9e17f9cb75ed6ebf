"""What determines a trained network: its input, its parts, its training; and published presets.

``tsn``: temporal segment networks (Wang et al., ECCV 2016), as the authors' Caffe models train
them on UCF101. ``published``: as the authors of the chosen model train it, where the table of
models has their recipe, and as TSN where not. ``two-stream``: the original (Simonyan and Zisserman,
NIPS 2014). Schedules count iterations on the 9537 training clips of UCF101 (except for RGB
differences, which are tsn-pytorch's); here they are epochs, so that they follow the size of the
set. ``small``: for sets of hundreds of clips and machines without a GPU, from scratch.

``finetune``: from weights of ImageNet or Kinetics to sets of the size of UCF101. Convolutional
networks as TSM (Lin et al., ICCV 2019) goes from Kinetics to UCF101 and HMDB51 in its released
script: 25 epochs of batches of 64 at 0.001, divided by 10 after 10 and 20, dropout 0.8, frozen
normalisations but for the first, gradients clipped at 20; its last layer learns five times as fast.
Transformers as Video Swin (Liu et al., CVPR 2022) goes from ImageNet to Kinetics in mmaction2's
configuration: AdamW at 0.001 with a tenth for the backbone, weight decay 0.02, 30 epochs of batches
of 64 along a cosine after a warm-up of 2.5.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from tyro.conf import arg

from flowpipe._options import Switch
from flowpipe.errors import ParameterError
from flowpipe.models import recipes, table
from flowpipe.models.clip_input import ClipInput, Modality
from flowpipe.models.network import Network
from flowpipe.runner.json_files import Json
from flowpipe.training.optimisation import Training

Preset = Literal["tsn", "published", "two-stream", "small", "finetune"]


@dataclass(frozen=True, slots=True)
class Stream:
    """Everything that determines a trained network, besides the clips."""

    clip: Annotated[ClipInput, arg(name="")] = field(default_factory=ClipInput)
    network: Annotated[Network, arg(name="")] = field(default_factory=Network)
    weights: Annotated[str, arg(metavar="NAME|FILE|none")] = "default"
    """Initial weights: torchvision's by name (default: its best), a file (.pth, .safetensors), the
    output folder of train, of which each split takes its own network, or none."""
    training: Annotated[Training, arg(name="")] = field(default_factory=Training)
    flow_weights: Annotated[
        str | None,
        arg(metavar="NAME|FILE|FOLDER|none", help_behavior_hint="(default: those of weights)"),
    ] = None
    """Initial weights of the stream of flow, of a network of two inputs; weights then has those of
    the stream of frames."""

    def __post_init__(self) -> None:
        training = self.training
        if training.backbone_rate == 0:
            if self.weights == "none":
                raise ParameterError(
                    "backbone_rate is 0 and weights is 'none': layers with random weights would "
                    "never be trained; take initial weights"
                )
            if self.network.batch_norm != "frozen":
                raise ParameterError(
                    f"backbone_rate is 0 and batch_norm is {self.network.batch_norm!r}: a frozen "
                    "backbone has frozen normalisations; take 'frozen'"
                )
        if self.flow_weights is not None and table.model(self.network.model).takes != "both":
            raise ParameterError(
                f"flow_weights is {self.flow_weights!r}; it applies to networks of two inputs, and "
                f"{self.network.model} has one"
            )
        if training.precise_bn and self.network.batch_norm == "frozen":
            raise ParameterError(
                f"precise_bn is {training.precise_bn}; it applies to normalisations that are "
                "trained, and batch_norm is 'frozen'"
            )
        if self.weights == "none" and self.network.batch_norm != "train":
            raise ParameterError(
                f"batch_norm is {self.network.batch_norm!r} and weights is 'none': frozen "
                "normalisations keep the statistics of weights that were trained; take 'train'"
            )

    def description(self) -> Json:
        """Return everything that determines the network, besides the clips, as JSON."""
        described = {"stage": "train", **asdict(self)}
        # What most networks lack is not in their records, which older versions have written too.
        if self.flow_weights is None:
            del described["flow_weights"]
        if self.clip.fields_per_frame is None:
            del described["clip"]["fields_per_frame"]
        return described

    def changed(self, **options: Any) -> Stream:
        """Return the stream with other values of fields of its groups, by their names.

        Raises
        ------
        ParameterError
            There is no such field, or a value is out of range.
        """
        groups: dict[str, dict[str, Any]] = {"clip": {}, "network": {}, "training": {}}
        own: dict[str, Any] = {}
        for name, value in options.items():
            group = next((each for each in groups if name in _fields(getattr(self, each))), None)
            if group is not None:
                groups[group][name] = value
            elif name in ("weights", "flow_weights"):
                own[name] = value
            else:
                known = [*_fields(self.clip), *_fields(self.network), *_fields(self.training)]
                raise ParameterError(
                    f"{name!r} is no option of a network; the options are {', '.join(known)}, "
                    "weights and flow_weights"
                )
        if own.get("weights") == "none":  # there are no statistics to keep
            groups["network"].setdefault("batch_norm", "train")
        if groups["training"].get("backbone_rate") == 0:
            groups["network"].setdefault("batch_norm", "frozen")
        training = self.training.changed(groups.pop("training"))
        parts = {name: replace(getattr(self, name), **given) for name, given in groups.items()}
        return replace(self, training=training, **own, **parts)


def _fields(group: object) -> list[str]:
    return [*type(group).__dataclass_fields__]  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Fusion:
    """Weights of the streams in their sum."""

    fusion_weights: Annotated[tuple[float, float, float], arg(metavar="RGB FLOW IDT")] = (
        1.0,
        1.5,
        1.0,
    )
    """Weights of the scores of RGB frames, of flow, and of trajectories (--idt)."""
    softmax: Switch = False
    """Add probabilities in place of the scores before the softmax."""

    def weight(self, stream: Stream) -> float:
        """Return the weight of a network's scores."""
        return self.fusion_weights[1 if stream.clip.is_flow else 0]


def preset(name: Preset, modality: Modality = "flow", model: str = "tsn") -> Stream:
    """Return the published parameters of a network.

    Parameters
    ----------
    name
        The preset.
    modality
        What the network sees.
    model
        The network; its input takes the place of the preset's.

    Raises
    ------
    ParameterError
        There is no such preset, modality or model.
    """
    stream = _preset(name, modality)
    if model == "tsn":
        return stream
    entry = table.model(model)
    backbone = stream.network.backbone if entry.has_backbone else "resnet50"
    if model == "tea":
        backbone = "resnet50"
    clip = replace(stream.clip, **_suited(entry, name, modality))
    network = replace(stream.network, model=model, backbone=backbone)
    if name == "finetune":  # of a file, where there are none by name
        training = stream.training.changed(dict(entry.finetune))
        return replace(stream, clip=clip, network=network, training=training)
    weights = stream.weights if entry.has_backbone and model != "tea" else "none"
    if weights == "none":
        network = replace(network, batch_norm="train")
    stream = replace(stream, clip=clip, network=network, weights=weights)
    if name == "published" and entry.recipe is not None:
        return stream.changed(**dict(entry.recipe.options))
    return stream


def pretraining(stream: Stream) -> Stream:
    """Return a stream that is trained as VideoMAE pretrains a masked autoencoder."""
    return stream.changed(**dict(recipes.MAE))


def _suited(entry: table.Model, name: Preset, modality: Modality) -> dict[str, Any]:
    changes = entry.changes(modality)
    if name == "small" and entry.has_backbone:
        changes.pop("input_size", None)  # the preset's is for machines without a GPU
    return changes


def _preset(name: Preset, modality: Modality) -> Stream:
    is_rgb = modality == "rgb"
    length = {"rgb": 1, "rgb-diff": 5}.get(modality)
    match name:
        case "tsn" | "published":
            schedules = {
                "rgb": Training(
                    47, lr=0.001, milestones=(0.429, 0.857), grad_clip=40.0, conv1_lr=1.0
                ),
                "rgb-diff": Training(
                    180, lr=0.001, milestones=(0.444, 0.889), grad_clip=40.0, conv1_lr=1.0
                ),
            }
            return Stream(
                ClipInput(modality, 3, length or 5),
                Network(backbone="resnet50", dropout=0.8 if modality in schedules else 0.7),
                "default",
                schedules.get(modality, Training()),
            )
        case "two-stream":
            schedule = (537, (0.7,)) if is_rgb else (2147, (0.625, 0.875))
            return Stream(
                ClipInput(modality, 1, length or 10, subtract_mean=length is None),
                Network(backbone="cnn-m-2048", dropout=0.9, batch_norm="train"),
                "none",
                Training(schedule[0], 256, 0.01, schedule[1], grad_clip=None, conv1_lr=1.0),
            )
        case "finetune":
            return Stream(
                ClipInput(modality, 3, length or 5),
                Network(backbone="resnet50", dropout=0.8),
                "default",
                Training(
                    25,
                    64,
                    0.001,
                    (0.4, 0.8),
                    conv1_lr=5.0 if length is None else 1.0,
                    head_rate=5.0,
                ),
            )
        case "small":
            return Stream(
                ClipInput(modality, 3, length or 5, input_size=112),
                Network(backbone="resnet18", dropout=0.5, batch_norm="train"),
                "none",
                Training(
                    60, 16, 0.01, (0.6, 0.85), grad_clip=20.0, conv1_lr=1.0, balanced_batches=True
                ),
            )
    raise ParameterError(f"preset is {name!r}; it must be one of {', '.join(get_args(Preset))}")
