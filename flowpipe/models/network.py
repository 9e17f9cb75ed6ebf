"""Parts of a network, as options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from flowpipe.errors import ParameterError
from flowpipe.models import table

BatchNorm = Literal["train", "partial", "frozen"]
Consensus = Literal["average", "max", "attention"]


@dataclass(frozen=True, slots=True)
class Network:
    """Parts of a network."""

    model: Annotated[str, arg(metavar="NAME")] = "tsn"
    """Network; 'flowpipe models' lists them."""
    backbone: Annotated[str, arg(metavar="NAME")] = "resnet50"
    """2-D network inside tsn, tsm, trn, lrcn, stm, non-local and two-stream-fusion: a
    classification network of torchvision, such as resnet18 or mobilenet_v2, or cnn-m-2048, or
    bn-inception."""
    dropout: float = 0.7
    """Probability with which a feature is dropped before the last layer, and wherever the
    backbone itself drops features."""
    consensus: Consensus = "average"
    """How the scores of the segments are combined, for tsn."""
    batch_norm: BatchNorm = "partial"
    """Batch normalisations that are trained: all (train), the first (partial), or none
    (frozen)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ParameterError(f"dropout is {self.dropout!r}; it must be 0 to below 1")
        entry = table.model(self.model)
        if not entry.has_backbone and self.backbone != "resnet50":
            raise ParameterError(
                f"backbone is {self.backbone!r}; {self.model} has its own, and takes none"
            )
        if entry.relates_segments and self.consensus != "average":
            raise ParameterError(
                f"consensus is {self.consensus!r}; {self.model} relates the segments by itself"
            )
