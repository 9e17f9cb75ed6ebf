"""The network of a stream: any network of the table, for any number of channels and data sets.

As in temporal segment networks (Wang et al., ECCV 2016): the first convolution of an RGB network is
averaged over its input channels and copied to as many as the input has (cross-modality
initialisation), batch normalisation can be frozen except for the first, dropout precedes the
last layer, whose weights start as N(0, 0.001), and the scores of the snippets go into a consensus.

Several data sets can share all but the last layer (Simonyan and Zisserman, NIPS 2014): each has
some of the last layer's rows, and a clip is compared only with the classes of its own set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flowpipe.errors import ParameterError
from flowpipe.models import table
from flowpipe.models.adapt import adapt_first_convolution, remove_layer, take_last_layer
from flowpipe.models.clip_input import BOTH, ClipInput, rgb_channels
from flowpipe.models.consensus import consensus
from flowpipe.models.loading import load_weights
from flowpipe.models.names import State
from flowpipe.models.network import BatchNorm, Network
from flowpipe.models.temporal import set_frames
from flowpipe.models.trainable import Scorer

Clips = Tensor | Mapping[str, Tensor]
"""(B, C, T, H, W), or a tensor for each of two inputs, ``rgb`` and ``flow``."""


class StreamNetwork(Scorer):
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
        is_paired = clip.modality == BOTH
        if is_paired != (entry.takes == "both") and not (is_paired and entry.paired):
            wanted = BOTH if entry.takes == "both" else "that of one input"
            raise ParameterError(
                f"modality is {clip.modality!r}; for {network.model} it must be {wanted}"
            )
        if is_paired and clip.fields_per_frame != entry.alpha:
            raise ParameterError(
                f"fields_per_frame is {clip.fields_per_frame}; for {network.model} it must be "
                f"{entry.alpha}"
            )
        if entry.takes == "both" and len(classes) > 1:
            raise ParameterError(
                f"there are {len(classes)} data sets; {network.model} is trained on one"
            )
        self.network = network
        self.clip = clip
        self.classes = tuple(classes)
        self.takes = entry.takes
        self.joins_segments = entry.relates_segments
        self.backbone = module if module is not None else _built(entry, network, clip)
        if self.takes == "snippets":
            self.head_name, n_features = take_last_layer(self.backbone)
        else:
            self.head_name = str(self.backbone.head_name)
            n_features = cast(int, self.backbone.n_features)
            if self.takes != "both":  # whose streams have lost theirs
                remove_layer(self.backbone, self.head_name)
        is_single = self.takes == "frames" and not is_paired
        channels = clip.channels_per_frame if is_single else clip.channels
        self.channels = channels
        # A network that takes its input apart says how many channels its first convolution has.
        first = getattr(self.backbone, "first_channels", channels)
        self._first_name = adapt_first_convolution(self.backbone, first)
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
        self._frozen = [
            norm
            for stream in self.streams.values()
            for norm in _frozen_norms(stream, network.batch_norm)
        ]
        for norm in self._frozen:
            norm.requires_grad_(False)
        self.train()

    @property
    def streams(self) -> dict[str, nn.Module]:
        """The backbone, or by their inputs the 2-D networks that it consists of."""
        return getattr(self.backbone, "streams", {"": self.backbone})

    @property
    def source(self) -> tuple[ClipInput, Network]:
        """What it sees of clips, and its parts."""
        return self.clip, self.network

    @property
    def title(self) -> str:
        """The name of its model, for messages."""
        return self.network.model

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

    def laid_out(self) -> StreamNetwork:
        """Store the weights of convolutions as is fastest: with the channels last."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
            elif isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)
        return self

    def new_layers(self) -> set[str]:
        """Return the names of weights that no backbone brings: of heads and inserted modules.

        Of networks of two inputs: of all layers from the fusion upwards.
        """
        if self.takes == "both":
            upper = cast(Any, self.backbone).upper_names()
            return {
                name
                for name, _ in self.named_parameters()
                if not name.startswith("backbone.") or name.removeprefix("backbone.") in upper
            }
        plain = getattr(self.backbone, "plain_names", None)
        return {
            name
            for name, _ in self.named_parameters()
            if not name.startswith("backbone.")
            or (plain is not None and name.removeprefix("backbone.") not in plain)
        }

    def clips(self, snippets: Tensor) -> Clips:
        """Return clips, as :meth:`forward` takes them, of snippets as a data set gives them.

        (B, K, C, H, W) -> (B, C, T, H, W). T is the number of segments, or of the frames of the
        snippet, whose channels then are those of a frame. For networks of two inputs
        ``{"rgb": (B, 3, T, H, W), "flow": (B, 2 L, T, H, W)}``; for SlowFast
        ``{"rgb": (B, 3, T / alpha, H, W), "flow": (B, 2, T, H, W)}``.
        """
        if self.takes == "frames" and self.clip.modality == BOTH:
            rgb = rgb_channels(snippets.shape[2], self.clip.fields_per_frame)
            frames, fields = snippets[:, 0, :rgb], snippets[:, 0, rgb:]
            return {"rgb": _apart(frames, 3), "flow": _apart(fields, 2)}
        if self.clip.modality == BOTH:
            clips = snippets.transpose(1, 2)
            return {"rgb": clips[:, :3], "flow": clips[:, 3:]}
        if self.takes == "frames":
            return _apart(snippets[:, 0], self.channels)
        return snippets.transpose(1, 2)

    def features(self, clips: Clips) -> Tensor:
        """Return what the head sees: (B, C, T, H, W) -> (B, T', F).

        Of two-stream fusion: (B, 2, F), of the fused stream and of that of flow.
        """
        if isinstance(clips, Mapping):
            both: Tensor = cast(Any, self.backbone).features(clips)
            return both
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

    def layer_features(self, clips: Clips, layer: str | None) -> Tensor:
        """Return the output of a layer that the table names; None: what the head sees."""
        if layer is None:
            return self.features(clips)
        features: Tensor = cast(Any, self.backbone).layer_features(clips, layer)
        return features

    def forward(self, clips: Clips) -> Tensor:
        """Return scores before the softmax: (B, C, T, H, W) -> (B, classes)."""
        return self.score(self.features(clips))

    def heads(self, clips: Clips) -> tuple[Tensor, ...]:
        """Return the scores that have a loss each, (B, classes); most networks have one head."""
        if self.takes != "both":
            return (self(clips),)
        scores: tuple[Tensor, ...] = cast(Any, self.head).each(self.dropout(self.features(clips)))
        return scores

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
        features = self.features(self.clips(images[:, None])).mean(dim=1)
        return self.last(self.dropout(features)), features

    def load_backbone(
        self, state: State, origin: str, part: str = "", *, whole: bool = False
    ) -> None:
        """Load the weights of a network of the same kind, except for its last layer.

        The weights of a first convolution for another number of channels are averaged over them
        and copied to as many as there are here. Temporal modules that the file lacks keep their
        initial weights. A stream of a network of two inputs also takes the last layer, of a file of
        ``train`` for as many classes.

        Parameters
        ----------
        state
            Weights by the names of torchvision, of the released code of the network, of
            tsn-pytorch, TSM or mmaction2.
        origin
            Where they come from, for the error.
        part
            ``rgb`` or ``flow``: the stream of a network of two inputs.
        whole
            Temporal modules must be in the file, too.

        Raises
        ------
        FormatError
            They are not of this kind of network; the message says what differs.
        """
        entry = table.model(self.network.model)
        # Of a network that sees pairs, both parts begin with the same weights.
        one = self.clip.channels_per_frame if self.takes == "frames" else self.channels
        if entry.paired and self.takes != "frames" and self.clip.modality == BOTH:
            one = self.channels - 3
        load_weights(
            self.streams[part],
            entry.names(state) if entry.names else state,
            origin,
            channels={"rgb": 3, "flow": self.channels - 3}.get(part, one),
            kind=self.network.backbone if entry.has_backbone else self.network.model,
            left_out=(f"{self.head_name}.", "aux1.", "aux2.", "AuxLogits."),
            whole=whole,
        )
        if part:
            head: Any = self.head
            layer = head.fused if part == "rgb" else head.flow
            last = {name: state.get(f"last.{name}") for name in ("weight", "bias")}
            shapes = [None if found is None else found.shape for found in last.values()]
            if shapes == [layer.weight.shape, layer.bias.shape]:
                layer.load_state_dict(last)


def _built(entry: table.Model, network: Network, clip: ClipInput) -> nn.Module:
    if entry.has_backbone:
        return entry.build(clip, network.backbone)
    return entry.build(clip)


def _apart(snippets: Tensor, channels: int) -> Tensor:
    """Map (N, C L, H, W) to (N, C, L, H, W)."""
    return snippets.unflatten(1, (-1, channels)).transpose(1, 2)


def _flat(features: Tensor) -> Tensor:
    """Map (N, F, ...) to (N, F)."""
    return features.flatten(2).mean(dim=2) if features.ndim > 2 else features


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
