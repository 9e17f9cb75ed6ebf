"""The network of a stream: any network of the table, for any number of channels and data sets.

As in temporal segment networks (Wang et al., ECCV 2016): the first convolution of an RGB network is
averaged over its input channels and copied to as many as the input has (cross-modality
initialisation), batch normalisation can be frozen except for the first, dropout precedes the
last layer, whose weights start as N(0, 0.001), and the scores of the snippets go into a consensus.

Several data sets can share all but the last layer (Simonyan and Zisserman, NIPS 2014): each has
some of the last layer's rows, and a clip is compared only with the classes of its own set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.consensus import consensus
from flowpipe.models.names import State, matching
from flowpipe.models.network import BatchNorm, Network
from flowpipe.models.temporal import set_frames


class StreamNetwork(nn.Module):
    """Score clips.

    Parameters
    ----------
    network
        Parts of the network.
    clip
        What it sees of a clip.
    classes
        Number of classes, of each data set where it is trained on several.
    module
        A network of your own in place of the model of the table: it maps snippets (N, C, H, W) to
        scores with a linear layer or a 1 x 1 convolution at the end, which is replaced.

    Attributes
    ----------
    last : nn.Linear or None
        The last layer; None where a head relates the segments.
    """

    def __init__(
        self,
        network: Network,
        clip: ClipInput,
        classes: Sequence[int],
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not classes or min(classes) < 1:
            raise ParameterError(f"a network needs classes; asked for {list(classes)}")
        entry = table.model(network.model)
        if entry.takes == "frames" and clip.segments > 1:
            raise ParameterError(
                f"segments is {clip.segments}; {network.model} sees consecutive frames, "
                "and segments must be 1"
            )
        self.network = network
        self.clip = clip
        self.classes = tuple(classes)
        self.takes = entry.takes
        self.joins_segments = entry.relates_segments
        self.backbone = module if module is not None else _built(entry, network, clip)
        if self.takes == "snippets":
            self.head_name, n_features = _take_last_layer(self.backbone)
        else:
            self.head_name = str(self.backbone.head_name)
            n_features = cast(int, self.backbone.n_features)
            _remove(self.backbone, self.head_name)
        channels = clip.channels_per_frame if self.takes == "frames" else clip.channels
        self.channels = channels
        # A network that takes its input apart says how many channels its first convolution has.
        first = getattr(self.backbone, "first_channels", channels)
        self._first_name = _adapt_first_convolution(self.backbone, first)
        for dropping in self.backbone.modules():
            if isinstance(dropping, nn.Dropout) and dropping.p > 0:  # as between VGG's last layers
                dropping.p = network.dropout
        self.n_features = n_features
        self.dropout = nn.Dropout(network.dropout)
        self.last: nn.Linear | None = None
        self.head: nn.Module | None = None
        if entry.head is not None:
            self.head = entry.head(n_features, clip.segments, sum(classes))
        else:
            self.last = nn.Linear(n_features, sum(classes))
            nn.init.normal_(self.last.weight, std=0.001)
            nn.init.zeros_(self.last.bias)
        self.consensus = consensus(network.consensus, n_features)
        self._frozen = _frozen_norms(self.backbone, network.batch_norm)
        for norm in self._frozen:
            norm.requires_grad_(False)
        self.train()

    @property
    def first(self) -> nn.Module:
        """The first convolution."""
        return self.backbone.get_submodule(self._first_name)

    def train(self, mode: bool = True) -> StreamNetwork:
        """Switch to training, except for what is frozen."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def channels_last(self) -> StreamNetwork:
        """Store the weights of convolutions with the channels last, which is faster."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            elif isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
        return self

    def new_layers(self) -> set[str]:
        """Return the names of weights that no backbone brings: of heads and inserted modules."""
        plain = getattr(self.backbone, "plain_names", None)
        return {
            name
            for name, _ in self.named_parameters()
            if not name.startswith("backbone.")
            or (plain is not None and name.removeprefix("backbone.") not in plain)
        }

    def clips(self, snippets: Tensor) -> Tensor:
        """Return clips, as :meth:`forward` takes them, of snippets as a data set gives them.

        (B, K, C, H, W) -> (B, C, T, H, W). T is the number of segments, or of the frames of the
        snippet, whose channels then are those of a frame.
        """
        if self.takes == "frames":
            return self._frames(snippets[:, 0])
        return snippets.transpose(1, 2)

    def _frames(self, snippets: Tensor) -> Tensor:
        """Map (N, C L, H, W) to (N, C, L, H, W)."""
        return snippets.unflatten(1, (-1, self.channels)).transpose(1, 2)

    def features(self, clips: Tensor) -> Tensor:
        """Return what the head sees: (B, C, T, H, W) -> (B, T', F)."""
        if clips.shape[1] != self.channels:
            raise ParameterError(
                f"a clip has {clips.shape[1]} channels; this network takes {self.channels}"
            )
        if self.takes != "snippets":
            features: Tensor = cast(Any, self.backbone).features(clips)
            return features
        set_frames(self.backbone, clips.shape[2])
        images = clips.transpose(1, 2)
        return _flat(self.backbone(images.flatten(0, 1))).unflatten(0, images.shape[:2])

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        return self.score(self.features(clips))

    def score(self, features: Tensor) -> Tensor:
        """Return scores of clips from the features of their segments: (B, K, F) -> (B, classes)."""
        dropped = self.dropout(features)
        if self.last is None:
            assert self.head is not None
            scores: Tensor = self.head(dropped)
            return scores
        combined: Tensor = self.consensus(self.last(dropped), features)
        return combined

    def snippets(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score snippets one by one: (N, C L, H, W) -> scores (N, classes), features (N, F)."""
        assert self.last is not None
        clips = self._frames(images) if self.takes == "frames" else images[:, :, None]
        features = self.features(clips).mean(dim=1)
        return self.last(self.dropout(features)), features

    def load_backbone(self, state: State, origin: str) -> None:
        """Load the weights of a network of the same kind, except for its last layer.

        The weights of a first convolution for another number of channels are averaged over them
        and copied to as many as there are here. Temporal modules that the file lacks keep their
        initial weights.

        Parameters
        ----------
        state
            Weights by the names of torchvision, of the released code of the network, of
            tsn-pytorch, TSM or mmaction2.
        origin
            Where they come from, for the error.

        Raises
        ------
        FormatError
            They are not of this kind of network; the message says what differs.
        """
        own = self.backbone.state_dict()
        names = table.model(self.network.model).names
        # What a weight was called before temporal modules were put around its layer.
        plain = dict(getattr(self.backbone, "plain_names", {}))
        found = matching(names(state) if names else state, own.keys() | set(plain.values()))
        left_out = (f"{self.head_name}.", "aux1.", "aux2.", "AuxLogits.")
        found = {name: value for name, value in found.items() if not name.startswith(left_out)}
        source = {name: name if name in found else plain.get(name, name) for name in own}
        taken = {name: found[source[name]] for name in own if source[name] in found}
        for name, weight in taken.items():
            if weight.ndim > 3 and weight.shape[1] != own[name].shape[1] == self.channels:
                mean = weight.mean(dim=1, keepdim=True)
                taken[name] = mean.expand(own[name].shape[0], self.channels, *weight.shape[2:])
        # Old files lack the counters of batch normalisation, which nothing here looks at.
        wrong = [
            f"{name} lacks"
            for name in own
            if name not in taken and not _is_counter(name) and (not plain or name in plain)
        ]
        used = {source[name] for name in taken}
        wrong += [f"{name} is no part of it" for name in found if name not in used]
        wrong += [
            f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}"
            for name, value in taken.items()
            if value.shape != own[name].shape
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            examples = ", ".join(list(state)[:3])
            kind = self.network.backbone if self.takes == "snippets" else self.network.model
            raise FormatError(
                f"{origin} holds no weights of {kind}: {'; '.join(wrong[:3])}{more}; "
                f"it has names such as {examples}"
            )
        self.backbone.load_state_dict(taken, strict=False)


def loss(
    scores: Tensor, labels: Tensor, classes: Sequence[int], *, smoothing: float = 0.0
) -> Tensor:
    """Return the cross entropy of each clip, among the classes of its own data set.

    Parameters
    ----------
    scores
        (B, classes of all sets).
    labels
        (B,) indices into them; for one set also the share of each class, (B, classes).
    classes
        Number of classes of each set.
    smoothing
        Share of a label that is spread over all classes; for one set.

    Returns
    -------
    (B,) losses.
    """
    if len(classes) > 1:
        scores = mask_other_sets(scores, labels, classes)
    return nn.functional.cross_entropy(scores, labels, reduction="none", label_smoothing=smoothing)


def mask_other_sets(scores: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return scores with those of other sets' classes set to minus infinity."""
    if len(classes) == 1:
        return scores
    of_class = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(list(classes)))
    of_class = of_class.to(scores.device)
    foreign = of_class[None, :] != of_class[labels][:, None]
    return scores.masked_fill(foreign, -torch.inf)


def _built(entry: table.Model, network: Network, clip: ClipInput) -> nn.Module:
    if entry.takes == "snippets":
        return entry.build(clip, network.backbone)
    return entry.build(clip)


def _flat(features: Tensor) -> Tensor:
    """Map (N, F, ...) to (N, F)."""
    return features.flatten(2).mean(dim=2) if features.ndim > 2 else features


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


def _remove(backbone: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition(".")
    owner = backbone.get_submodule(parent)
    if child in owner._modules:
        setattr(owner, child, nn.Identity())


def _adapt_first_convolution(backbone: nn.Module, channels: int) -> str:
    """Give the first convolution, 2-D or 3-D, another number of channels; return its name."""
    name, first = next(
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d)
    )
    if first.in_channels == channels:
        return name
    made = type(first)(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    parent, _, child = name.rpartition(".")
    setattr(backbone.get_submodule(parent), child, made)
    return name


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
