"""Networks whose features are computed: trained ones, and published ones with their weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_args

from tyro.conf import arg

from flowpipe.errors import ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import Modality
from flowpipe.runner.json_files import Json

if TYPE_CHECKING:
    from flowpipe.models.stream import StreamNetwork


class NetworkSource(Protocol):
    """Where a network comes from; picklable, so that each worker loads it."""

    def load(self) -> StreamNetwork:
        """Return the network."""

    def identity(self) -> str:
        """Return what tells its weights apart."""


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network of ``train``, by its file."""

    path: Path

    def trained_on(self) -> Json:
        """Return which clips it was trained on, as features record it; nothing if it is unknown."""
        from flowpipe.models.weights import read_about

        splits = read_about(self.path).get("splits")
        return {} if splits is None else {"trained_on": splits}

    def load(self) -> StreamNetwork:
        """Return the network.

        Raises
        ------
        FormatError
            The file is no trained network.
        """
        from flowpipe.models.weights import load_model

        return load_model(self.path)[0]

    def identity(self) -> str:
        """Return the digest of the file."""
        from flowpipe.models.weight_names import identity

        return identity(str(self.path))


@dataclass(frozen=True, slots=True)
class PublishedNetwork:
    """Published network, in place of a classifier of one's own."""

    model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Network with published weights: a model of 'flowpipe doctor', or a classification network of
    torchvision such as resnet50."""
    weights: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Its weights: a file (.safetensors, .pth), the name of torchvision's weights for it, or
    default for torchvision's best."""
    modality: Annotated[
        str | None,
        arg(metavar="|".join(get_args(Modality)), help_behavior_hint="(default: rgb)"),
    ] = None
    """What the network with published weights sees."""
    backbone: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(default: resnet50)")
    ] = None
    """2-D network inside tsn, tsm, trn, lrcn, stm, non-local and two-stream-fusion."""
    input_size: Annotated[
        int | None, arg(metavar="PIXELS", help_behavior_hint="(default: that of the paper)")
    ] = None
    """Height and width of the published network's input in pixels."""

    def given(self) -> list[str]:
        """Return the names of the options that were given."""
        return [name for name, value in asdict(self).items() if value is not None]

    def with_length(self, length: int | None) -> PublishedWeights:
        """Return the network for windows of a length, where it sees whole windows.

        Raises
        ------
        ParameterError
            The network or its weights are not named.
        """
        if self.model is None or self.weights in (None, "none"):
            raise ParameterError(
                f"model is {self.model!r} and weights is {self.weights!r}; features need both, or "
                "a classifier: those of a network without trained weights mean nothing"
            )
        takes = table.MODELS[self.model].takes if self.model in table.MODELS else "snippets"
        return PublishedWeights(self, length if takes == "frames" else None)


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """A published network for windows of a length."""

    network: PublishedNetwork
    length: int | None

    def load(self) -> StreamNetwork:
        """Return the network.

        Raises
        ------
        ParameterError
            There is no such network, or a parameter does not apply to it.
        FormatError
            The file holds weights of another network, or lacks some.
        """
        import torch

        from flowpipe.models.create import create_model

        options: dict[str, Any] = asdict(self.network)
        options["modality"] = options["modality"] or "rgb"
        name = options.pop("model")
        networks = []
        for seed in (0, 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                networks.append(create_model(name, num_classes=1, length=self.length, **options))
        first, second = (network.backbone.state_dict() for network in networks)
        if drawn := [key for key, value in first.items() if not torch.equal(value, second[key])]:
            raise ParameterError(
                f"weights is {self.network.weights!r}, which has no {drawn[0]!r} of {name}"
                f"{f' and {len(drawn) - 1} more' if len(drawn) > 1 else ''}: train the network, "
                "and take the features of the trained one"
            )
        return networks[0]

    def identity(self) -> str:
        """Return the name or the digest of the weights."""
        from flowpipe.models.weight_names import identity

        return identity(str(self.network.weights))


def describe(source: NetworkSource, network: StreamNetwork) -> Json:
    """Return everything of a network that determines its features."""
    parts = network.network
    has_backbone = table.model(parts.model).has_backbone
    backbone = {"backbone": parts.backbone} if has_backbone else {}
    return {
        "model": parts.model,
        **backbone,
        "clip": asdict(network.clip),
        "weights": source.identity(),
    }


def default_length(network: StreamNetwork) -> int:
    """Return the number of fields or frames that a network sees at once.

    Of a network that relates segments, one snippet of each; of others a snippet.
    """
    segments = network.clip.segments if network.joins_segments else 1
    return segments * network.clip.span


def check_layer(network: StreamNetwork, layer: str | None) -> None:
    """Check that features can be taken of a layer.

    Raises
    ------
    ParameterError
        They cannot; the message names those that can.
    """
    name = network.network.model
    if layer is None or layer in (known := table.model(name).layers):
        return
    able = ", ".join(each for each, entry in table.MODELS.items() if entry.layers)
    wanted = f"it must be {' or '.join(known)}" if known else f"layers apply to {able}"
    raise ParameterError(f"layer is {layer!r}, and the network is {name}; {wanted}")


def check_length(network: StreamNetwork, length: int) -> None:
    """Check that a network takes windows of a length.

    Raises
    ------
    ParameterError
        It takes others; the message names them.
    """
    import torch

    seen = network.clip
    if network.takes != "frames":
        if length < seen.span:
            raise ParameterError(
                f"length is {length}; a snippet of {network.network.model} takes {seen.span}"
            )
        return
    usual = table.model(network.network.model).suited(seen)
    frames = len(range(0, length, seen.frame_stride))
    if frames == seen.length == usual.length:
        return
    try:
        as_given = replace(seen, length=frames)
        clip = torch.zeros(1, 1, as_given.channels, seen.input_size, seen.input_size)
        with torch.inference_mode():
            network.eval().features(network.clips(clip))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ParameterError(
            f"length is {length}; {network.network.model} takes {usual.span} frames ({reason})"
        ) from None
