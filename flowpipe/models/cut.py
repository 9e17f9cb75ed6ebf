"""Cut a 2-D network at its last maps: what computes them, and what scores them.

The cut lies before the last pooling: after relu5_3 of VGG-16, as in convolutional fusion
(Feichtenhofer et al., CVPR 2016), after the last block of a residual network.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torchvision.models import (
    VGG,
    AlexNet,
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    RegNet,
    ResNet,
    ShuffleNetV2,
)

from flowpipe.errors import ParameterError
from flowpipe.models.bn_inception import BNInception
from flowpipe.models.cnn_m import CnnM2048

_MAPS_TO_POOL = (CnnM2048, VGG, AlexNet)
_MAPS_TO_AVERAGE = (MobileNetV2, MobileNetV3, EfficientNet)


def below(network: nn.Module, images: Tensor) -> Tensor:
    """Return the last maps of images: (N, C, H, W) -> (N, F, H', W').

    Raises
    ------
    ParameterError
        The network is of another kind.
    """
    if isinstance(network, BNInception):
        return network.maps(images)
    for layer in _below(network):
        images = layer(images)
    return images


def above(network: nn.Module, maps: Tensor) -> Tensor:
    """Return what the network, without its last layer, makes of its last maps: (N, F')."""
    match network:
        case CnnM2048() | VGG() | AlexNet():
            for layer in _pooling(network):
                maps = layer(maps)
            features: Tensor = network.classifier(maps.flatten(1))
        case MobileNetV2() | MobileNetV3() | EfficientNet():
            features = network.classifier(maps.mean(dim=(2, 3)))
        case _:
            features = network.get_submodule("fc")(maps.mean(dim=(2, 3)))
    return features


def above_names(network: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of the names of weights above the cut."""
    has_layers = isinstance(network, (*_MAPS_TO_POOL, *_MAPS_TO_AVERAGE))
    return ("classifier.",) if has_layers else ("fc.",)


def n_maps(network: nn.Module, n_features: int) -> int:
    """Return the number of the last maps of a network that makes so many features of them.

    Raises
    ------
    ParameterError
        The network is of another kind.
    """
    if isinstance(network, BNInception):
        return n_features
    layers = [each for part in _below(network) for each in part.modules()]
    return [each for each in layers if isinstance(each, nn.Conv2d)][-1].out_channels


def _below(network: nn.Module) -> Iterable[nn.Module]:
    match network:
        case CnnM2048() | VGG() | AlexNet():
            return list(network.features)[: _last_pool(network.features)]
        case MobileNetV2() | MobileNetV3() | EfficientNet():
            return list(network.features)
        case ResNet():
            stem = (network.conv1, network.bn1, network.relu, network.maxpool)
            return (*stem, network.layer1, network.layer2, network.layer3, network.layer4)
        case RegNet():
            return network.stem, network.trunk_output
        case ShuffleNetV2():
            stages = (network.stage2, network.stage3, network.stage4)
            return (network.conv1, network.maxpool, *stages, network.conv5)
    raise ParameterError(
        f"backbone is a {type(network).__name__}, whose last maps are not known; it must be a VGG, "
        "AlexNet, cnn-m-2048, bn-inception, ResNet, ResNeXt, RegNet, ShuffleNet v2, MobileNet or "
        "EfficientNet"
    )


def _pooling(network: nn.Module) -> Iterable[nn.Module]:
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    yield from list(features)[_last_pool(features) :]
    if not isinstance(network, CnnM2048):
        yield network.get_submodule("avgpool")


def _last_pool(features: nn.Module) -> int:
    (*_, last) = (
        number for number, each in enumerate(features.children()) if isinstance(each, nn.MaxPool2d)
    )
    return last
