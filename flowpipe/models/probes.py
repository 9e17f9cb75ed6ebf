"""Heads on the stored maps of a network that is not trained: the table of probes, their options.

``evl``: Z. Lin et al., "Frozen CLIP Models are Efficient Video Learners", ECCV 2022.
``attention``: a learned query attends to all places of all frames. ``linear``: the mean of all
places and frames, standardised, and a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from flowpipe._options import NameIn
from flowpipe.errors import ParameterError, check_range
from flowpipe.runner.json_files import Json

if TYPE_CHECKING:
    from flowpipe.models.probe_network import Head


PROBE_NAME = "probe.safetensors"
"""The file of a head."""


@dataclass(frozen=True, slots=True)
class StoredShape:
    """What is stored of a frame, of a network.

    Attributes
    ----------
    shape
        (H, W, C) of maps, or (3 blocks, tokens, C) of the tokens of a vision transformer: output,
        queries and keys of each block.
    grid
        Height and width of the grid of places. Tokens have a class token before them.
    blocks
        Number of blocks; 0 for maps.
    heads
        Number of heads of queries and keys; 1 for maps.
    """

    shape: tuple[int, int, int]
    grid: tuple[int, int]
    blocks: int = 0
    heads: int = 1

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.shape[2]


@dataclass(frozen=True, slots=True)
class ProbeEntry:
    """A head that a user can ask for by name.

    Attributes
    ----------
    build
        Return the head for what is stored of each folder, a number of frames and of classes, and
        the options.
    title
        One line for lists.
    published
        Authors, title, venue.
    options
        Options that apply to it, with their defaults.
    """

    build: Callable[[Sequence[StoredShape], int, int, Json], Head]
    title: str
    published: str
    options: Json


def _evl(shapes: Sequence[StoredShape], frames: int, classes: int, options: Json) -> Head:
    from flowpipe.models.probe_network import EvlHead

    return EvlHead(shapes, frames, classes, **options)


def _attention(shapes: Sequence[StoredShape], frames: int, classes: int, options: Json) -> Head:
    from flowpipe.models.probe_network import AttentionHead

    return AttentionHead(shapes, classes, **options)


def _linear(shapes: Sequence[StoredShape], frames: int, classes: int, options: Json) -> Head:
    from flowpipe.models.probe_network import LinearHead

    return LinearHead(shapes, classes)


PROBES: dict[str, ProbeEntry] = {
    "evl": ProbeEntry(
        _evl,
        "EVL's decoder: a query attends to frames that know their neighbours",
        "Z. Lin et al., 'Frozen CLIP Models are Efficient Video Learners', ECCV 2022",
        {"width": 256, "heads": 4, "dropout": 0.5, "cross_attention": True},
    ),
    "attention": ProbeEntry(
        _attention,
        "a query attends to all places of all frames, whatever their order",
        "",
        {"width": 256, "heads": 4, "dropout": 0.5},
    ),
    "linear": ProbeEntry(
        _linear, "the mean of all places and frames, standardised, and a linear layer", "", {}
    ),
}
"""Heads by the name that a user types; a new one is a function and a line here."""


def _of(name: str) -> str:
    """Return the hint of an option's default: those of the heads that have it."""
    having = {key: entry.options[name] for key, entry in PROBES.items() if name in entry.options}
    values = " ".join(dict.fromkeys(str(value) for value in having.values()))
    return f"(for {', '.join(having)}; default: {values})"


@dataclass(frozen=True, slots=True)
class Probe:
    """A head on stored maps, and what it sees of a clip."""

    head: Annotated[str, NameIn(PROBES)] = "attention"
    """What is trained on the maps: EVL's decoder (evl), a query that attends to all places of all
    frames (attention), or a linear layer on their mean (linear)."""
    frames: Annotated[int, arg(metavar="T")] = 8
    """Number of equal parts of a clip. In training a map is drawn from each, in tests the one in
    its middle is taken."""
    test_clips: Annotated[int, arg(metavar="N")] = 3
    """Number of times that all parts of a test clip are sampled, at equal steps within each. The
    scores are averaged."""
    width: Annotated[int | None, arg(metavar="N", help_behavior_hint=_of("width"))] = None
    """Number of channels in the head. Maps with more are projected to it."""
    heads: Annotated[int | None, arg(metavar="N", help_behavior_hint=_of("heads"))] = None
    """Number of heads of the attention."""
    dropout: Annotated[float | None, arg(metavar="P", help_behavior_hint=_of("dropout"))] = None
    """Probability with which units are dropped in training."""
    cross_attention: Annotated[
        bool | None, arg(metavar="{True,False}", help_behavior_hint=_of("cross_attention"))
    ] = None
    """Whether places attend to the frames before and after, by their queries and keys, or, where
    there are none, by the maps themselves."""

    def __post_init__(self) -> None:
        if self.head not in PROBES:
            raise ParameterError(f"head is {self.head!r}; it must be one of {', '.join(PROBES)}")
        check_range("frames", self.frames, 1, 1000)
        check_range("test_clips", self.test_clips, 1, 100)
        for name in ("width", "heads", "dropout", "cross_attention"):
            value = getattr(self, name)
            if value is not None and name not in self.entry.options:
                able = ", ".join(key for key, each in PROBES.items() if name in each.options)
                raise ParameterError(
                    f"{name} is {value}; it applies to {able}, and head is {self.head!r}"
                )
        if self.width is not None:
            check_range("width", self.width, 1, 65536)
        if self.heads is not None:
            check_range("heads", self.heads, 1, 1024)
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ParameterError(f"dropout is {self.dropout}; it must be 0 to below 1")
        options = self.options
        if "heads" in options and options["width"] % options["heads"]:
            raise ParameterError(
                f"width is {options['width']}; it must be a multiple of {options['heads']} heads"
            )

    @property
    def entry(self) -> ProbeEntry:
        """The entry of the table."""
        return PROBES[self.head]

    @property
    def options(self) -> Json:
        """Options of the head, given or by default."""
        given = {name: getattr(self, name) for name in self.entry.options}
        return {name: default if given[name] is None else given[name]
                for name, default in self.entry.options.items()}  # fmt: skip

    def description(self) -> Json:
        """Return everything that determines the head, besides the maps and the training."""
        own = {name: value for name, value in asdict(self).items() if name not in _OPTIONAL}
        return {**own, **self.options}


_OPTIONAL = ("width", "heads", "dropout", "cross_attention")
