"""``extract-flow``, ``view`` and ``export-flow``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpipe.commands.options import Inputs, WorkerOptions, frame_size, reporting_workers
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage, Method
from flowpipe.flow.parameters import Brox, Dis, Farneback, FlowParameters, Tvl1
from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.solvers import Backend
from flowpipe.flow.store import FloatType, LayoutName


@dataclass(frozen=True)
class ExtractFlow:
    """Compute optical flow of videos and store it, one file a clip.

    Runs that were interrupted go on where they stopped; a clip that fails is reported in
    failures.jsonl and stops no other. The exit status is 1 when some failed.
    """

    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    out: Path = Path("flow")
    """Output folder. Its stage.json says what the flow in it was computed with."""
    method: Method = "tvl1"
    """Flow method; its own options are in the groups below."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver; auto takes the best that runs here and says which. See: flowpipe doctor."""
    fast: bool = False
    """A cheaper setting of TV-L1 than the published one, on our own solver: 2 to 3 times faster,
    0.07 px off in the mean, more where motion is large and fast (docs/benchmarks.md)."""
    size: Annotated[str | None, arg(metavar="WxH", help_behavior_hint="(default: 340x256)")] = None
    """Width and height of frames and flow, in pixels. TSN's 340x256 if no size is given."""
    short_side: Annotated[int | None, arg(metavar="N")] = None
    """Scale to this short side in pixels, keeping the aspect ratio, instead of --size."""
    native: bool = False
    """Keep each video's own size, instead of --size."""
    bound: float = DEFAULT_BOUND
    """Displacement in pixels that saturates the 8-bit layouts, either way."""
    step: int = 1
    """Frames from the first to the second of a pair; negative for backward flow."""
    layout: LayoutName = "zip"
    """How flow is stored; see docs/formats.md."""
    dtype: FloatType = "float32"
    """Number type of the layouts npy and h5."""
    frames: bool = False
    """Also store the RGB frames, from the same decode."""
    quality: int = 95
    """JPEG quality, 1 to 100."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Do the I-th of N parts of the clips only, to share a run among machines."""
    overwrite: bool = False
    """Compute again what is there already."""
    max_frames: Annotated[int | None, arg(metavar="N")] = None
    """Look at the first N frames of each video only."""
    keep_truncated: bool = False
    """Keep the flow of what can be decoded of truncated videos, which else fail."""
    tvl1: Tvl1 = field(default_factory=Tvl1)
    farneback: Farneback = field(default_factory=Farneback)
    dis: Dis = field(default_factory=Dis)
    brox: Brox = field(default_factory=Brox)

    def run(self) -> int:
        """Extract, and print a summary."""
        from flowpipe.pipelines.flow import extract_flow

        if self.native and (self.size is not None or self.short_side is not None):
            raise ParameterError("--size, --short-side and --native exclude each other")
        parameters = self._parameters()
        stage = FlowStage(
            parameters=parameters,
            backend=self.backend,
            size=None if self.native else frame_size(self.size, self.short_side, "340x256"),
            bound=self.bound,
            step=self.step,
            layout=self.layout,
            dtype=self.dtype,
            quality=self.quality,
            frames=self.frames,
            max_frames=self.max_frames,
            keep_truncated=self.keep_truncated,
        )
        summary = extract_flow(
            self.videos,
            self.out,
            stage,
            workers=self.workers,
            shard=self.shard,
            overwrite=self.overwrite,
        )
        return summary.exit_status

    def _parameters(self) -> FlowParameters:
        groups: dict[str, FlowParameters] = {
            "tvl1": self.tvl1,
            "farneback": self.farneback,
            "dis": self.dis,
            "brox": self.brox,
        }
        for name, group in groups.items():
            if name != self.method and group != type(group)():
                raise ParameterError(f"--{name}.* options are given, but --method is {self.method}")
        if self.fast and (self.method != "tvl1" or self.tvl1 != Tvl1()):
            raise ParameterError("--fast is a setting of tvl1, instead of --tvl1.* options")
        return Tvl1.fast() if self.fast else groups[self.method]


@dataclass(frozen=True)
class View:
    """Show stored flow as colour: a contact sheet (PNG) and a video (mp4) of each clip."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow, in any layout, or one clip of it."""
    to: Annotated[Path | None, arg(help_behavior_hint="(default: OUT-view)")] = None
    """Folder for the pictures."""
    clip: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Names of the clips to show."""
    sheet_only: bool = False
    """Make no mp4."""
    workers: WorkerOptions = field(default_factory=reporting_workers)

    def run(self) -> int:
        """Draw, and print a summary."""
        from flowpipe.pipelines.flow import view

        to = self.to or self.flow.with_name(f"{self.flow.absolute().name}-view")
        return view(
            self.flow, to, names=self.clip, video=not self.sheet_only, workers=self.workers
        ).exit_status


@dataclass(frozen=True)
class ExportFlow:
    """Convert stored flow into another layout, copying JPEGs instead of coding them anew."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow, in any layout, ours or another tool's, or one clip of it."""
    to: Positional[Annotated[Path, arg(metavar="DEST")]]
    """Folder to write to."""
    layout: LayoutName
    """The layout to write; see docs/formats.md."""
    bound: Annotated[float | None, arg(help_behavior_hint="(default: the flow's own, or 20)")] = (
        None
    )
    """Displacement in pixels that saturates 8 bit. Needed to read the 8-bit flow of tools that do
    not record theirs, where it is not 20 (denseflow's own default is 32)."""
    dtype: FloatType = "float32"
    """Number type of the layouts npy and h5."""
    quality: int = 95
    """Quality of JPEGs that have to be coded, 1 to 100."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    overwrite: bool = False
    """Convert again what is there already."""

    def run(self) -> int:
        """Convert, and print a summary."""
        from flowpipe.pipelines.flow import export_flow

        return export_flow(
            self.flow,
            self.to,
            self.layout,
            bound=self.bound,
            dtype=self.dtype,
            quality=self.quality,
            workers=self.workers,
            overwrite=self.overwrite,
        ).exit_status
