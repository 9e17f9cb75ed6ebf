"""Functions that build the networks of the table; torch is imported by those that are called."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from flowpipe.errors import ParameterError
from flowpipe.models.clip_input import BOTH, ClipInput

if TYPE_CHECKING:
    from torch import nn

    from flowpipe.models.names import State


def backbones() -> list[str]:
    """Return the names of all 2-D networks that a segment network can be made of."""
    import torchvision

    return [*torchvision.models.list_models(module=torchvision.models), *BACKBONES]


def cnn_m_2048(channels: int) -> nn.Module:
    """Return CNN-M-2048."""
    from flowpipe.models import cnn_m

    # The paper's temporal network lacks the second normalisation, to take less memory.
    return cnn_m.CnnM2048(channels, second_norm=channels == 3)


def bn_inception(channels: int) -> nn.Module:
    """Return BN-Inception."""
    from flowpipe.models.bn_inception import BNInception

    return BNInception(channels)


BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "cnn-m-2048": cnn_m_2048,
    "bn-inception": bn_inception,
}
"""2-D networks that torchvision lacks: name -> a function of the number of channels."""

# These two come with auxiliary heads, which have no place here.
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}


def backbone(name: str, channels: int) -> nn.Module:
    """Return a 2-D network by its name, with a last layer for 1000 classes.

    Raises
    ------
    ParameterError
        There is no such network.
    """
    import torch
    import torchvision

    if name in BACKBONES:
        return BACKBONES[name](channels)
    if name not in backbones():
        raise ParameterError(
            f"backbone is {name!r}; it must be a classification network of torchvision, such as "
            f"resnet18, vgg16, efficientnet_b0 or mobilenet_v3_small, or {', '.join(BACKBONES)}"
        )
    options = _NO_AUXILIARY if name in ("googlenet", "inception_v3") else {}
    # RegNets compute their widths with tensors, which must have values: not on the device meta.
    with torch.device("cpu") if name.startswith("regnet") else nullcontext():
        return cast("nn.Module", torchvision.models.get_model(name, weights=None, **options))


def segment_network(clip: ClipInput, name: str) -> nn.Module:
    """Return a 2-D network for snippets."""
    return backbone(name, clip.channels)


def with_modules(clip: ClipInput, name: str, *, insert: Callable[[nn.Module], None]) -> nn.Module:
    """Return a backbone with temporal modules; its ``plain_names`` are those without them."""
    network = backbone(name, clip.channels)
    before = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
    insert(network)
    names = {
        name: before[id(tensor)]
        for name, tensor in network.state_dict(keep_vars=True).items()
        if id(tensor) in before
    }
    cast(Any, network).plain_names = names
    return network


def insert_shifts(network: nn.Module) -> None:
    """Put temporal shifts into the residual blocks of a network (TSM)."""
    from flowpipe.models.temporal import TemporalShift, wrap_first_convolutions

    wrap_first_convolutions(network, TemporalShift)


def insert_motion(network: nn.Module) -> None:
    """Put spatio-temporal and motion encoding into the bottlenecks of a network (STM)."""
    from flowpipe.models.temporal import SpatioTemporalMotion, bottlenecks

    for block in bottlenecks(network):
        block.conv2 = SpatioTemporalMotion(block.conv2)


def insert_non_local(network: nn.Module) -> None:
    """Put non-local blocks into a ResNet."""
    from flowpipe.models.temporal import add_non_local

    add_non_local(network)


def tea(clip: ClipInput, name: str) -> nn.Module:
    """Return the 2-D network of TEA."""
    if name != "resnet50":
        raise ParameterError(f"backbone is {name!r}; tea has its own, and takes none")
    from flowpipe.models.tea import TeaResNet

    return TeaResNet()


def relation(features: int, segments: int, classes: int) -> nn.Module:
    """Return the head of TRN."""
    from torch import nn

    from flowpipe.models.relation import Relation

    return nn.Sequential(nn.Linear(features, 256), Relation(256, segments, classes))


def relations(features: int, segments: int, classes: int) -> nn.Module:
    """Return the head of multi-scale TRN."""
    from torch import nn

    from flowpipe.models.relation import MultiScaleRelation

    return nn.Sequential(nn.Linear(features, 256), MultiScaleRelation(256, segments, classes))


def recurrent(features: int, segments: int, classes: int) -> nn.Module:
    """Return the head of LRCN."""
    from flowpipe.models.recurrent import Recurrent

    return Recurrent(features, classes)


def stream_fusion(clip: ClipInput, name: str) -> nn.Module:
    """Return the two streams of convolutional fusion."""
    from flowpipe.models.adapt import adapt_first_convolution, take_last_layer
    from flowpipe.models.cut import n_maps
    from flowpipe.models.stream_fusion import StreamFusion

    streams = []
    for channels in (3, clip.channels - 3):
        stream = backbone(name, channels)
        head_name, n_features = take_last_layer(stream)
        adapt_first_convolution(stream, channels)
        streams.append(stream)
    network = StreamFusion(*streams, n_maps=n_maps(streams[0], n_features), n_features=n_features)
    network.head_name = head_name
    return network


def both_heads(features: int, segments: int, classes: int) -> nn.Module:
    """Return the heads of convolutional fusion."""
    from flowpipe.models.stream_fusion import BothHeads

    return BothHeads(features, classes)


def i3d(clip: ClipInput) -> nn.Module:
    """Return I3D."""
    from flowpipe.models.i3d import I3D

    return I3D(clip.channels_per_frame, 1)


def c3d(clip: ClipInput) -> nn.Module:
    """Return C3D."""
    from flowpipe.models.c3d import C3D

    return C3D(clip.channels_per_frame, 1)


def resnet3d(clip: ClipInput, *, architecture: str) -> nn.Module:
    """Return a 3-D ResNet by the name of its architecture."""
    from flowpipe.models import resnet3d

    flow = clip.channels_per_frame
    channels = (3, flow) if clip.modality == BOTH else flow
    return resnet3d.ResNet3D(getattr(resnet3d, architecture), channels, 1)


def eco(clip: ClipInput, *, full: bool) -> nn.Module:
    """Return ECO Lite or ECO Full."""
    from flowpipe.models.eco import ECO

    return ECO(clip.channels, 1, full=full)


def deepvideo(clip: ClipInput, *, joining: Any) -> nn.Module:
    """Return a network of DeepVideo."""
    from flowpipe.models.deepvideo import DeepVideo

    return DeepVideo(joining, clip.channels_per_frame, 1)


def tdn(clip: ClipInput) -> nn.Module:
    """Return TDN on the differences of RGB frames, or on RGB frames and flow."""
    from flowpipe.models.tdn import TDN

    if clip.modality == BOTH:
        return TDN(1, motion_channels=clip.channels - 3)
    if clip.modality != "rgb":
        raise ParameterError(f"modality is {clip.modality!r}; tdn takes rgb, or {BOTH}")
    return TDN(1)


def timesformer(clip: ClipInput, *, attention: Any) -> nn.Module:
    """Return TimeSformer for the segments of a clip."""
    from flowpipe.models.timesformer import TimeSformer

    return TimeSformer(
        clip.channels, 1, frames=clip.segments, size=clip.input_size, attention=attention
    )


def vidtr(clip: ClipInput) -> nn.Module:
    """Return VidTr for the segments of a clip, which drops half of them twice."""
    from flowpipe.models.vidtr import VidTr

    frames = clip.segments
    kept = {1: max(frames // 2, 1), 3: max(frames // 4, 1)}
    return VidTr(clip.channels, 1, frames=frames, size=clip.input_size, kept=kept)


def clip_vit(clip: ClipInput) -> nn.Module:
    """Return CLIP's image network for the segments of a clip."""
    from flowpipe.models.clip_vit import ClipVit

    return ClipVit(clip.channels, 1, size=clip.input_size)


def vivit(clip: ClipInput, *, factorisation: Any) -> nn.Module:
    """Return ViViT for the frames of a clip."""
    from flowpipe.models.vivit import Vivit

    return Vivit(
        clip.channels_per_frame,
        1,
        frames=clip.length,
        size=clip.input_size,
        factorisation=factorisation,
    )


def torchvision_video(clip: ClipInput, *, name: str) -> nn.Module:
    """Return a video network of torchvision."""
    from flowpipe.models.torchvision_video import TorchvisionVideo

    return TorchvisionVideo(name)


def renaming(module: str, *functions: str) -> Callable[[State], State]:
    """Return the renaming that a module's functions make, one after the other."""

    def renamed(state: State) -> State:
        for function in functions:
            state = getattr(import_module(f"flowpipe.models.{module}"), function)(state)
        return state

    return renamed
