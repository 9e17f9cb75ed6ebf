"""The parameters of dense trajectories, with the released programs' names and defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Suppress, arg

from flowpipe._options import Switch
from flowpipe.camera import CORNER_QUALITY
from flowpipe.errors import FormatError, ParameterError, check_range
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.io.source import Size, check_size
from flowpipe.runner import json_files, provenance

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
    """Kind of trajectories: improved (idt), without the camera's motion, or plain ones (dt)."""
    start_frame: int = 0
    """First frame to use, counted from 0."""
    end_frame: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: the clip's last)")
    ] = None
    """Last frame to use, inclusive."""
    track_length: int = 15
    """Displacements per track (L); a track has L + 1 points."""
    min_distance: int = 5
    """Sampling step of new points in pixels of each scale (W)."""
    patch_size: int = 32
    """Side of the volume around a track in pixels of its scale (N)."""
    nxy_cell: int = 2
    """Cells of the volume along x and along y."""
    nt_cell: int = 3
    """Cells of the volume along time; frames beyond a multiple of it are not described."""
    scale_num: int = 8
    """Largest number of spatial scales; only those with frames larger than the patch are used."""
    init_gap: int = 1
    """Frames between two samplings of new points."""
    quality: float = CORNER_QUALITY
    """Points are sampled where the smaller eigenvalue exceeds this fraction of the frame's
    largest."""
    epsilon: float = 0.05
    """Constant added to each bin of a histogram before normalization."""
    min_flow: float = 0.4
    """Motion up to this many pixels of its scale is counted in the zero bin of HOF."""
    min_var: float = 3.0**0.5
    """Static tracks are removed: standard deviations of x and y both below this, in pixels."""
    max_var: float = 50.0
    """Erratic tracks are removed: standard deviation of x or y above this, in pixels."""
    max_dis: float = 20.0
    """Erratic tracks are removed: a step longer than this (pixels) and than 0.7 of the track."""
    min_camera_free: float = 1.0
    """Tracks that follow the camera are removed from idt: without its motion, no step is longer
    than this, in pixels."""
    poly_n: int = 7
    """Radius of Farneback's polynomial expansion in pixels."""
    poly_sigma: float = 1.5
    """Standard deviation of the Gaussian weights of Farneback's expansion in pixels."""
    flow_window: int = 10
    """Side of the Gaussian window that Farneback's flow is averaged over in pixels."""
    flow_iterations: int = 2
    """Iterations of Farneback's flow per scale."""

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
        if self.kind == "dt" and self.min_camera_free != _default("min_camera_free"):
            raise ParameterError(
                f"min_camera_free is {self.min_camera_free}, but kind is 'dt'; it is for 'idt' only"
            )

    @property
    def cells(self) -> int:
        """Number of cells of a volume, over space and time."""
        return self.nt_cell * self.nxy_cell**2

    @property
    def widths(self) -> dict[str, int]:
        """Number of columns of each field of a row, in the released programs' order."""
        gradient = self.cells * GRADIENT_BINS
        return {
            "info": 10,
            "trajectory": 2 * self.track_length,
            "hog": gradient,
            "hof": self.cells * (GRADIENT_BINS + 1),
            "mbhx": gradient,
            "mbhy": gradient,
        }


@dataclass(frozen=True, slots=True)
class TrajectoryStage:
    """Everything that determines the trajectories in an output folder."""

    parameters: Annotated[TrajectoryParameters, arg(name="")] = field(
        default_factory=TrajectoryParameters
    )
    flow: Annotated[str | Path, arg(metavar="farneback|tvl1|DIR")] = "farneback"
    """Flow that tracks follow: farneback as in the released programs, tvl1, or that in a folder of
    extract-flow. Farneback's is computed at every scale, other flow is resized to it."""
    tvl1: Tvl1 = field(default_factory=Tvl1)
    backend: Backend | Literal["auto"] = "auto"
    """Solver of --flow tvl1; auto takes the fastest of this machine."""
    size: Suppress[Size] = None
    boxes: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: no boxes)")] = (
        None
    )
    """Bounding boxes of people, for idt: motion inside them is not taken for the camera's. A file
    with lines 'frame x1 y1 x2 y2 score ...' in pixels, or a folder with <clip>.txt for each
    clip."""
    storage: Storage = "int16"
    """Number type of descriptors in tables: int16 takes 952 bytes per row, float32 is lossless."""
    keep_truncated: Switch = False
    """Process the readable part of truncated videos. By default they fail."""
    keep_damaged: Switch = False
    """Process videos with corrupt or lost frames. By default they fail."""

    def __post_init__(self) -> None:
        check_size(self.size)
        if self.boxes is not None and self.parameters.kind != "idt":
            raise ParameterError("boxes are given, but kind is 'dt'; boxes are for 'idt' only")
        for path in (self.boxes, self.flow_folder):
            if path is not None and not path.exists():
                raise ParameterError(f"{str(path)!r} does not exist")
        if self.flow == "tvl1":
            # Chosen here and not in a worker: one solver computes everything in a folder.
            object.__setattr__(self, "backend", self.solver)
        elif self.backend != "auto" or self.tvl1 != Tvl1():
            raise ParameterError(
                f"options of tvl1 are given, but flow is {str(self.flow)!r}; it must be 'tvl1'"
            )
        if self.flow != "farneback":
            for name in ("poly_n", "poly_sigma", "flow_window", "flow_iterations"):
                if (value := getattr(self.parameters, name)) != _default(name):
                    raise ParameterError(
                        f"{name} is {value}, but flow is {str(self.flow)!r}; it is for 'farneback' "
                        "only"
                    )

    @property
    def flow_folder(self) -> Path | None:
        """Folder of extracted flow, None where the flow is computed."""
        return None if self.flow in ("farneback", "tvl1") else Path(self.flow)

    @property
    def solver(self) -> Backend:
        """The backend that computes TV-L1 flow on this machine."""
        return solvers.choose(self.backend, "tvl1")

    def description(self) -> json_files.Json:
        """Return the content of ``stage.json``.

        Flow from a folder is described by that folder's own record, and boxes by their digest:
        where they are does not matter. A folder of flow without a record is described as null.

        Raises
        ------
        FormatError
            The record of the folder of flow is damaged, or a box file cannot be read.
        """
        import cv2

        from flowpipe.trajectories.boxes import boxes_digest

        folder, own_flow = self.flow_folder, self.flow == "tvl1"
        return {
            "stage": "trajectories",
            "parameters": asdict(self.parameters),
            "flow": self.flow if folder is None else provenance.read_stage(folder),
            "tvl1": asdict(self.tvl1) if own_flow else None,
            "solver": self.solver if own_flow else None,
            "solver_version": solvers.version(self.solver) if own_flow else None,
            "opencv_version": cv2.__version__,  # it converts to grey, resizes and filters
            "size": list(self.size) if isinstance(self.size, tuple) else self.size,
            "boxes": None if self.boxes is None else boxes_digest(self.boxes),
            "storage": self.storage,
            "keep_truncated": self.keep_truncated,
            "keep_damaged": self.keep_damaged,
        }


def stage_of(
    record: json_files.Json, where: str, flow: str | Path | None = None
) -> TrajectoryStage:
    """Return the stage that a record describes; the inverse of ``description``.

    Parameters
    ----------
    record
        The content of ``stage.json``.
    where
        Where it was read, for messages.
    flow
        Takes the place of a folder of flow, which a record describes and does not name.

    Raises
    ------
    FormatError
        It is no record of trajectories, or of another version.
    ParameterError
        The trajectories depend on boxes, which are given per clip, or on a folder of flow that
        is not given.
    """
    if record.get("boxes") is not None:
        raise ParameterError(
            f"{where!r} was made with bounding boxes of people, which new videos do not have"
        )
    computed = record.get("flow", "farneback") in ("farneback", "tvl1")
    if not computed and flow is None:
        raise ParameterError(
            f"{where!r} was made on flow from a folder without a record, so that that of new "
            "videos cannot be made in the same way"
        )
    try:
        chosen = record["flow"] if computed or flow is None else flow
        is_own = chosen == "tvl1"
        size = record["size"]
        return TrajectoryStage(
            parameters=TrajectoryParameters(**record["parameters"]),
            flow=chosen,
            tvl1=Tvl1(**record["tvl1"]) if is_own else Tvl1(),
            backend=solvers.usable(record["solver"], "tvl1") if is_own else "auto",
            size=tuple(size) if isinstance(size, list) else size,
            storage=record["storage"],
            keep_truncated=record["keep_truncated"],
            keep_damaged=record["keep_damaged"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{where!r} does not say how trajectories are made: {error}") from None


def _default(name: str) -> object:
    return next(f.default for f in fields(TrajectoryParameters) if f.name == name)
