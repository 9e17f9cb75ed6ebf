"""Extract dense and improved dense trajectories of a clip, frame by frame.

H. Wang, A. Klaeser, C. Schmid, C.-L. Liu, "Action recognition by dense trajectories", CVPR 2011;
H. Wang, C. Schmid, "Action recognition with improved trajectories", ICCV 2013. Rows, their order
and their numbers are those of the programs released with the papers (DT 1.2 and iDT, 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Grey, Plane
from flowpipe.camera.corners import CornerStrength, measure_corners
from flowpipe.camera.homography import Homography
from flowpipe.camera.motion import CameraMotion, remove_motion, warp_back
from flowpipe.errors import ParameterError
from flowpipe.trajectories.boxes import box_mask
from flowpipe.trajectories.descriptors import DescriptorAccumulator, descriptor_columns
from flowpipe.trajectories.farneback import FarnebackFlow
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.pyramid import Level, grey_pyramid, pyramid_levels
from flowpipe.trajectories.sampling import Sampler
from flowpipe.trajectories.tracking import TrackList, filter_tracks, gather_rows

Watch = Callable[[NDArray[np.uint8], list[Plane], NDArray[np.bool_]], None]
"""Called with each frame, its live tracks, and which of them only follow the camera."""

FlowSource = Iterable[Plane] | Callable[[Grey, Grey], Plane]
"""Flow that is given: (2, h, w) float32 pixels at full size, for each pair or by a function."""


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Rows of a table of trajectories, all float32.

    Attributes
    ----------
    info
        (n, 10): last frame, mean x, mean y, standard deviation of x and of y, length, scale; then
        mean x, mean y and time as fractions of the clip's width, height and length. In pixels of
        the full frame.
    trajectory
        (n, 2 L): displacements x1 y1 x2 y2 ..., divided by the sum of their lengths.
    hog, hof, mbhx, mbhy
        (n, 96), (n, 108), (n, 96), (n, 96) with the default cells.
    points
        (n, L + 1, 2): the points of the track in pixels of the full frame; not stored in tables.
    """

    info: Plane
    trajectory: Plane
    hog: Plane
    hof: Plane
    mbhx: Plane
    mbhy: Plane
    points: Plane | None = None

    def __len__(self) -> int:
        return len(self.info)


def extract(
    frames: Iterable[NDArray[np.uint8]],
    parameters: TrajectoryParameters,
    *,
    boxes: Mapping[int, NDArray[np.floating]] | None = None,
    homographies: Mapping[int, Homography] | None = None,
    flows: FlowSource | None = None,
    length: int | None = None,
    watch: Watch | None = None,
) -> Iterator[Trajectories]:
    """Yield the trajectories of a clip that end in each frame.

    Frames are read once; memory depends on their size and on the number of live tracks.

    Parameters
    ----------
    frames
        (h, w, 3) uint8 BGR, all of one size, from frame 0.
    parameters
        Parameters of the trajectories.
    boxes
        Bounding boxes of people by frame number, (n, 4) x1 y1 x2 y2 in pixels, clipped to the
        image. Motion inside is not taken for the camera's. iDT only.
    homographies
        The camera's motion from the frame before, by frame number, instead of an estimate.
    flows
        Flow instead of Farneback's: a sequence with an item per pair of frames used, or a function
        of two grey frames. It is resized to the scales; for iDT the camera's motion is removed from
        the vectors.
    length
        Number of frames of the clip. Without it ``t_pos`` (last column of `info`) is zero, to be
        set by :func:`set_times` once the clip has been read; writing a table does that.
    watch
        Called with every frame used, the live tracks in it, (n, 2) float32 x, y in its pixels,
        oldest point first, and which of them only follow the camera (none for DT).

    Yields
    ------
    Trajectories
        Those that end in a frame: fine scales first, within a scale in the order in which they
        began.

    Raises
    ------
    ParameterError
        Frames are smaller than the patch, or differ in size from the first; homographies or flow
        are missing for a frame.
    """
    extractor: Extractor | None = None
    pairs = None if flows is None or callable(flows) else iter(flows)
    for number, frame in enumerate(frames):
        if number < parameters.start_frame:
            continue
        if parameters.end_frame is not None and number > parameters.end_frame:
            break
        grey = to_grey(frame)
        mask = None
        if boxes is not None and parameters.kind == "idt":
            mask = box_mask(grey.shape, boxes.get(number))
        if extractor is None:
            extractor = Extractor(grey, parameters, mask, own_flow=flows is None)
            if watch is not None:
                watch(frame, *extractor.live())
            continue
        if grey.shape != extractor.shape:
            height, width = extractor.shape
            raise ParameterError(
                f"frame {number} is {grey.shape[1]}x{grey.shape[0]} pixels; it must be "
                f"{width}x{height} like the first"
            )
        flow = None
        if pairs is not None:
            flow = next(pairs, None)
            if flow is None:
                raise ParameterError(f"flows ends before frame {number}; it must hold every pair")
        elif callable(flows):
            flow = flows(extractor.grey, grey)
        homography = None
        if homographies is not None and parameters.kind == "idt":
            homography = homographies.get(number)
            if homography is None:
                raise ParameterError(f"homographies has none for frame {number}")
        rows = extractor.step(number, grey, mask, homography, flow)
        if watch is not None:
            watch(frame, *extractor.live())
        if len(rows):
            if length is not None:
                set_times(rows.info, parameters, length)
            yield rows


def set_times(info: Plane, parameters: TrajectoryParameters, length: int) -> None:
    """Set ``t_pos``, the middle of a track as a fraction of a clip of `length` frames.

    It is counted from the start frame over the frames used. (The released programs get it wrong
    with a start frame.)
    """
    last = length - 1 if parameters.end_frame is None else min(parameters.end_frame, length - 1)
    used = max(last - parameters.start_frame + 1, 1)
    middle = info[:, 0] - np.float32(parameters.track_length / 2 + parameters.start_frame)
    info[:, 9] = np.clip(middle / np.float32(used), 0, 0.999)


def to_grey(frame: NDArray[np.uint8]) -> Grey:
    """Convert a (h, w, 3) BGR frame to grey with 15-bit weights, as OpenCV does since 3.0."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ParameterError(
            f"a frame is {frame.dtype} {frame.shape}; it must be uint8 (height, width, 3), BGR"
        )
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)


class Extractor:
    """Track the points of a clip from frame to frame; holds pyramids and live tracks.

    Parameters
    ----------
    grey
        (h, w) uint8, the first frame.
    parameters
        Parameters of the trajectories.
    mask
        (h, w) uint8, 0 where matches for the camera's motion are ignored, or None.
    own_flow
        Whether the flow is computed here, and not given to :meth:`step`.
    """

    def __init__(
        self,
        grey: Grey,
        parameters: TrajectoryParameters,
        mask: NDArray[np.uint8] | None = None,
        *,
        own_flow: bool = True,
    ) -> None:
        self.parameters, self.grey = parameters, grey
        self.shape = (grey.shape[0], grey.shape[1])
        levels = pyramid_levels(*self.shape, parameters.patch_size, parameters.scale_num)
        self.levels = levels
        self.farneback = FarnebackFlow(levels, parameters)
        self.camera = (
            CameraMotion(*self.shape, parameters.quality) if parameters.kind == "idt" else None
        )
        self.samplers = [
            Sampler(level, parameters.min_distance, parameters.quality) for level in levels
        ]
        self.accumulators = [DescriptorAccumulator(level, parameters) for level in levels]
        self._columns = descriptor_columns(parameters)
        width = sum(map(len, self._columns.values()))
        self.tracks = [TrackList(parameters, width) for _ in levels]
        self._gap = 0
        self._pyramid, self._next_pyramid = (
            [np.empty((v.height, v.width), np.uint8) for v in levels] for _ in range(2)
        )
        self._corners, self._next_corners = (
            [CornerStrength(v.height, v.width) for v in levels] for _ in range(2)
        )
        self._flow, self._own_motion = self.farneback.new_flow(), self.farneback.new_flow()
        self._own_flow = own_flow
        if own_flow:
            self._expansion = self.farneback.new_expansion()
            self._next_expansion = self.farneback.new_expansion()
            self._warped_expansion = self.farneback.new_expansion()
            self.farneback.expand(grey, self._expansion)
        self._warped = np.empty_like(grey)
        grey_pyramid(grey, self._pyramid)
        measure_corners(self._pyramid, self._corners)
        if self.camera is not None:
            self.camera.start(grey, self._corners[0], mask)
        self._sample(self._corners)

    def step(
        self,
        number: int,
        grey: Grey,
        mask: NDArray[np.uint8] | None = None,
        homography: Homography | None = None,
        flow: Plane | None = None,
    ) -> Trajectories:
        """Advance the tracks to the next frame and return those that end in it.

        Parameters
        ----------
        number
            Number of the frame in the clip.
        grey
            (h, w) uint8.
        mask
            As for the first frame.
        homography
            The camera's motion from the frame before, or None to estimate it.
        flow
            (2, h, w) float32 from the frame before, where the flow is not computed here.
        """
        grey_pyramid(grey, self._next_pyramid)
        measure_corners(self._next_pyramid, self._next_corners)
        if flow is None:
            self.farneback.expand(grey, self._next_expansion)
            self.farneback.flow(self._expansion, self._next_expansion, self._flow)
        else:
            fit_flow(flow, self.levels, self._flow)
        motion = self._flow
        if self.parameters.kind == "idt":
            motion = self._own_motion
            self._compensate(grey, mask, homography)
        finished = []
        for tracks, accumulator, before, follow, own in zip(
            self.tracks, self.accumulators, self._pyramid, self._flow, motion, strict=True
        ):
            tracks.advance(follow, own)
            accumulator.add(before, own, tracks)
            finished.append(tracks.finish())
        rows = self._collect(number, finished)
        self._gap += 1
        if self._gap == self.parameters.init_gap:
            self._sample(self._next_corners)
        self._corners, self._next_corners = self._next_corners, self._corners
        self._pyramid, self._next_pyramid = self._next_pyramid, self._pyramid
        if self._own_flow:
            self._expansion, self._next_expansion = self._next_expansion, self._expansion
        self.grey = grey
        return rows

    def live(self) -> tuple[list[Plane], NDArray[np.bool_]]:
        """Return the live tracks in pixels of the frame, and which only follow the camera."""
        points, still = [], []
        for level, tracks in zip(self.levels, self.tracks, strict=True):
            for slot in tracks.slots.tolist():
                age = int(tracks.ages[slot])
                points.append(tracks.points[slot, : age + 1] * np.float32(level.scale))
                steps = np.hypot(*tracks.steps[slot, :age].T) * level.scale
                still.append(
                    self.parameters.kind == "idt"
                    and bool(np.all(steps <= self.parameters.min_camera_free))
                )
        return points, np.array(still, np.bool_)

    def _compensate(
        self, grey: Grey, mask: NDArray[np.uint8] | None, homography: Homography | None
    ) -> None:
        """Compute the flow without the camera's motion."""
        if homography is None:
            assert self.camera is not None
            homography = self.camera.estimate(
                self._corners[0], grey, self._next_corners[0], self._flow[0], mask
            )
        if self._own_flow:
            warp_back(self.grey, grey, homography, self._warped)
            self.farneback.expand(self._warped, self._warped_expansion)
            self.farneback.flow(self._expansion, self._warped_expansion, self._own_motion)
        else:
            remove_motion(self._flow[0], np.linalg.inv(homography), self._own_motion[0])
            fit_flow(self._own_motion[0], self.levels[1:], self._own_motion[1:])

    def _sample(self, corners: list[CornerStrength]) -> None:
        self._gap = 0
        for sampler, level, tracks in zip(self.samplers, corners, self.tracks, strict=True):
            tracks.add(sampler.sample(level, tracks.heads()))

    def _collect(self, number: int, finished: list[NDArray[np.int64]]) -> Trajectories:
        """Return rows of the tracks that end in a frame, after filtering."""
        p = self.parameters
        kept, statistics, shapes, points = [], [], [], []
        for level, tracks, slots in zip(self.levels, self.tracks, finished, strict=True):
            valid, numbers, shape = filter_tracks(
                slots,
                tracks.points,
                tracks.steps,
                np.float32(level.scale),
                p.kind == "idt",
                np.float32(p.min_var),
                np.float32(p.max_var),
                np.float32(p.max_dis),
                np.float32(p.min_camera_free),
            )
            kept.append(valid)
            statistics.append(numbers)
            shapes.append(shape)
            points.append(tracks.points[valid] * np.float32(level.scale))
        counts = [len(valid) for valid in kept]
        info = np.zeros((sum(counts), 10), np.float32)
        info[:, 0] = number
        info[:, 1:6] = np.concatenate(statistics)
        info[:, 6] = np.repeat([level.scale for level in self.levels], counts)
        height, width = self.shape
        info[:, 7:9] = np.clip(info[:, 1:3] / np.array([width, height], np.float32), 0, 0.999)
        fields = {
            name: np.empty((len(info), p.nt_cell * len(index)), np.float32)
            for name, index in self._columns.items()
        }
        first = 0
        for tracks, valid in zip(self.tracks, kept, strict=True):
            for name, index in self._columns.items():
                gather_rows(tracks.descriptors, valid, index, fields[name][first:])
            first += len(valid)
        return Trajectories(
            info=info,
            trajectory=np.concatenate(shapes),
            points=np.concatenate(points),
            **fields,
        )


def fit_flow(flow: Plane, levels: list[Level], out: list[Plane]) -> None:
    """Resize full-size flow to the scales, and scale its vectors."""
    for level, target in zip(levels, out, strict=True):
        for channel in range(2):
            cv2.resize(
                flow[channel],
                (level.width, level.height),
                dst=target[channel],
                interpolation=cv2.INTER_AREA,
            )
            target[channel] *= np.float32(1 / level.scale)
