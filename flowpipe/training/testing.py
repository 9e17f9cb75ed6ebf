"""Views of a test clip, as options."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json

if TYPE_CHECKING:
    from flowpipe.models.stream import StreamNetwork

_SEGMENTS = 25


@dataclass(frozen=True, slots=True)
class Testing:
    """Views of a test clip."""

    __test__ = False  # no test of pytest's

    test_segments: Annotated[
        int | None,
        arg(
            metavar="N",
            help_behavior_hint="(default: 25, or those of training for networks that relate them)",
        ),
    ] = None
    """Number of snippets of a test clip, at equal steps."""
    crops: Literal[1, 10] = 10
    """Crops of a snippet: corners, centre and their mirror images (10), or the centre (1)."""

    def __post_init__(self) -> None:
        if self.test_segments is not None and self.test_segments < 1:
            raise ParameterError(f"test_segments is {self.test_segments}; it must be 1 or more")
        if self.crops not in (1, 10):
            raise ParameterError(f"crops is {self.crops}; it must be 1 or 10")

    def segments(self, network: StreamNetwork) -> int:
        """Return the number of snippets of a clip for a network."""
        if self.test_segments is not None:
            return self.test_segments
        return network.clip.segments if network.joins_segments else _SEGMENTS

    def description(self) -> Json:
        """Return everything that determines the scores, besides the network and the clips."""
        return {"stage": "evaluate", **asdict(self)}
