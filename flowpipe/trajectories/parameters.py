"""The parameters of dense trajectories, with the released programs' names and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowpipe.camera import CORNER_QUALITY
from flowpipe.errors import ParameterError, check_range

Storage = Literal["int16", "float32"]
"""Number type of the descriptors in a table: fixed point, or without loss."""

SCALE_STRIDE = 2.0**0.5
"""Ratio of one spatial scale to the next (Wang et al. 2011)."""

GRADIENT_BINS = 8
"""Orientation bins of HOG and MBH; HOF has one more, for motion below `min_flow`."""


@dataclass(frozen=True, slots=True)
class TrajectoryParameters:
    """Dense trajectories (Wang et al., CVPR 2011) and improved ones (Wang and Schmid, ICCV 2013).

    The defaults are those of the released programs, DT 1.2 and iDT, both of 2013.
    """

    kind: Literal["idt", "dt"] = "idt"
    """'idt' takes the camera's motion out of tracks and motion descriptors; 'dt' does not."""
    start_frame: int = 0
    """First frame that is used, from 0."""
    end_frame: int | None = None
    """Last frame that is used, itself included; None is the clip's last."""
    track_length: int = 15
    """Displacements in a track (L); a track has one point more."""
    min_distance: int = 5
    """Sampling stride in pixels of each scale (W)."""
    patch_size: int = 32
    """Side of the volume around a track, in pixels of its scale (N)."""
    nxy_cell: int = 2
    """Cells of the volume along x and along y."""
    nt_cell: int = 3
    """Cells of the volume along time; frames beyond a multiple of it are not described."""
    scale_num: int = 8
    """At most so many spatial scales; also no more than keep the frame as large as the patch."""
    init_gap: int = 1
    """Frames between two samplings of new points."""
    quality: float = CORNER_QUALITY
    """Points are sampled where the smaller eigenvalue exceeds this part of the frame's largest."""
    epsilon: float = 0.05
    """Added to each bin of a histogram before it is normalised."""
    min_flow: float = 0.4
    """Motion of at most this many pixels of its scale falls in the zero bin of HOF."""
    min_var: float = 3.0**0.5
    """A track whose x and y both deviate less than this (pixels) is static and left out."""
    max_var: float = 50.0
    """A track whose x or y deviates more than this (pixels) is erratic and left out."""
    max_dis: float = 20.0
    """A step longer than this (pixels) and than 0.7 of its whole track makes the track erratic."""
    min_camera_free: float = 1.0
    """Least largest step, in pixels, of a track without the camera's motion (iDT only)."""
    poly_n: int = 7
    """Radius of the neighbourhood of the polynomial expansion, in pixels (Farneback's flow)."""
    poly_sigma: float = 1.5
    """Standard deviation of its Gaussian weights, in pixels."""
    flow_window: int = 10
    """Side of the Gaussian window that the flow is averaged over, in pixels."""
    flow_iterations: int = 2
    """Times the flow is refined at each scale."""

    def __post_init__(self) -> None:
        if self.kind not in ("idt", "dt"):
            raise ParameterError(f"kind is {self.kind!r}; it must be 'idt' or 'dt'")
        check_range("start_frame", self.start_frame, 0)
        if self.end_frame is not None:
            check_range("end_frame", self.end_frame, self.start_frame)
        check_range("nt_cell", self.nt_cell, 1)
        check_range("track_length", self.track_length, self.nt_cell)
        check_range("min_distance", self.min_distance, 1)
        check_range("nxy_cell", self.nxy_cell, 1)
        check_range("patch_size", self.patch_size, 2 * self.nxy_cell)
        check_range("scale_num", self.scale_num, 1)
        check_range("init_gap", self.init_gap, 1)
        check_range("quality", self.quality, 0, 1)
        check_range("epsilon", self.epsilon, 0, open_low=True)
        check_range("min_flow", self.min_flow, 0)
        check_range("min_var", self.min_var, 0)
        check_range("max_var", self.max_var, self.min_var)
        check_range("max_dis", self.max_dis, 0)
        check_range("min_camera_free", self.min_camera_free, 0)
        check_range("poly_n", self.poly_n, 1, 30)
        check_range("poly_sigma", self.poly_sigma, 0, open_low=True)
        check_range("flow_window", self.flow_window, 2, 60)
        check_range("flow_iterations", self.flow_iterations, 1)

    @property
    def cells(self) -> int:
        """Cells of a volume, over space and time."""
        return self.nt_cell * self.nxy_cell**2

    @property
    def widths(self) -> dict[str, int]:
        """Columns of each field of a row, in the released programs' order."""
        gradient = self.cells * GRADIENT_BINS
        return {
            "info": 10,
            "trajectory": 2 * self.track_length,
            "hog": gradient,
            "hof": self.cells * (GRADIENT_BINS + 1),
            "mbhx": gradient,
            "mbhy": gradient,
        }
