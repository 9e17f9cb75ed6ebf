"""Write trajectories as the released programs' text: a line each, with a tab after every number.

The frame number, nine more numbers of ``info`` and the trajectory with six decimals, the
descriptors with seven: 436 columns with the default parameters. A float32 times 10^7 is exact in
float64, so that rounding half to even gives the digits of C's ``printf``. Four decimals at a time
come from a table. NumPy's ``savetxt`` takes far longer per row.
"""

from __future__ import annotations

from typing import IO, NamedTuple

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
_TIME_LENGTH = len("0.000000")
_DIGITS = (np.arange(10_000)[:, None] // (1000, 100, 10, 1) % 10 + ord("0")).astype(np.uint8)
"""The four ASCII digits of 0 to 9999."""
_MINUS, _POINT, _TAB, _NEWLINE, _ZERO = np.frombuffer(b"-.\t\n0", np.uint8)


class TextWriter:
    """Write the rows of a clip as they come.

    Parameters
    ----------
    file
        Binary file to read and write, since ``t_pos`` is only known at the end.
    parameters
        Parameters of the trajectories.
    """

    def __init__(self, file: IO[bytes], parameters: TrajectoryParameters) -> None:
        self._file, self._parameters = file, parameters
        self._blocks: list[_Block] = []
        self._at = file.tell()

    def append(self, rows: Trajectories) -> None:
        """Write rows."""
        text, places = format_rows(rows)
        self._blocks.append(_Block(self._at, len(text), places, rows.info[:, :1].copy()))
        self._file.write(text)
        self._at += len(text)

    def finish(self, length: int) -> None:
        """Write the time of every row, given the number of frames of the clip."""
        for block in self._blocks:
            info = np.zeros((len(block.frames), 10), np.float32)
            info[:, :1] = block.frames
            set_times(info, self._parameters, length)
            times = b"".join([b"%f" % time for time in info[:, _TIME_COLUMN].tolist()])
            # One write per block: one per row takes as long as all of the digits.
            self._file.seek(block.start)
            text = bytearray(self._file.read(block.size))
            digits = np.frombuffer(times, np.uint8).reshape(-1, _TIME_LENGTH)
            positions = block.places[:, None] + np.arange(_TIME_LENGTH)
            np.frombuffer(text, np.uint8)[positions] = digits
            self._file.seek(block.start)
            self._file.write(text)
        self._file.seek(self._at)


class _Block(NamedTuple):
    """Lines that were written together.

    Attributes
    ----------
    start, size
        Position and length in the file, in bytes.
    places
        (n,) positions of the times in the block.
    frames
        (n, 1) last frame of each row.
    """

    start: int
    size: int
    places: NDArray[np.int64]
    frames: Plane


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
    size = write_digits(values, decimals, text, places, _DIGITS)
    return text[:size].tobytes(), places


@njit(cache=True, nogil=True)
def write_digits(values, decimals, text, places, table):  # type: ignore[no-untyped-def]
    """Write ASCII digits to `text`; return their number.

    `decimals` are 0, 6 or 7 for each column; `table` has the digits of 0 to 9999.
    """
    scales = 10.0**decimals
    # Unsigned numbers need no check for indices from the end, and divide faster.
    one, ten, thousand, seven = np.uint64(1), np.uint64(10), np.uint32(1000), np.int64(7)
    at = np.uint64(0)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if j == _TIME_COLUMN:
                places[i] = at
            value = np.float64(values[i, j])
            if np.signbit(value):
                text[at] = _MINUS
                at += one
                value = -value
            whole = np.uint64(value)
            scale = np.uint64(scales[j])
            rest = np.uint64(np.rint(value * scales[j])) - whole * scale
            if rest == scale:  # rounded up to the next whole number
                whole += one
                rest = np.uint64(0)
            power = one
            while whole // power >= ten:
                power *= ten
            while power > one:
                text[at] = _ZERO + whole // power
                whole %= power
                power //= ten
                at += one
            text[at] = _ZERO + whole
            at += one
            if decimals[j] > 0:
                # Always seven decimals; the tab takes the place of the last of one with six.
                tenths = np.uint32(rest if decimals[j] == seven else rest * ten)
                high = tenths // thousand
                low = tenths - high * thousand
                text[at] = _POINT
                for k in range(4):
                    text[at + np.uint64(k + 1)] = table[high, k]
                for k in range(1, 4):
                    text[at + np.uint64(k + 4)] = table[low, k]
                at += np.uint64(decimals[j]) + one
            text[at] = _TAB
            at += one
        text[at] = _NEWLINE
        at += one
    return at
