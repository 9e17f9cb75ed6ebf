"""The network of one stream: a torchvision backbone for any number of channels and data sets.

As in temporal segment networks (Wang et al., ECCV 2016): the first convolution of an RGB network is
averaged over its input channels and copied to as many as the input has (cross-modality
initialisation), batch normalisation can be frozen but for the first, dropout stands before the
last layer, whose weights begin as N(0, 0.001), and the scores of the snippets go into a consensus.

Several data sets share all but the last layer (Simonyan and Zisserman, NIPS 2014): each has a part
of the last layer's rows, and a clip is compared with the classes of its own set only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models import cnn_m
from flowpipe.models.consensus import Consensus, consensus

BatchNorm = Literal["train", "partial", "frozen"]

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Network:
    """What the network of a stream is made of."""

    backbone: str = "resnet50"
    """A classification network of torchvision by its name there, or cnn-m-2048."""
    dropout: float = 0.7
    """Part of the features that is dropped before the last layer, and where the backbone drops."""
    consensus: Consensus = "average"
    """Of the segments: average, max or attention."""
    batch_norm: BatchNorm = "partial"
    """Which normalisations learn: train (all), partial (the first only), frozen (none)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ParameterError(f"dropout is {self.dropout!r}; it must be 0 to below 1")


class StreamNetwork(nn.Module):
    """A backbone that scores clips of several snippets.

    Parameters
    ----------
    network
        Its parts.
    channels
        Of a snippet: 3 for RGB, twice the length of the stack for flow.
    classes
        Number of classes, of each data set where it is trained on several.

    Attributes
    ----------
    first : nn.Conv2d
        The first convolution.
    last : nn.Linear
        The last layer.
    """

    def __init__(self, network: Network, channels: int, classes: Sequence[int]) -> None:
        super().__init__()
        if channels < 1 or not classes or min(classes) < 1:
            raise ParameterError(
                f"a network needs channels and classes; asked for {channels} and {list(classes)}"
            )
        self.network = network
        self.channels = channels
        self.classes = tuple(classes)
        self.backbone = _backbone(network.backbone, channels)
        self._last_name, n_features = _take_last_layer(self.backbone)
        self.first = _adapt_first_convolution(self.backbone, channels)
        for module in self.backbone.modules():
            if isinstance(module, nn.Dropout) and module.p > 0:  # as between VGG's last layers
                module.p = network.dropout
        self.dropout = nn.Dropout(network.dropout)
        self.last = nn.Linear(n_features, sum(classes))
        nn.init.normal_(self.last.weight, std=0.001)
        nn.init.zeros_(self.last.bias)
        self.consensus = consensus(network.consensus, n_features)
        self._frozen = _frozen_norms(self.backbone, network.batch_norm)
        for norm in self._frozen:
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> StreamNetwork:
        """Go into training, but for what is frozen."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def snippets(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and features of snippets: (N, C, H, W) -> (N, classes), (N, F)."""
        features: Tensor = self.backbone(images)
        return self.last(self.dropout(features)), features

    def forward(self, clips: Tensor) -> Tensor:
        """Scores of clips, before any softmax: (B, K, C, H, W) -> (B, classes)."""
        scores, features = self.snippets(clips.flatten(0, 1))
        shape = clips.shape[:2]
        found: Tensor = self.consensus(scores.view(*shape, -1), features.view(*shape, -1))
        return found

    def load_backbone(self, state: State, origin: str) -> None:
        """Take over the weights of a network of the same kind, all but its last layer.

        The weights of a first convolution for another number of channels are averaged over them
        and copied to as many as there are here.

        Parameters
        ----------
        state
            Weights by torchvision's names, which may begin with ``module.``, ``backbone.``, ....
        origin
            Where they come from, for the error.

        Raises
        ------
        FormatError
            They are not of this kind of network; the message says what differs.
        """
        own = self.backbone.state_dict()
        left_out = (f"{self._last_name}.", "aux1.", "aux2.", "AuxLogits.")
        taken = {
            name: value
            for name, value in _without_prefix(state, own).items()
            if not name.startswith(left_out)
        }
        first = next(name for name, module in self.backbone.named_modules() if module is self.first)
        weight = taken.get(f"{first}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] != self.channels:
            mean = weight.mean(dim=1, keepdim=True)
            taken[f"{first}.weight"] = mean.expand(-1, self.channels, -1, -1)
        # Old files lack the counters of batch normalisation, which nothing here looks at.
        wrong = [f"{name} lacks" for name in own if name not in taken and not _is_counter(name)]
        wrong += [f"{name} is no part of it" for name in taken if name not in own]
        wrong += [
            f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
            for name, value in taken.items()
            if name in own and value.shape != own[name].shape
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise FormatError(
                f"{origin} holds no weights of {self.network.backbone}: "
                f"{'; '.join(wrong[:3])}{more}"
            )
        self.backbone.load_state_dict(taken, strict=False)


def loss(scores: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Cross entropy of each clip, among the classes of its own data set.

    Parameters
    ----------
    scores
        (B, classes of all sets).
    labels
        (B,) indices into them.
    classes
        Number of classes of each set.

    Returns
    -------
    (B,) losses.
    """
    return nn.functional.cross_entropy(among_own(scores, labels, classes), labels, reduction="none")


def among_own(scores: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Scores with those of other sets' classes at minus infinity."""
    if len(classes) == 1:
        return scores
    of_class = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(list(classes)))
    of_class = of_class.to(scores.device)
    foreign = of_class[None, :] != of_class[labels][:, None]
    return scores.masked_fill(foreign, -torch.inf)


def backbones() -> list[str]:
    """Names of all backbones."""
    return [*torchvision.models.list_models(module=torchvision.models), cnn_m.NAME]


def _backbone(name: str, channels: int) -> nn.Module:
    if name not in backbones():
        raise ParameterError(
            f"backbone is {name!r}; it must be a classification network of torchvision, such as "
            f"resnet18, vgg16, efficientnet_b0 or mobilenet_v3_small, or {cnn_m.NAME}"
        )
    if name == cnn_m.NAME:
        # The paper's temporal network lacks the second normalisation, to take less memory.
        return cnn_m.CnnM2048(second_norm=channels == 3)
    # These two come with heads on the side, which have no place here.
    options = _NO_SIDE_HEADS if name in ("googlenet", "inception_v3") else {}
    return cast(nn.Module, torchvision.models.get_model(name, weights=None, **options))


_NO_SIDE_HEADS = {"aux_logits": False, "init_weights": True}


def _take_last_layer(backbone: nn.Module) -> tuple[str, int]:
    """Remove the last layer and the dropout before it; return its name and its features."""
    name, layer = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ][-1]
    parent_name, _, child = name.rpartition(".")
    parent = backbone.get_submodule(parent_name)
    setattr(parent, child, nn.Identity())
    if isinstance(parent, nn.Sequential) and child.isdecimal():
        before = int(child) - 1
        if before >= 0 and isinstance(parent[before], nn.Dropout):
            parent[before] = nn.Identity()
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _adapt_first_convolution(backbone: nn.Module, channels: int) -> nn.Conv2d:
    name, first = next(
        (name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)
    )
    if first.in_channels == channels:
        return first
    made = nn.Conv2d(
        channels,
        first.out_channels,
        cast(tuple[int, int], first.kernel_size),
        cast(tuple[int, int], first.stride),
        cast(tuple[int, int], first.padding),
        cast(tuple[int, int], first.dilation),
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    parent, _, child = name.rpartition(".")
    setattr(backbone.get_submodule(parent), child, made)
    return made


def _frozen_norms(backbone: nn.Module, batch_norm: BatchNorm) -> list[_BatchNorm]:
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    match batch_norm:
        case "train":
            return []
        case "partial":
            return norms[1:]
        case "frozen":
            return norms
    raise ParameterError(f"batch_norm is {batch_norm!r}; it must be train, partial or frozen")


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _without_prefix(state: State, own: State) -> State:
    """Names as the backbone has them, whatever training script wrote them."""
    for prefix in ("", "module.", "backbone.", "module.backbone.", "model.", "base_model."):
        found = {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }
        if found.keys() & own.keys():
            return found
    return state
