"""What a network has that :func:`flowpipe.training.train.train` trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.consensus import mean_score
from flowpipe.models.losses import loss, mask_other_sets
from flowpipe.models.network import Network


class Trainable(nn.Module, ABC):
    """A network that learns from clips, with a loss of its own.

    Attributes
    ----------
    classes
        Number of classes, of each data set where it is trained on several; none where it learns
        without labels.
    """

    classes: tuple[int, ...] = ()

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name, for messages."""

    @property
    def first(self) -> nn.Module | None:
        """Return the first convolution, where it has a learning rate of its own."""
        return None

    @property
    def streams(self) -> Mapping[str, nn.Module]:
        """The networks whose residual blocks can be skipped, by the names of their inputs."""
        return {}

    @property
    def source(self) -> tuple[ClipInput, Network] | None:
        """What it sees of clips and its parts, which say how levels of 8 bit are normalised.

        None if it takes no levels.
        """
        return None

    def laid_out(self) -> Self:
        """Store the weights as is fastest."""
        return self

    @abstractmethod
    def new_layers(self) -> set[str]:
        """Return the names of weights that no initial weights have."""

    @abstractmethod
    def clips(self, snippets: Tensor) -> Any:
        """Return a batch as the network takes it, of one as a data set gives it."""

    @abstractmethod
    def heads(self, clips: Any) -> tuple[Tensor, ...]:
        """Return what the loss is computed from: tensors with an entry for each clip."""

    @abstractmethod
    def loss(self, heads: tuple[Tensor, ...], targets: Tensor, smoothing: float) -> Tensor:
        """Return the loss of each clip, (B,).

        Parameters
        ----------
        heads
            Of :meth:`heads`, in float32.
        targets
            (B,) classes, or the share of each class, (B, classes).
        smoothing
            Share of a label that is spread over all classes.
        """

    @abstractmethod
    def right(self, heads: tuple[Tensor, ...], labels: Tensor) -> Tensor | None:
        """Return whether the class of each clip was found, (B,); None where there are none."""


class Scorer(Trainable):
    """A network that scores clips: each of its heads gives scores, (B, classes), with a loss."""

    def loss(self, heads: tuple[Tensor, ...], targets: Tensor, smoothing: float) -> Tensor:
        """Return the sum of the cross entropies of the heads for each clip, (B,)."""
        each = [loss(scores, targets, self.classes, smoothing=smoothing) for scores in heads]
        return torch.stack(each).sum(dim=0)

    def right(self, heads: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Return whether the class of each clip has the best score of its set, (B,)."""
        scores = mean_score([each.detach() for each in heads])
        return mask_other_sets(scores, labels, self.classes).argmax(dim=1) == labels
