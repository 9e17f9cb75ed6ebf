"""Views of a test clip, as options: by default those with which the authors test a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from tyro.conf import arg

from flowpipe.errors import ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import BOTH
from flowpipe.models.entry import Views
from flowpipe.runner.json_files import Json
from flowpipe.training.optimisation import Precision

if TYPE_CHECKING:
    from flowpipe.models.stream import StreamNetwork

Crops = Literal[1, 3, 10]
Average = Literal["scores", "probabilities"]
CROPS = get_args(Crops)

# Networks whose authors do not say how they test: TSN's snippets and crops, or the ten clips that
# most 3-D networks are tested with.
_SNIPPETS, _CLIPS = Views(25, 10), Views(10, 1)


@dataclass(frozen=True, slots=True)
class TestViews:
    """Views of a test clip for one network.

    Attributes
    ----------
    test_clips, crops, short_side, crop_size, average
        As in :class:`Testing`, and none of them is None.
    amp
        As in :class:`Testing`.
    """

    __test__ = False  # no test of pytest's

    test_clips: int | Literal["all"]
    crops: Crops
    short_side: int
    crop_size: int
    average: Average
    amp: Precision | None = None


@dataclass(frozen=True, slots=True)
class Testing:
    """Views of a test clip."""

    __test__ = False  # no test of pytest's

    test_clips: Annotated[
        int | Literal["all"] | None,
        arg(metavar="N|all", help_behavior_hint="(default: as the authors of the model test it)"),
    ] = None
    """Number of snippets or clips of a test clip, at equal steps, whose scores are averaged; all:
    every frame once, for 3-D networks that take any number. Of networks that relate segments, the
    number of times that all segments are sampled."""
    crops: Annotated[
        Crops | None,
        arg(metavar="1|3|10", help_behavior_hint="(default: as the authors of the model test it)"),
    ] = None
    """Crops of each: the centre (1), three along the longer side (3), or corners, centre and their
    mirror images (10)."""
    short_side: Annotated[
        int | None,
        arg(metavar="PIXELS", help_behavior_hint="(default: 8/7 of --input-size, or the model's)"),
    ] = None
    """Length in pixels that the short side of test frames is scaled to."""
    crop_size: Annotated[
        int | None,
        arg(metavar="PIXELS", help_behavior_hint="(default: --input-size, or the model's)"),
    ] = None
    """Height and width of a test crop in pixels."""
    average: Annotated[
        Average | None,
        arg(
            metavar="{scores,probabilities}",
            help_behavior_hint="(default: as the authors of the model test it)",
        ),
    ] = None
    """What is averaged over the views: scores before the softmax, or probabilities."""
    amp: Annotated[
        Precision | None,
        arg(
            metavar="{auto,float32,bfloat16,float16}",
            help_behavior_hint="(default: as the network was trained)",
        ),
    ] = None
    """Numbers that a network computes with; float16 takes a GPU. With bfloat16, processors that
    have it (AVX512-BF16, AMX) are faster, and scores change in the third digit."""

    def __post_init__(self) -> None:
        for name in ("test_clips", "short_side", "crop_size"):
            value = getattr(self, name)
            if value is not None and value != "all" and value < 1:
                raise ParameterError(f"{name} is {value}; it must be 1 or more")
        if self.crops not in (None, *CROPS):
            raise ParameterError(f"crops is {self.crops}; it must be 1, 3 or 10")
        if self.average not in (None, *get_args(Average)):
            raise ParameterError(
                f"average is {self.average!r}; it must be one of {', '.join(get_args(Average))}"
            )

        if self.amp not in (None, *get_args(Precision)):
            raise ParameterError(
                f"amp is {self.amp!r}; it must be one of {', '.join(get_args(Precision))}"
            )

    def of(self, network: StreamNetwork) -> TestViews:
        """Return the views for a network; what is not given is as its authors have it.

        Raises
        ------
        ParameterError
            The network cannot be tested so.
        """
        entry, size = table.model(network.network.model), network.clip.input_size
        usual = entry.views or (_SNIPPETS if entry.takes == "snippets" else _CLIPS)
        clips = self.test_clips or usual.clips
        if clips == "all" and not entry.any_length:
            able = ", ".join(name for name, each in table.MODELS.items() if each.any_length)
            raise ParameterError(
                f"test_clips is 'all', and {network.network.model} takes a fixed number of frames; "
                f"it must be a number. 'all' applies to {able}"
            )
        if clips == "all" and network.clip.modality == BOTH:
            raise ParameterError(f"test_clips is 'all'; for {BOTH} it must be a number")
        crop = self.crop_size or round(usual.crop * size)
        short = self.short_side or max(crop, round(usual.short_side * size))
        if short < crop:
            raise ParameterError(
                f"short_side is {short} and crop_size {crop}; a crop must fit into the frame"
            )
        if crop != size and entry.fixed_size:
            raise ParameterError(
                f"crop_size is {crop}; {network.network.model} takes the {size} pixels that it was "
                "trained with"
            )
        average = self.average or usual.average
        if average == "probabilities" and network.network.consensus != "average":
            raise ParameterError(
                f"average is 'probabilities'; with the consensus {network.network.consensus!r} of "
                "the segments' scores it must be 'scores'"
            )
        return TestViews(clips, self.crops or usual.crops, short, crop, average, self.amp)

    def description(self) -> Json:
        """Return everything that determines the scores, besides the network and the clips."""
        return {"stage": "evaluate", **asdict(self)}
