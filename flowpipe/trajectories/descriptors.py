"""Compute HOG, HOF and MBH along tracks, from sliding sums of orientation histograms.

Histograms: Dalal and Triggs (2005), Laptev et al. (2008), Dalal et al. (2006). Cells, bins and
normalization are those of the released DT and iDT programs (RootSIFT: L1, then the square root,
over the cells of one frame; then the mean over the frames of a temporal cell).

The programs use an integral image per bin. Here a level is swept from top to bottom, once for HOG
and HOF and once for MBH: each column has a histogram of the last rows, as many as a cell is high,
to which a new row is added and from which an old one is subtracted; a track whose cell ends in the
row adds up its columns. That uses a few rows of memory instead of four integral images, and has
none of their rounding errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe.trajectories.descriptor_loops import (
    BINS,
    COLUMN,
    PAIR,
    place_regions,
    sweep_level,
)
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.pyramid import Level
from flowpipe.trajectories.tracking import TrackList


class DescriptorAccumulator:
    """Add the histograms of a frame to the tracks of one scale, with reused buffers.

    Parameters
    ----------
    level
        The scale.
    parameters
        Parameters of the trajectories.
    """

    def __init__(self, level: Level, parameters: TrajectoryParameters) -> None:
        self._size, self._cells = parameters.patch_size, parameters.nxy_cell
        self._epsilon = np.float32(parameters.epsilon)
        self._min_flow = np.float32(parameters.min_flow)
        self._frames_per_cell = parameters.track_length // parameters.nt_cell
        side, width = self._size // self._cells, level.width
        self._columns = np.empty((width, COLUMN), np.float32)
        self._zero_counts = np.empty(width, np.int32)
        self._masks = bin_masks()
        self._bins = np.empty((side + 1, PAIR, width), np.int32)
        self._weights = np.empty((side + 1, PAIR, 2 * width), np.float32)
        self._below = np.empty((side + 1, width), np.int32)
        self._gradient = np.empty((2, width), np.float32)
        self._first = np.empty(level.height + 2, np.int64)
        self._grow(256)

    def _grow(self, tracks: int) -> None:
        self._order = np.empty(tracks, np.int64)
        self._corners = np.empty((tracks, 2), np.int64)
        self._sums = np.empty((tracks, self._cells**2, COLUMN), np.float32)
        self._zero_sums = np.empty((tracks, self._cells**2), np.int32)

    def add(self, grey: Grey, flow: Plane, tracks: TrackList) -> None:
        """Describe the last step of the tracks, around its starting points.

        Parameters
        ----------
        grey
            (h, w) uint8, the frame before the step.
        flow
            (2, h, w) float32, the flow of the step; for iDT without the camera's motion.
        tracks
            The live tracks, advanced by the step but with their ages before it.
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
        for pair in range(2):
            sweep_level(
                grey,
                flow,
                pair,
                self._min_flow,
                self._cells,
                self._order,
                self._corners,
                self._first,
                self._columns,
                self._zero_counts,
                self._masks,
                self._bins,
                self._weights,
                self._below,
                self._gradient,
                self._sums,
                self._zero_sums,
                slots,
                tracks.ages,
                self._frames_per_cell,
                self._epsilon,
                tracks.descriptors,
            )


def bin_masks() -> NDArray[np.int32]:
    """Return a mask for each lower bin: all bits set in that bin and in the next, cyclically."""
    lower = np.eye(BINS, dtype=np.int32)
    return -(lower + np.roll(lower, 1, axis=1))


def descriptor_columns(parameters: TrajectoryParameters) -> dict[str, NDArray[np.int64]]:
    """Return the columns of each descriptor within a temporal cell of a live track.

    A live track has the histograms of HOG and HOF in all cells, then those of MBHx and MBHy, then
    the zero bins of HOF.
    """
    cells = np.arange(parameters.nxy_cell**2)
    names = ("hog", "hof", "mbhx", "mbhy")
    columns = {
        name: COLUMN * (len(cells) * (k // PAIR) + cells[:, None])
        + BINS * (k % PAIR)
        + np.arange(BINS)
        for k, name in enumerate(names)
    }
    zero = 2 * COLUMN * len(cells) + cells
    columns["hof"] = np.hstack([columns["hof"], zero[:, None]])
    return {name: index.ravel() for name, index in columns.items()}
