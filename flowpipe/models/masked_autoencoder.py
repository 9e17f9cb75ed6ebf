"""Masked autoencoders: a video transformer learns from clips without labels.

Z. Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022; C. Feichtenhofer et al., "Masked Autoencoders As Spatiotemporal
Learners", NeurIPS 2022. Most places of a clip are hidden, at all times (a tube): what stands still
could otherwise be copied from the frame before. The encoder, which is the network, sees only
the tokens of the visible places. A small decoder gets these and a learned token for each hidden
one, all with fixed positions of sines and cosines, and predicts the levels of the hidden tubelets.
They are normalised in each tubelet and channel, as in the released code of VideoMAE. The loss is
the mean squared error over the hidden tubelets alone: 1 for a prediction of the mean, and less
where tubelets are constant. Without initial weights, the encoder and the decoder begin as those of
He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: weights from Xavier's
distribution, positions of sines and cosines, which the encoder then learns further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowpipe.models import transformer
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.mae import Mae, check_pretrains
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.trainable import Trainable
from flowpipe.models.transformer import Block, layer_norm


class MaskedAutoencoder(Trainable):
    """Predict the hidden tubelets of clips from the visible ones.

    Parameters
    ----------
    network, clip
        Parts of the encoder, and what it sees of a clip.
    mae
        The mask and the decoder.

    Attributes
    ----------
    stream : StreamNetwork
        The encoder, without its last layer.

    Raises
    ------
    ParameterError
        No masked autoencoder can be made of the network, or nothing would be hidden or visible.
    """

    def __init__(self, network: Network, clip: ClipInput, mae: Mae | None = None) -> None:
        check_pretrains(network.model)
        super().__init__()
        self.mae = mae or Mae()
        self.stream = StreamNetwork(network, clip, [1])
        self.stream.last = None
        self.stream.consensus = nn.Identity()
        encoder: Any = self.stream.backbone
        self.tubelet: tuple[int, int, int] = encoder.tubelet
        times, *grid = encoder.token_grid
        self.places = grid[0] * grid[1]
        self.n_masked = self.mae.n_masked(self.places)
        _begin(encoder, self.places)
        numbers = self.tubelet[0] * self.tubelet[1] * self.tubelet[2] * self.stream.channels
        self.decoder = Decoder(self.stream.n_features, numbers, times, self.places, self.mae)

    @property
    def title(self) -> str:
        """The name of the encoder's model, for messages."""
        return self.stream.title

    @property
    def first(self) -> nn.Module:
        """The first convolution."""
        return self.stream.first

    @property
    def streams(self) -> Mapping[str, nn.Module]:
        """The encoder."""
        return self.stream.streams

    @property
    def source(self) -> tuple[ClipInput, Network]:
        """What the encoder sees of clips, and its parts."""
        return self.stream.source

    def laid_out(self) -> MaskedAutoencoder:
        """Store the weights as is fastest."""
        self.stream.laid_out()
        return self

    def new_layers(self) -> set[str]:
        """Return the names of the decoder's weights."""
        return {name for name, _ in self.named_parameters() if name.startswith("decoder.")}

    def clips(self, snippets: Tensor) -> Tensor:
        """Return clips of snippets: (B, K, C, H, W) -> (B, C, T, H, W)."""
        return cast(Tensor, self.stream.clips(snippets))

    def masks(self, batch: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Draw the visible and the hidden places of each clip, (B, V) and (B, M), in order."""
        order = torch.rand(batch, self.places, device=device).argsort(dim=1)
        masked, visible = order.split([self.n_masked, self.places - self.n_masked], dim=1)
        return visible.sort(dim=1).values, masked.sort(dim=1).values

    def encode(self, clips: Tensor, visible: Tensor) -> Tensor:
        """Return the encoded tokens of the visible places: (B, V) indices -> (B, T', V, D)."""
        return cast(Tensor, cast(Any, self.stream.backbone).visible_tokens(clips, visible))

    def heads(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Return the predicted and the true levels of hidden tubelets, each (B, T', M, numbers)."""
        visible, masked = self.masks(len(clips), clips.device)
        predicted = self.decoder(self.encode(clips, visible), visible, masked)
        return predicted, transformer.at_places(normalised_tubelets(clips, self.tubelet), masked)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`heads` does."""
        return self.heads(clips)

    def loss(self, heads: tuple[Tensor, ...], targets: Tensor, smoothing: float) -> Tensor:
        """Return the mean squared error over the hidden tubelets of each clip, (B,)."""
        predicted, true = heads
        return (predicted - true).square().flatten(1).mean(dim=1)

    def right(self, heads: tuple[Tensor, ...], labels: Tensor) -> None:
        """Return nothing: there are no classes."""


class Decoder(nn.Module):
    """Predict hidden tubelets from the encoded tokens of the others.

    Parameters
    ----------
    n_features
        Size of an encoded token.
    numbers
        Of a tubelet.
    times, places
        Number of tokens along time, and of places.
    mae
        Its width, depth and heads.
    """

    positions: Tensor

    def __init__(self, n_features: int, numbers: int, times: int, places: int, mae: Mae) -> None:
        super().__init__()
        width = mae.decoder_width
        self.embed = nn.Linear(n_features, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.blocks = nn.ModuleList(
            Block(width, mae.decoder_heads, 4 * width) for _ in range(mae.decoder_depth)
        )
        self.norm = layer_norm(width)
        self.predict = nn.Linear(width, numbers)
        positions = sines_and_cosines(times * places, width).unflatten(0, (1, times, places))
        self.register_buffer("positions", positions, persistent=False)
        _draw(self)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, encoded: Tensor, visible: Tensor, masked: Tensor) -> Tensor:
        """Map (B, T, V, D) with (B, V) and (B, M) places to (B, T, M, numbers)."""
        positions = self.positions.expand(len(encoded), -1, -1, -1)
        seen = self.embed(encoded) + transformer.at_places(positions, visible)
        hidden = self.mask_token + transformer.at_places(positions, masked)
        tokens = torch.cat([seen.flatten(1, 2), hidden.flatten(1, 2)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        last = tokens[:, -hidden.shape[1] * hidden.shape[2] :].unflatten(1, hidden.shape[1:3])
        predicted: Tensor = self.predict(self.norm(last))
        return predicted


def _begin(encoder: nn.Module, places: int) -> None:
    """Give an encoder the initial weights of the papers, which learn faster than its own."""
    _draw(encoder)
    kernel = next(m.weight for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    nn.init.xavier_uniform_(kernel.data.view(len(kernel), -1))
    for name, positions in encoder.named_parameters():
        if name.endswith("pos_embed"):
            first = positions.shape[1] % places  # that of the class token
            codes = sines_and_cosines(positions.shape[1] - first, positions.shape[2])
            positions.data[:, first:] = codes.to(positions.device)


def _draw(network: nn.Module) -> None:
    """Draw the weights of linear layers from Xavier's distribution; layers that are zero stay so.

    Attention over time is silent at the beginning, where the network has it so.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            if module.weight.is_meta or module.weight.any():
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def sines_and_cosines(count: int, width: int) -> Tensor:
    """Return a code of each position, (count, width), as in "Attention Is All You Need"."""
    rates = 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def normalised_tubelets(clips: Tensor, tubelet: tuple[int, int, int]) -> Tensor:
    """Return the levels of each tubelet, with mean 0 and variance 1 in each channel.

    Parameters
    ----------
    clips
        (B, C, T, H, W).
    tubelet
        Its extent in time, height and width.

    Returns
    -------
    (B, T / tubelet, places, numbers of a tubelet)
        Zero where a tubelet is constant.
    """
    time, height, width = tubelet
    parts = clips.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, time))
    levels = parts.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4, 6).flatten(2, 3).float()
    deviation, mean = torch.std_mean(levels, dim=3, keepdim=True)
    return ((levels - mean) / (deviation + 1e-6)).flatten(3)
