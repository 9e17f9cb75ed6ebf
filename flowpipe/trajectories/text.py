"""Write trajectories as the released programs' text: a line each, with a tab after every number.

The frame number, nine more numbers of ``info`` and the trajectory with six decimals, the
descriptors with seven: 436 columns with the default parameters. A float32 times 10^7 is exact in
float64, so that rounding half to even gives the digits of C's ``printf``. NumPy's ``savetxt`` takes
far longer per row.
"""

from __future__ import annotations

from typing import IO

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe._typing import Plane
from flowpipe.errors import ParameterError
from flowpipe.trajectories.extract import Trajectories, set_times
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import FIELDS

_LONGEST = 20
"""Length of the longest number; those of info are below 10^9."""
_TIME_COLUMN = 9


class TextWriter:
    """Write the rows of a clip as they come.

    Parameters
    ----------
    file
        Seekable binary file, since ``t_pos`` is only known at the end.
    parameters
        Parameters of the trajectories.
    """

    def __init__(self, file: IO[bytes], parameters: TrajectoryParameters) -> None:
        self._file, self._parameters = file, parameters
        self._places: list[NDArray[np.int64]] = []
        self._frames: list[Plane] = []
        self._at = file.tell()

    def append(self, rows: Trajectories) -> None:
        """Write rows."""
        text, places = format_rows(rows)
        self._places.append(places + self._at)
        self._frames.append(rows.info[:, :1].copy())
        self._file.write(text)
        self._at += len(text)

    def finish(self, length: int) -> None:
        """Write the time of every row, given the number of frames of the clip."""
        for places, frames in zip(self._places, self._frames, strict=True):
            info = np.zeros((len(frames), 10), np.float32)
            info[:, :1] = frames
            set_times(info, self._parameters, length)
            for place, time in zip(places.tolist(), info[:, _TIME_COLUMN].tolist(), strict=True):
                self._file.seek(place)
                self._file.write(b"%f" % time)
        self._file.seek(self._at)


def format_rows(rows: Trajectories) -> tuple[bytes, NDArray[np.int64]]:
    """Return lines of text, and the position of each row's time in them."""
    values = np.hstack([getattr(rows, name) for name in FIELDS])
    if not np.isfinite(values).all() or (values.size and np.abs(values).max() >= 1e9):
        raise ParameterError("rows hold numbers that are not finite or beyond 10^9")
    decimals = np.full(values.shape[1], 7, np.int64)
    decimals[: rows.info.shape[1] + rows.trajectory.shape[1]] = 6
    decimals[0] = 0
    text = np.empty(len(values) * (values.shape[1] * _LONGEST + 1), np.uint8)
    places = np.empty(len(values), np.int64)
    size = write_digits(values, decimals, text, places)
    return text[:size].tobytes(), places


@njit(cache=True, nogil=True)
def write_digits(values, decimals, text, places):  # type: ignore[no-untyped-def]
    """Write ASCII digits to `text`; return their number."""
    digits = np.empty(32, np.uint8)
    at = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if j == _TIME_COLUMN:
                places[i] = at
            value = np.float64(values[i, j])
            if np.signbit(value):
                text[at] = 45
                at += 1
            places_after = decimals[j]
            number = np.int64(np.rint(abs(value) * 10.0**places_after))
            count = 0
            while number > 0 or count <= places_after:
                digits[count] = 48 + number % 10
                number //= 10
                count += 1
            for k in range(count - 1, -1, -1):
                text[at] = digits[k]
                at += 1
                if k == places_after and k > 0:
                    text[at] = 46
                    at += 1
            text[at] = 9
            at += 1
        text[at] = 10
        at += 1
    return at
