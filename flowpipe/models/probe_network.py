"""Networks that score clips from stored maps, or tokens, of a network that is not trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.evl import BlockFeatures, CrossAttention, EVLDecoder, projection
from flowpipe.models.probes import Probe, StoredShape
from flowpipe.models.trainable import Scorer

Blocks = Sequence[BlockFeatures]
"""Of each folder of maps, and of each block of a transformer: (B, T, N, C) tokens."""


class Head(nn.Module, ABC):
    """Score clips from blocks of tokens."""

    @abstractmethod
    def forward(self, blocks: Blocks) -> Tensor:
        """Return scores before the softmax: -> (B, classes)."""

    def fit(self, clips: Iterable[Blocks]) -> None:
        """Fit what is not trained by gradients to the training clips, one at a time."""


class ProbeNetwork(Scorer):
    """Score clips from stored maps.

    Parameters
    ----------
    probe
        The head and its options.
    shapes
        What is stored of a frame in each folder.
    classes
        Number of classes.

    Examples
    --------
    >>> maps = StoredShape((3, 4, 32), grid=(3, 4))
    >>> network = ProbeNetwork(Probe("linear", frames=8), [maps], classes=5).eval()
    >>> network(network.clips(torch.zeros(2, 8, 3 * 4 * 32))).shape
    torch.Size([2, 5])
    """

    def __init__(self, probe: Probe, shapes: Sequence[StoredShape], classes: int) -> None:
        super().__init__()
        self.probe, self.shapes, self.classes = probe, tuple(shapes), (classes,)
        self.head = probe.entry.build(self.shapes, probe.frames, classes, probe.options)

    @property
    def title(self) -> str:
        """Its name, for messages."""
        return self.probe.head

    def new_layers(self) -> set[str]:
        """Return the names of all weights: none has been trained."""
        return {name for name, _ in self.named_parameters()}

    def clips(self, snippets: Tensor) -> list[BlockFeatures]:
        """Return the tokens of each block, of what is stored of frames: (B, T, numbers)."""
        if snippets.shape[1] != self.probe.frames:
            raise ParameterError(
                f"a clip has {snippets.shape[1]} frames; this head takes {self.probe.frames}"
            )
        # The networks of the maps are not trained: gradients stop here.
        parts = (
            snippets.detach().float().split([math.prod(each.shape) for each in self.shapes], dim=-1)
        )
        blocks = []
        for shape, part in zip(self.shapes, parts, strict=True):
            if not shape.blocks:
                blocks.append(BlockFeatures(part.unflatten(-1, (-1, shape.width))))
                continue
            stored = part.unflatten(-1, (shape.blocks, 3, shape.shape[1], shape.width))
            for block in range(shape.blocks):
                out, q, k = (stored[:, :, block, which] for which in range(3))
                apart = (shape.heads, -1)
                blocks.append(BlockFeatures(out, q.unflatten(-1, apart), k.unflatten(-1, apart)))
        return blocks

    def fit(self, clips: Iterable[Tensor]) -> None:
        """Fit what is not trained by gradients to the training clips, (T, numbers) each."""
        with torch.no_grad():
            self.head.fit(self.clips(clip[None]) for clip in clips)

    def heads(self, clips: Blocks) -> tuple[Tensor, ...]:
        """Return the scores, (B, classes)."""
        return (self(clips),)

    def forward(self, clips: Blocks) -> Tensor:
        """Return scores before the softmax: -> (B, classes)."""
        scores: Tensor = self.head(clips)
        return scores


class EvlHead(Head):
    """EVL's decoder, with a layer for each block of a transformer, or each folder of maps.

    Maps have no queries and keys: the maps themselves take their place, their channels normalised.

    Parameters
    ----------
    shapes
        What is stored of a frame in each folder.
    frames, classes
        Number of frames of a clip, and of classes.
    width
        Channels; those of tokens that have fewer.
    heads, dropout, cross_attention
        As for :class:`~flowpipe.models.evl.EVLDecoder`.
    """

    def __init__(
        self,
        shapes: Sequence[StoredShape],
        frames: int,
        classes: int,
        *,
        width: int,
        heads: int,
        dropout: float,
        cross_attention: bool,
    ) -> None:
        super().__init__()
        layers = [each for each in shapes for _ in range(max(each.blocks, 1))]
        self.decoder = EVLDecoder(
            width,
            frames,
            [each.grid for each in layers],
            classes,
            inputs=[each.width for each in layers],
            layers=len(layers),
            heads=heads,
            dropout=dropout,
            cross_attention=cross_attention,
        )

    def forward(self, blocks: Blocks) -> Tensor:
        """Return scores before the softmax: -> (B, classes)."""
        scores: Tensor = self.decoder([_with_queries(each) for each in blocks])
        return scores


class AttentionHead(Head):
    """A learned query that attends to all places of all frames, and a linear layer.

    Of a transformer the tokens of the last block are taken. The order of frames does not matter.

    Parameters
    ----------
    shapes
        What is stored of a frame in each folder; the tokens of all of them are attended to.
    classes
        Number of classes.
    width, heads
        Channels, and heads of the attention.
    dropout
        Probability with which a feature is dropped before the last layer.
    """

    def __init__(
        self,
        shapes: Sequence[StoredShape],
        classes: int,
        *,
        width: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.projections = nn.ModuleList(projection(each.width, width) for each in shapes)
        self.query = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.query, std=0.02)
        self.attention = CrossAttention(width, heads)
        self.last = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, classes)
        )

    def forward(self, blocks: Blocks) -> Tensor:
        """Return scores before the softmax: -> (B, classes)."""
        tokens = [
            project(out.flatten(1, 2))
            for project, out in zip(
                self.projections, _last_blocks(self.shapes, blocks), strict=True
            )
        ]
        query = self.query.expand(len(tokens[0]), 1, -1)
        pooled = self.attention(query, torch.cat(tokens, dim=1))[:, 0]
        scores: Tensor = self.last(pooled)
        return scores


class LinearHead(Head):
    """The mean of all places and frames, standardised, and a linear layer.

    Of a transformer the class token of the last block is taken, averaged over the frames. The mean
    and the standard deviation are those of the training clips.

    Parameters
    ----------
    shapes
        What is stored of a frame in each folder; the means of all of them follow each other.
    classes
        Number of classes.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shapes: Sequence[StoredShape], classes: int) -> None:
        super().__init__()
        self.shapes = shapes
        width = sum(each.width for each in shapes)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.last = nn.Linear(width, classes)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)

    def forward(self, blocks: Blocks) -> Tensor:
        """Return scores before the softmax: -> (B, classes)."""
        scores: Tensor = self.last((self._pooled(blocks) - self.mean) / self.deviation)
        return scores

    def fit(self, clips: Iterable[Blocks]) -> None:
        """Compute the mean and the standard deviation over the training clips."""
        means = torch.cat([self._pooled(each) for each in clips]).double()
        self.mean.copy_(means.mean(dim=0))
        deviation = means.std(dim=0, correction=0)
        # What hardly varies among the training clips must not outweigh all else in a test clip.
        least = 0.01 * float(deviation.mean())
        self.deviation.copy_(deviation.clamp(min=least) if least else torch.ones_like(deviation))

    def _pooled(self, blocks: Blocks) -> Tensor:
        means = [
            (out[:, :, :1] if shape.blocks else out).mean(dim=(1, 2))
            for shape, out in zip(self.shapes, _last_blocks(self.shapes, blocks), strict=True)
        ]
        return torch.cat(means, dim=-1)


def _last_blocks(shapes: Sequence[StoredShape], blocks: Blocks) -> list[Tensor]:
    """Return the output of the last block of each folder, (B, T, N, C)."""
    found, at = [], 0
    for shape in shapes:
        at += max(shape.blocks, 1)
        found.append(blocks[at - 1].out)
    return found


def _with_queries(block: BlockFeatures) -> BlockFeatures:
    if block.q is not None:
        return block
    normed = nn.functional.layer_norm(block.out, block.out.shape[-1:])[..., None, :]
    return BlockFeatures(block.out, normed, normed)
