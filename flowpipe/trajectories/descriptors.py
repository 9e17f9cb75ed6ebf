"""HOG, HOF and MBH along tracks, from sliding sums of orientation histograms.

Histograms: Dalal and Triggs (2005), Laptev et al. (2008), Dalal et al. (2006); cells, bins and
normalisation as in the released DT and iDT programs (RootSIFT: L1, then the square root, over the
cells of one frame; then the mean over the frames of a temporal cell).

The programs hold an integral image per bin. Here a level is swept from top to bottom, once for HOG
and HOF and once for MBH: per column a histogram of the last rows, as many as a cell is high, is
kept up to date (what enters and what leaves), and a track whose cell ends in the row adds up its
columns. That touches a few rows of memory in place of four integral images, and has none of their
rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe.trajectories.descriptor_loops import (
    BINS,
    COLUMN,
    HALF,
    place_regions,
    sweep_level,
)
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.pyramid import Level
from flowpipe.trajectories.tracking import TrackList


class Describer:
    """Adds one frame's histograms to the tracks of one scale; holds its buffers.

    Parameters
    ----------
    level
        The scale.
    parameters
        Of the trajectories.
    """

    def __init__(self, level: Level, parameters: TrajectoryParameters) -> None:
        self._size, self._cells = parameters.patch_size, parameters.nxy_cell
        self._epsilon = np.float32(parameters.epsilon)
        self._min_flow = np.float32(parameters.min_flow)
        self._frames_per_cell = parameters.track_length // parameters.nt_cell
        side, width = self._size // self._cells, level.width
        self._columns = np.empty((width, COLUMN), np.float32)
        self._still = np.empty(width, np.int32)
        self._masks = bin_masks()
        self._bins = np.empty((side + 1, HALF, width), np.int32)
        self._pairs = np.empty((side + 1, HALF, 2 * width), np.float32)
        self._stays = np.empty((side + 1, width), np.int32)
        self._gradient = np.empty((2, width), np.float32)
        self._first = np.empty(level.height + 2, np.int64)
        self._grow(256)

    def _grow(self, tracks: int) -> None:
        self._order = np.empty(tracks, np.int64)
        self._corners = np.empty((tracks, 2), np.int64)
        self._sums = np.empty((tracks, self._cells**2, COLUMN), np.float32)
        self._stills = np.empty((tracks, self._cells**2), np.int32)

    def add(self, grey: Grey, flow: Plane, tracks: TrackList) -> None:
        """Describe the step that the tracks have just made, around where it began.

        Parameters
        ----------
        grey
            (h, w) uint8, the frame before the step.
        flow
            (2, h, w) float32, the step's flow, for iDT without the camera's motion.
        tracks
            The live tracks, advanced by the step and not yet counted as older.
        """
        slots = tracks.slots
        if len(slots) > len(self._order):
            self._grow(2 * len(slots))
        place_regions(
            slots,
            tracks.points,
            tracks.ages,
            self._size,
            grey.shape[0],
            grey.shape[1],
            self._order,
            self._corners,
            self._first,
        )
        for half in range(2):
            sweep_level(
                grey,
                flow,
                half,
                self._min_flow,
                self._cells,
                self._order,
                self._corners,
                self._first,
                self._columns,
                self._still,
                self._masks,
                self._bins,
                self._pairs,
                self._stays,
                self._gradient,
                self._sums,
                self._stills,
                slots,
                tracks.ages,
                self._frames_per_cell,
                self._epsilon,
                tracks.descriptors,
            )


def bin_masks() -> NDArray[np.int32]:
    """For each lower bin a mask of all bits in that bin and in the next one around the circle."""
    lower = np.eye(BINS, dtype=np.int32)
    return -(lower + np.roll(lower, 1, axis=1))


def descriptor_columns(parameters: TrajectoryParameters) -> dict[str, NDArray[np.int64]]:
    """Where each descriptor's numbers are in a temporal cell of a live track.

    A live track holds the cells' histograms of HOG and HOF, then those of MBHx and MBHy, then the
    zero bins of HOF in all cells.
    """
    cells = np.arange(parameters.nxy_cell**2)
    names = ("hog", "hof", "mbhx", "mbhy")
    columns = {
        name: COLUMN * (len(cells) * (k // HALF) + cells[:, None])
        + BINS * (k % HALF)
        + np.arange(BINS)
        for k, name in enumerate(names)
    }
    zero = 2 * COLUMN * len(cells) + cells
    columns["hof"] = np.hstack([columns["hof"], zero[:, None]])
    return {name: index.ravel() for name, index in columns.items()}
