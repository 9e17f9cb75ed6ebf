"""Which fields or frames the maps of a 3-D network are computed of, and how they are joined.

A 3-D network has a map for every few frames of a window. Windows begin at 0, stride, 2 stride, ...,
and the last is the first that reaches the end of the clip, whose last frame is repeated in it.
Where windows overlap, of each the maps in the middle are kept, as many as lie in a stride; of the
first also those before them, and of the last those after them. So map t is of the frames from
``t * frames_per_map`` on, as of a single window, but for what a layer sees of the frames around:
at the ends of a window it sees zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowpipe.errors import ParameterError


@dataclass(frozen=True, slots=True)
class MapWindows:
    """Windows of a network in time, and the maps that are kept of each.

    Attributes
    ----------
    length
        Fields or frames of a window.
    stride
        From the start of a window to that of the next.
    maps
        Maps of a window.

    Raises
    ------
    ParameterError
        They do not fit together.

    Examples
    --------
    >>> windows = MapWindows(length=16, stride=8, maps=4)
    >>> [(start, kept.start, kept.stop) for start, kept in windows.of(30)]
    [(0, 0, 3), (8, 1, 3), (16, 1, 4)]
    >>> windows.count(30)
    8
    """

    length: int
    stride: int
    maps: int

    def __post_init__(self) -> None:
        if self.length % self.maps:
            raise ParameterError(
                f"length is {self.length} frames, of which the layer has {self.maps} maps; it must "
                "be a multiple of their number"
            )
        if self.stride % self.frames_per_map or not 1 <= self.stride <= self.length:
            raise ParameterError(
                f"stride is {self.stride}; it must be a multiple of the {self.frames_per_map} "
                f"frames of a map of this layer, and at most the length, {self.length}"
            )

    @property
    def frames_per_map(self) -> int:
        """Fields or frames from one map to the next."""
        return self.length // self.maps

    def at(self, start: int) -> int:
        """Return the number of the first map of the window that begins with a field or frame."""
        return start // self.frames_per_map

    def count(self, n: int) -> int:
        """Return the number of maps of a clip of n fields or frames."""
        return -(-n // self.frames_per_map)

    def of(self, n: int) -> Iterator[tuple[int, slice]]:
        """Yield the first field or frame of each window of a clip, and which maps are kept."""
        last = -(-max(n - self.length, 0) // self.stride)
        step = self.stride // self.frames_per_map
        before = (self.maps - step) // 2
        for number in range(last + 1):
            first = before if number else 0
            end = before + step if number < last else self.count(n) - number * step
            yield number * self.stride, slice(first, end)
