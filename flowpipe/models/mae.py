"""How a masked autoencoder is made of a video transformer, as options."""

from __future__ import annotations

from dataclasses import dataclass

from flowpipe.errors import ParameterError
from flowpipe.models import table


@dataclass(frozen=True, slots=True)
class Mae:
    """The mask of a masked autoencoder, and its decoder."""

    mask_ratio: float = 0.9
    """Share of the places of a clip that are hidden at all times, for --pretrain mae."""
    decoder_width: int = 384
    """Size of a token of the decoder, for --pretrain mae."""
    decoder_depth: int = 4
    """Number of blocks of the decoder, for --pretrain mae."""
    decoder_heads: int = 6
    """Number of attention heads of the decoder, for --pretrain mae."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise ParameterError(
                f"mask_ratio is {self.mask_ratio}; it must be more than 0 and less than 1"
            )
        for name in ("decoder_width", "decoder_depth", "decoder_heads"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        # A sine and a cosine of each frequency for the positions.
        if self.decoder_width % 2 or self.decoder_width % self.decoder_heads:
            raise ParameterError(
                f"decoder_width is {self.decoder_width}; it must be even, and a multiple of "
                f"{self.decoder_heads} decoder_heads"
            )

    def n_masked(self, places: int) -> int:
        """Return how many places of so many are hidden.

        Raises
        ------
        ParameterError
            None would be hidden, or none would be visible.

        Examples
        --------
        >>> Mae(0.9).n_masked(196)
        176
        """
        count = round(self.mask_ratio * places)
        if not 0 < count < places:
            raise ParameterError(
                f"mask_ratio is {self.mask_ratio}, which hides {count} of the {places} places of a "
                "clip; some must be hidden, and some visible"
            )
        return count


def check_pretrains(model: str) -> None:
    """Check that a masked autoencoder can be made of a network.

    Raises
    ------
    ParameterError
        It cannot; the message names those of which it can.
    """
    if not table.model(model).maskable:
        names = [name for name, entry in table.MODELS.items() if entry.maskable]
        raise ParameterError(
            f"model is {model!r}; pretrain 'mae' hides tokens of a transformer, and decodes those "
            f"of single places and times: it takes {', '.join(names)}"
        )
