"""Track points along the flow from frame to frame, and filter the tracks.

Wang et al. (2011): a point moves by the median-filtered flow at its nearest pixel, is dropped when
it leaves the frame, and its track ends after `track_length` frames. Static and erratic tracks are
removed; improved trajectories (Wang and Schmid 2013) also remove those that are static without the
camera's motion.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from flowpipe._typing import Plane
from flowpipe.trajectories.parameters import TrajectoryParameters


class TrackList:
    """The live tracks of one scale, in the order in which they began.

    Attributes
    ----------
    points
        (capacity, track_length + 1, 2) float32 x, y in pixels of the scale.
    steps
        (capacity, track_length, 2) float32: displacements without the camera's motion.
    descriptors
        (capacity, nt_cell, width) float32: sums of the descriptors.
    ages
        (capacity,) int64: number of steps so far.
    """

    def __init__(self, parameters: TrajectoryParameters, width: int) -> None:
        length = parameters.track_length
        self.points = np.empty((0, length + 1, 2), np.float32)
        self.steps = np.empty((0, length, 2), np.float32)
        self.descriptors = np.empty((0, parameters.nt_cell, width), np.float32)
        self.ages = np.empty(0, np.int64)
        # indices of the live tracks, oldest first, then the free ones
        self._order = np.empty(0, np.int64)
        self._live = 0

    @property
    def slots(self) -> NDArray[np.int64]:
        """(n,) indices of the live tracks in the arrays, oldest first."""
        return self._order[: self._live]

    def add(self, points: Plane) -> None:
        """Begin tracks at (n, 2) points, after the live ones."""
        live = self._live + len(points)
        if live > len(self.ages):
            self._grow(max(2 * len(self.ages), live, 256))
        slots = self._order[self._live : live]
        self._live = live
        self.points[slots, 0] = points
        self.descriptors[slots] = 0
        self.ages[slots] = 0

    def advance(self, flow: Plane, steps: Plane) -> None:
        """Move every point by the (2, h, w) flow at it and drop those that leave the frame.

        `steps` is the flow without the camera's motion, which is recorded along the track.
        """
        self._live = advance_points(
            self._order, self._live, self.points, self.steps, self.ages, flow, steps
        )

    def finish(self) -> NDArray[np.int64]:
        """Count the last step and remove the complete tracks.

        Returns their indices, oldest first; valid until tracks are added.
        """
        done = finish_tracks(self._order, self._live, self.ages, self.steps.shape[1])
        self._live -= done
        return self._order[self._live : self._live + done]

    def heads(self) -> Plane:
        """Return the (n, 2) current points of the live tracks."""
        return np.asarray(last_points(self.slots, self.points, self.ages))

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.ages)
        self._order = np.append(self._order, np.arange(len(self.ages), capacity))
        self.points, self.steps, self.descriptors, self.ages = (
            np.concatenate([array, np.empty((more, *array.shape[1:]), array.dtype)])
            for array in (self.points, self.steps, self.descriptors, self.ages)
        )


@njit(cache=True, nogil=True)
def advance_points(order, live, points, steps, ages, flow, step_flow):  # type: ignore[no-untyped-def]
    """Advance the first `live` tracks of `order`; move the indices of dropped ones to the end.

    Returns the number of tracks that remain.
    """
    height, width = flow.shape[1:]
    dropped = np.empty(live, np.int64)
    kept = 0
    for i in range(live):
        slot = order[i]
        age = ages[slot]
        px, py = points[slot, age, 0], points[slot, age, 1]
        x = min(max(int(np.rint(px)), 0), width - 1)
        y = min(max(int(np.rint(py)), 0), height - 1)
        qx, qy = px + flow[0, y, x], py + flow[1, y, x]
        if qx <= 0 or qx >= width or qy <= 0 or qy >= height:
            dropped[i - kept] = slot
            continue
        points[slot, age + 1, 0], points[slot, age + 1, 1] = qx, qy
        steps[slot, age, 0], steps[slot, age, 1] = step_flow[0, y, x], step_flow[1, y, x]
        order[kept] = slot
        kept += 1
    order[kept:live] = dropped[: live - kept]
    return kept


@njit(cache=True, nogil=True)
def finish_tracks(order, live, ages, length):  # type: ignore[no-untyped-def]
    """Count a step of the live tracks and move the complete ones behind the others.

    The oldest tracks are first in `order`, hence the complete ones. Returns their number.
    """
    done = 0
    for i in range(live):
        ages[order[i]] += 1
        done += ages[order[i]] == length
    complete = order[:done].copy()
    for i in range(live - done):
        order[i] = order[i + done]
    order[live - done : live] = complete
    return done


@njit(cache=True, nogil=True)
def last_points(slots, points, ages):  # type: ignore[no-untyped-def]
    """Return the (n, 2) current points of tracks."""
    out = np.empty((slots.size, 2), np.float32)
    for i in range(slots.size):
        slot = slots[i]
        out[i, 0], out[i, 1] = points[slot, ages[slot], 0], points[slot, ages[slot], 1]
    return out


@njit(cache=True, nogil=True)
def filter_tracks(  # type: ignore[no-untyped-def]
    slots, points, steps, scale, improved, min_var, max_var, max_dis, min_free
):
    """Return the tracks to keep, with statistics and shapes in pixels of the full frame.

    Returns
    -------
    kept
        (n,) the subset of `slots`.
    statistics
        (n, 5) float32: mean x, mean y, standard deviation of x, of y, length.
    shape
        (n, 2 L) float32: displacements divided by the sum of their lengths.
    """
    length = steps.shape[1]
    kept = np.empty_like(slots)
    statistics = np.empty((slots.size, 5), np.float32)
    shape = np.empty((slots.size, 2 * length), np.float32)
    count = 0
    for i in range(slots.size):
        track = points[slots[i]]
        # float32 sums in the order of the track, as in the released programs
        mean_x = mean_y = np.float32(0)
        for k in range(length + 1):
            mean_x += track[k, 0] * scale
            mean_y += track[k, 1] * scale
        mean_x /= np.float32(length + 1)
        mean_y /= np.float32(length + 1)
        var_x = var_y = total = longest = np.float32(0)
        for k in range(length + 1):
            var_x += (track[k, 0] * scale - mean_x) ** 2
            var_y += (track[k, 1] * scale - mean_y) ** 2
        std_x = np.sqrt(var_x / np.float32(length + 1))
        std_y = np.sqrt(var_y / np.float32(length + 1))
        if (std_x < min_var and std_y < min_var) or std_x > max_var or std_y > max_var:
            continue
        for k in range(length):
            step_x = track[k + 1, 0] * scale - track[k, 0] * scale
            step_y = track[k + 1, 1] * scale - track[k, 1] * scale
            step = np.sqrt(step_x * step_x + step_y * step_y)
            total += step
            longest = max(longest, step)
        if longest > max_dis and longest > total * np.float32(0.7):
            continue
        free, farthest = np.float32(0), np.float32(0)
        for k in range(length):
            if improved:
                step_x, step_y = steps[slots[i], k, 0] * scale, steps[slots[i], k, 1] * scale
            else:
                step_x = track[k + 1, 0] * scale - track[k, 0] * scale
                step_y = track[k + 1, 1] * scale - track[k, 1] * scale
            shape[count, 2 * k], shape[count, 2 * k + 1] = step_x, step_y
            step = np.sqrt(step_x * step_x + step_y * step_y)
            free += step
            farthest = max(farthest, step)
        if improved and farthest <= min_free:
            continue
        if free > 0:
            for k in range(2 * length):
                shape[count, k] /= free
        statistics[count] = mean_x, mean_y, std_x, std_y, total
        kept[count] = slots[i]
        count += 1
    return kept[:count], statistics[:count], shape[:count]


@njit(cache=True, nogil=True)
def gather_rows(descriptors, slots, index, out):  # type: ignore[no-untyped-def]
    """Write the columns `index` of each temporal cell of tracks, one track per row."""
    for i in range(slots.size):
        for t in range(descriptors.shape[1]):
            begin = t * index.size
            source, target = descriptors[slots[i], t], out[i, begin : begin + index.size]
            for k in range(index.size):
                target[k] = source[np.uint64(index[k])]
