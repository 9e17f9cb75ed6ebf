"""``extract-flow``, ``view`` and ``export-flow``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpipe._options import NameIn, Switch
from flowpipe.commands.options import (
    Inputs,
    WorkerOptions,
    frame_size,
    option_value,
    reporting_workers,
)
from flowpipe.errors import ParameterError
from flowpipe.flow import METHODS
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.store import DtypeOption, LayoutName, QualityOption


@dataclass(frozen=True)
class ExtractFlow:
    """Compute optical flow of videos and store it, one file per clip.

    An interrupted run resumes. A clip that fails is listed in failures.jsonl and does not stop the
    others. The exit status is 1 if clips failed.
    """

    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    out: Path = Path("flow")
    """Output folder. Its .flowpipe/stage.json records the settings."""
    method: Annotated[str, NameIn(METHODS)] = "tvl1"
    """Flow method; its parameters are the options that begin with its name."""
    preset: Annotated[str, arg(metavar="{published,fast,accurate}")] = "published"
    """Parameters of the method, which its options change: those of the papers (published). For
    tvl1 also a setting that takes a third of the time and is 0.07 pixels off in the mean (fast),
    and one for large motion and fine texture, with all pyramid levels and a median filter
    (accurate; docs/benchmarks.md)."""
    frame_size: Annotated[
        str | None, arg(metavar="WxH", help_behavior_hint="(default: 340x256)")
    ] = None
    """Width and height of frames and flow, in pixels; the default is TSN's."""
    short_side: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None
    """Length in pixels that the short side of frames is resized to, instead of --frame-size."""
    native: Switch = False
    """Keep each video's own size, instead of --frame-size."""
    stage: Annotated[FlowStage, arg(name="")] = field(default_factory=FlowStage)
    device: Annotated[
        str | None,
        arg(metavar="all|NAME,NAME", help_behavior_hint="(default: the first accelerator)"),
    ] = None
    """Devices that the solvers cuda and torch compute on: all accelerators of this machine, or
    torch's names, such as cuda:0,cuda:2. Each has its own process and takes the next clip when it
    has finished one. See: flowpipe doctor."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    shard: Annotated[str | None, arg(metavar="I/N", help_behavior_hint="(default: all)")] = None
    """Part of the clips to process, the I-th of N, to divide a run among machines."""
    overwrite: Switch = False
    """Recompute clips that are finished, and replace those whose video is another one now."""

    @classmethod
    def for_arguments(cls, arguments: Sequence[str]) -> type[ExtractFlow]:
        """Return the command with the options of the method and preset that the arguments name.

        Options of other methods do not exist then, so that they are refused.
        """
        name = option_value(arguments, "--method", "tvl1")
        if name not in METHODS:
            return cls  # tyro reports the name
        preset = METHODS[name].preset(option_value(arguments, "--preset", "published"))
        parameters = (name, type(preset), field(default=preset))
        made = make_dataclass(cls.__name__, [parameters], bases=(cls,), frozen=True)
        made.__doc__ = cls.__doc__
        return made

    def run(self) -> int:
        """Extract, and print a summary."""
        from flowpipe.pipelines.flow import extract_flow

        if self.native and (self.frame_size is not None or self.short_side is not None):
            raise ParameterError("--frame-size, --short-side and --native exclude each other")
        size = None if self.native else frame_size(self.frame_size, self.short_side, "340x256")
        stage = replace(self.stage, parameters=getattr(self, self.method), size=size)
        summary = extract_flow(
            self.videos,
            self.out,
            stage,
            workers=self.workers,
            shard=self.shard,
            overwrite=self.overwrite,
            device=self.device,
        )
        return summary.exit_status


@dataclass(frozen=True)
class View:
    """Show stored flow as colour: a contact sheet (PNG) and a video (mp4) of each clip."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow, in any layout, or one clip of it."""
    to: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: OUT-view)")] = None
    """Folder for the pictures."""
    clip: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="(default: all)")] = ()
    """Names of the clips to show."""
    sheet_only: Switch = False
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
    """Convert stored flow into another layout, copying JPEGs where both layouts have them."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow, in any layout, ours or another tool's, or one clip of it."""
    to: Positional[Annotated[Path, arg(metavar="DEST")]]
    """Folder to write to."""
    layout: LayoutName
    """The layout to write; see docs/formats.md."""
    bound: Annotated[
        float | None,
        arg(metavar="PIXELS", help_behavior_hint="(default: the flow's own, or 20)"),
    ] = None
    """Displacement in pixels that saturates 8 bit. Needed to read the 8-bit flow of tools that do
    not record theirs, where it is not 20 (denseflow's own default is 32)."""
    dtype: DtypeOption = None
    """Number type of the layouts npy and h5."""
    quality: QualityOption = None
    """Quality of JPEGs that have to be coded, 1 to 100."""
    workers: WorkerOptions = field(default_factory=reporting_workers)
    overwrite: Switch = False
    """Convert clips again that are finished."""

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
