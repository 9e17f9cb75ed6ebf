"""What a network sees of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from tyro.conf import arg

from flowpipe.errors import ParameterError

Modality = Literal["rgb", "flow", "rgb-diff", "warped-flow"]
Stacking = Literal["flow", "trajectory"]


@dataclass(frozen=True, slots=True)
class ClipInput:
    """What a network sees of a clip."""

    modality: Modality = "flow"
    """RGB frames, flow, differences of RGB frames, or flow without the camera's motion (the output
    of warp-flow)."""
    segments: int = 3
    """Number of equal parts of a clip. In training, one snippet is drawn from each."""
    length: int = 5
    """Number of consecutive flow fields, frames or differences in a snippet."""
    input_size: Annotated[int, arg(metavar="PIXELS")] = 224
    """Height and width of the network's input in pixels."""
    stacking: Stacking = "flow"
    """Sample all fields of a flow snippet at the same pixel (flow), or along the trajectory that
    starts there (trajectory)."""
    subtract_mean: bool = False
    """Subtract the mean of each flow field, and with it most of the camera's motion."""
    bound: Annotated[float | None, arg(metavar="PIXELS", help_behavior_hint="(default: 20)")] = None
    """Displacement that saturates 8-bit flow. Only for flow that does not record it: flow stored
    as floating point, and 8-bit flow of other tools."""

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ParameterError(
                f"modality is {self.modality!r}; it must be one of {', '.join(get_args(Modality))}"
            )
        for name in ("segments", "length", "input_size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not self.is_flow:
            given = {
                "stacking": self.stacking != "flow",
                "subtract_mean": self.subtract_mean,
                "bound": self.bound is not None,
            }
            for name in (name for name, is_given in given.items() if is_given):
                raise ParameterError(
                    f"{name} is {getattr(self, name)!r}; it applies to flow, and modality is "
                    f"{self.modality!r}"
                )
        if self.bound is not None and not 0 < self.bound <= 4096:
            raise ParameterError(f"bound is {self.bound}; it must be more than 0, and at most 4096")

    @property
    def is_flow(self) -> bool:
        """Whether the snippets are flow."""
        return self.modality in ("flow", "warped-flow")

    @property
    def channels_per_frame(self) -> int:
        """Number of channels of a field or frame: 2 or 3."""
        return 2 if self.is_flow else 3

    @property
    def channels(self) -> int:
        """Number of channels of a snippet, all its fields or frames together."""
        return self.channels_per_frame * self.length
