"""Which maps and tokens networks have, and how they are computed of images and of windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from flowpipe.errors import ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import BOTH, ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.tokens import block_tokens, check_tokens
from flowpipe.training.data.datasets import testing_transform
from flowpipe.training.data.transforms import TestCrops
from flowpipe.training.data.views import Compose, resized
from flowpipe.training.features.map_windows import MapWindows
from flowpipe.training.features.sources import default_length
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.testing import Testing


def resolved(network: StreamNetwork, stage: FeatureStage) -> FeatureStage:
    """Return a stage with the windows that a 3-D network needs, if a network has such maps.

    Raises
    ------
    ParameterError
        It has not, or the windows do not fit; the message names layers or numbers.
    """
    frame_transform(network, stage)
    if stage.tokens is not None:
        _refuse_length(network, stage)
        check_tokens(network, stage.tokens)
        return stage
    assert stage.maps is not None
    name = network.network.model
    layers = [each for each, _ in network.backbone.named_modules() if each]
    if network.takes == "frames":
        if network.clip.modality == BOTH:
            raise ParameterError(
                f"maps is {stage.maps!r}; it applies to networks of one input, and {name} has two"
            )
        if any(isinstance(each, nn.LayerNorm) for each in network.backbone.modules()):
            raise ParameterError(
                f"maps is {stage.maps!r}; it applies to convolutional networks, and {name} is a "
                "transformer; vision transformers on single frames have --tokens"
            )
    elif table.model(name).relates_segments or network.takes == "both":
        raise ParameterError(
            f"maps is {stage.maps!r}; it applies to networks that see each frame or stack by "
            f"itself, such as tsn, and to 3-D networks, and the network is {name}"
        )
    if stage.maps not in layers:
        shown = [each for each in layers if each.count(".") < 2 and not each.startswith("classif")]
        kind = network.network.backbone if table.model(name).has_backbone else name
        raise ParameterError(
            f"maps is {stage.maps!r}, which is no layer of {kind}; it has {', '.join(shown[:40])}"
        )
    if network.takes == "frames":
        length = stage.length or default_length(network)
        period = len(range(0, length, network.clip.frame_stride)) * network.clip.frame_stride
        stage = replace(stage, length=length, stride=stage.stride or period)
        map_windows(network, stage)
        return stage
    _refuse_length(network, stage)
    size = network.clip.input_size
    with torch.inference_mode():
        maps_of_images(network.eval(), torch.zeros(1, network.channels, size, size), stage)
    return stage


def map_windows(network: StreamNetwork, stage: FeatureStage) -> MapWindows:
    """Return the windows of a 3-D network.

    Raises
    ------
    ParameterError
        The network cannot take them, or they do not fit together.
    """
    assert stage.length is not None
    assert stage.maps is not None
    seen = network.clip
    frames = len(range(0, stage.length, seen.frame_stride))
    try:
        maps = _maps_of(network.network, seen, frames, stage.maps)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ParameterError(
            f"length is {stage.length}; {network.network.model} cannot take it ({reason})"
        ) from None
    return MapWindows(frames * seen.frame_stride, stage.map_stride, maps)


@cache
def _maps_of(parts: Network, seen: ClipInput, frames: int, layer: str) -> int:
    """Return the number of maps that a layer of a 3-D network has of so many frames."""
    with torch.device("meta"), torch.no_grad():
        network = StreamNetwork(parts, seen, [1]).to("meta").eval()
        image = torch.empty(1, seen.channels_per_frame * frames, seen.input_size, seen.input_size)
        return len(maps_of_window(network, image, FeatureStage(maps=layer)))


def maps_of_images(network: StreamNetwork, images: Tensor, stage: FeatureStage) -> Tensor:
    """Return the maps or tokens of images: (N, C, H, W) -> (N, H', W', F).

    Raises
    ------
    ParameterError
        The layer does not run, or gives no maps.
    """
    if stage.tokens is not None:
        return block_tokens(network, images, stage.tokens)
    assert stage.maps is not None
    clips = images if network.takes == "snippets" else images[:, :, None]
    return _output(network, clips, stage.maps, 4).permute(0, 2, 3, 1)


def maps_of_window(network: StreamNetwork, image: Tensor, stage: FeatureStage) -> Tensor:
    """Return the maps of a window of a 3-D network: (1, C L, H, W) -> (T', H', W', F).

    Raises
    ------
    ParameterError
        As for :func:`maps_of_images`.
    """
    assert stage.maps is not None
    clips = cast(Tensor, network.clips(image[None]))
    return _output(network, clips, stage.maps, 5)[0].permute(1, 2, 3, 0)


def _output(network: StreamNetwork, clips: Tensor, layer: str, ndim: int) -> Tensor:
    """Return the output of a layer. Later layers do not run."""
    found: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output)
        raise _ReachedError

    backbone: Any = network.backbone
    handle = backbone.get_submodule(layer).register_forward_hook(keep)
    try:
        if network.takes == "snippets":
            backbone(clips)
        else:
            backbone.features(clips)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if not found or not isinstance(found[0], Tensor) or found[0].ndim != ndim:
        raise ParameterError(
            f"maps is {layer!r}, which gives no maps of an image; name a convolution or a block of "
            "them"
        )
    return found[0]


def is_cropped(network: StreamNetwork) -> bool:
    """Return whether a network takes a fixed size, so that it sees the centre of frames only."""
    fixed = table.model(network.network.model).fixed_size
    return fixed or isinstance(network.backbone, VisionTransformer)


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the height and width of frames whose short side is scaled."""
    scale = short_side / min(height, width)
    return round(height * scale), round(width * scale)


def frame_transform(network: StreamNetwork, stage: FeatureStage) -> Any:
    """Return what a test does to snippets: without its crop, unless the size is fixed.

    Raises
    ------
    ParameterError
        The network takes more of the frame than the short side has.
    """
    size = network.clip.input_size
    short_side = stage.short_side or size
    if is_cropped(network):
        if short_side < size:
            raise ParameterError(
                f"short_side is {short_side}; {network.network.model} takes {size} pixels"
            )
        views = Testing(1, 1, short_side, size, "scores").of(network)
        return testing_transform(network.clip, network.network, views)
    views = Testing(1, 1, size, size, "scores").of(network)
    cropped: Any = testing_transform(network.clip, network.network, views)
    whole = _WholeFrames(short_side)
    return Compose(
        tuple(whole if isinstance(each, TestCrops) else each for each in cropped.transforms)
    )


def _refuse_length(network: StreamNetwork, stage: FeatureStage) -> None:
    if stage.length is not None:
        raise ParameterError(
            f"length is {stage.length}; it applies to features and to maps of 3-D networks, and "
            f"{network.network.model} sees each frame or stack by itself"
        )


class _ReachedError(Exception):
    """The layer has been computed."""


@dataclass(frozen=True, slots=True)
class _WholeFrames:
    """Scale the short side of frames; nothing is cut off."""

    short_side: int

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        height, width = snippets.shape[-2:]
        scaled: Tensor = resized(snippets, *scaled_size(height, width, self.short_side))
        return scaled
