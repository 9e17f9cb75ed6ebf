"""What is fixed before anything is tested, as options: the same for all systems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from tyro.conf import Suppress, arg

from flowpipe.errors import ParameterError, check_range
from flowpipe.flow.methods import METHODS
from flowpipe.io.source import Size, check_size

Recipe = Literal["small", "scratch", "published"]
STREAMS = ("rgb", "flow", "warped-flow", "rgb+flow")
"""What networks see."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is fixed before anything is tested; each system is run with it once.

    Raises
    ------
    ParameterError
        A value is out of range.
    """

    recipe: Recipe = "small"
    """How networks are trained and tested: with settings for sets of hundreds of clips and machines
    without a GPU (small, docs/compare.md), as small networks that learn from random weights in a
    minute on a CPU (scratch), or as their authors do (published)."""
    backbone: Annotated[
        str | None,
        arg(
            metavar="NAME",
            help_behavior_hint="(default: that of the recipe)",
        ),
    ] = None
    """2-D network inside the systems that have one."""
    input_size: Annotated[
        int | None,
        arg(
            metavar="PIXELS",
            help_behavior_hint="(default: that of the recipe)",
        ),
    ] = None
    """Height and width of the input of networks with a backbone, in pixels."""
    epochs: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: that of the recipe)")
    ] = None
    """Number of epochs of all networks."""
    streams: Annotated[
        tuple[str, ...], arg(metavar="|".join(STREAMS), help_behavior_hint="(default: all)")
    ] = ()
    """Streams of networks that are run. A network that has none of them is not run."""
    gaussians: int = 256
    """Number of Gaussians of the Fisher vectors of trajectories."""
    seed: int = 0
    """Seed of everything random."""
    size: Suppress[Size] = None
    """(width, height) that frames are resized to, or the length of their short side; by default
    340x256 for flow, and each video's own size for trajectories."""
    flow_preset: Annotated[str, arg(metavar="{published,fast,accurate}")] = "published"
    """Parameters of TV-L1, as for extract-flow --preset."""
    weights_in_fusion: Annotated[tuple[float, float, float], arg(metavar="RGB FLOW IDT")] = (
        1.0,
        1.5,
        1.0,
    )
    """Weights, in every fusion, of scores of frames, of flow, and of SVMs."""

    def __post_init__(self) -> None:
        if self.recipe not in get_args(Recipe):
            raise ParameterError(
                f"recipe is {self.recipe!r}; it must be {' or '.join(get_args(Recipe))}"
            )
        for name, least in (("input_size", 16), ("epochs", 1), ("gaussians", 1), ("seed", 0)):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, least)
        if unknown := set(self.streams) - set(STREAMS):
            raise ParameterError(
                f"streams are {', '.join(self.streams)}; {min(unknown)!r} is none of "
                f"{', '.join(STREAMS)}"
            )
        check_size(self.size)
        METHODS["tvl1"].preset(self.flow_preset)
        weights = self.weights_in_fusion
        if (
            len(weights) != 3
            or not all(0 <= each < math.inf for each in weights)
            or not any(weights)
        ):
            raise ParameterError(
                f"weights_in_fusion are {weights}; they must be three numbers of 0 or more"
            )

    def weight(self, stream: str) -> float:
        """Return the weight of a stream's scores in every fusion."""
        frames, flow, svms = self.weights_in_fusion
        if stream in ("flow", "warped-flow"):
            return flow
        return frames if stream in ("rgb", "rgb+flow", "maps") else svms

    def changed(self, **options: Any) -> Settings:
        """Return the settings with other values."""
        from flowpipe._options import with_options

        changed: Settings = with_options(options, self)[0]
        return changed
