"""What a network sees of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from tyro.conf import arg

from flowpipe._options import Switch
from flowpipe.errors import ParameterError

Modality = Literal["rgb", "flow", "rgb-diff", "warped-flow", "rgb+flow"]
BOTH: Literal["rgb+flow"] = "rgb+flow"
"""The modality of networks of two inputs."""

Stacking = Literal["flow", "trajectory"]
ShortClips = Literal["refuse", "loop", "repeat"]


@dataclass(frozen=True, slots=True)
class ClipInput:
    """What a network sees of a clip."""

    modality: Modality = "flow"
    """RGB frames, flow, differences of RGB frames, flow without the camera's motion (the output of
    warp-flow), or, for networks of two inputs, flow with RGB frames of the same instants."""
    segments: int = 3
    """Number of equal parts of a clip. In training, one snippet is drawn from each."""
    length: int = 5
    """Number of flow fields, frames or differences in a snippet."""
    input_size: Annotated[int, arg(metavar="PIXELS")] = 224
    """Height and width of the network's input in pixels."""
    frame_stride: int = 1
    """Number of frames from one field, frame or difference of a snippet to the next."""
    short_clips: ShortClips = "refuse"
    """What is done with clips that are shorter than a snippet: refuse them, begin them again
    (loop), or repeat their last field or frame (repeat)."""
    stacking: Stacking = "flow"
    """Sample all fields of a flow snippet at the same pixel (flow), or along the trajectory that
    starts there (trajectory)."""
    subtract_mean: Switch = False
    """Subtract the mean of each flow field, and with it most of the camera's motion."""
    bound: Annotated[float | None, arg(metavar="PIXELS", help_behavior_hint="(default: 20)")] = None
    """Displacement that saturates 8-bit flow. Only for flow that does not record it: flow stored
    as floating point, and 8-bit flow of other tools."""
    fields_per_frame: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: that of the model)")
    ] = None
    """Number of flow fields for each RGB frame of a rgb+flow snippet. SlowFast has 4 or 8; other
    networks see one frame, in the middle of the snippet, and take no number."""

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ParameterError(
                f"modality is {self.modality!r}; it must be one of {', '.join(get_args(Modality))}"
            )
        for name in ("segments", "length", "frame_stride", "input_size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.short_clips not in get_args(ShortClips):
            raise ParameterError(
                f"short_clips is {self.short_clips!r}; it must be one of "
                f"{', '.join(get_args(ShortClips))}"
            )
        if self.stacking == "trajectory" and (self.frame_stride > 1 or self.short_clips == "loop"):
            raise ParameterError(
                f"frame_stride is {self.frame_stride} and short_clips {self.short_clips!r}; with "
                "stacking 'trajectory', which follows pixels from each field to the next, they "
                "must be 1, and 'refuse' or 'repeat'"
            )
        if not self.has_flow:
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
        if self.fields_per_frame is not None:
            if self.modality != BOTH:
                raise ParameterError(
                    f"fields_per_frame is {self.fields_per_frame}; it applies to {BOTH}, and "
                    f"modality is {self.modality!r}"
                )
            if self.fields_per_frame < 1 or self.length % self.fields_per_frame:
                raise ParameterError(
                    f"length is {self.length} and fields_per_frame {self.fields_per_frame}; the "
                    "length must be a multiple of it"
                )

    @property
    def is_flow(self) -> bool:
        """Whether the snippets are flow."""
        return self.modality in ("flow", "warped-flow")

    @property
    def span(self) -> int:
        """Number of fields, frames or differences from the first of a snippet to its last."""
        return 1 + (self.length - 1) * self.frame_stride

    @property
    def has_flow(self) -> bool:
        """Whether the snippets are flow, or have flow beside a frame."""
        return self.is_flow or self.modality == BOTH

    @property
    def channels_per_frame(self) -> int:
        """Number of channels of a field or frame: 2 or 3."""
        return 2 if self.has_flow else 3

    @property
    def channels(self) -> int:
        """Number of channels of a snippet, all its fields or frames together."""
        return self.channels_per_frame * self.length + 3 * self.rgb_frames

    @property
    def rgb_frames(self) -> int:
        """Number of RGB frames beside the flow of a snippet."""
        if self.modality != BOTH:
            return 0
        return 1 if self.fields_per_frame is None else self.length // self.fields_per_frame


def rgb_channels(channels: int, fields_per_frame: int | None) -> int:
    """Return how many of the channels of a rgb+flow snippet of any length are of RGB frames.

    Examples
    --------
    >>> rgb_channels(3 + 2 * 10, None), rgb_channels(3 * 8 + 2 * 32, 4)
    (3, 24)
    """
    return 3 if fields_per_frame is None else channels * 3 // (3 + 2 * fields_per_frame)
