"""What a network has that :func:`flowpipe.training.train.train` trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

from torch import Tensor, nn


class Trainable(nn.Module, ABC):
    """A network that scores clips.

    Attributes
    ----------
    classes
        Number of classes, of each data set where it is trained on several.
    """

    classes: tuple[int, ...]

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name, for messages."""

    @property
    def first(self) -> nn.Module | None:
        """Return the first convolution, where it has a learning rate of its own."""
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
        """Return the scores that have a loss each, (B, classes)."""
