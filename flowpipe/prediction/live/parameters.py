"""Parameters of live prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from tyro.conf import arg

from flowpipe.errors import ParameterError, check_range

LiveFlow = Literal["auto", "trained", "fast", "dis"]


@dataclass(frozen=True, slots=True)
class Live:
    """Live prediction from a camera, a stream, a pipe, or a file at its own pace."""

    every: Annotated[float, arg(metavar="SECONDS")] = 1.0
    """Time of the source between two labels of live prediction."""
    window: Annotated[float, arg(metavar="SECONDS")] = 3.0
    """Time of the source that a label of live prediction is for: the last so many seconds."""
    snippets: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: those of training)")
    ] = None
    """Number of snippets of the window that a network sees in live prediction, at equal steps; of
    each it sees the centre crop."""
    live_flow: LiveFlow = "auto"
    """Flow that a network sees in live prediction: the fast preset of TV-L1 where it was trained on
    TV-L1, else the method of its training (auto); that of its training with the same parameters
    (trained); the fast preset of TV-L1 (fast); or OpenCV's fast setting of DIS (dis)."""
    duration: Annotated[
        float | None, arg(metavar="SECONDS", help_behavior_hint="(default: until the source ends)")
    ] = None
    """Time of the source after which live prediction ends."""
    stall: Annotated[float, arg(metavar="SECONDS")] = 10.0
    """A live source that gives no frame for so long is an error. Until then, a network stream that
    breaks off is opened again."""

    def __post_init__(self) -> None:
        for name in ("every", "window", "stall"):
            check_range(name, getattr(self, name), 0, 86400, open_low=True)
        if self.duration is not None:
            check_range("duration", self.duration, 0, open_low=True)
        if self.snippets is not None:
            check_range("snippets", self.snippets, 1, 1000)
        if self.live_flow not in get_args(LiveFlow):
            raise ParameterError(
                f"live_flow is {self.live_flow!r}; it must be one of "
                f"{', '.join(get_args(LiveFlow))}"
            )
