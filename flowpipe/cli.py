"""The commands. Each turns its flags into its stage's dataclass and makes one call."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol, cast

import tyro
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from flowpipe import __version__
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.execution import default_jobs
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage, Method
from flowpipe.flow.parameters import Brox, Dis, Farneback, FlowParameters, Tvl1
from flowpipe.flow.solvers import Backend
from flowpipe.flow.store import FloatType, LayoutName
from flowpipe.footage import Size
from flowpipe.runs import Shard
from flowpipe.trajectories.parameters import Storage, TrajectoryParameters

# Recipes and pictures import much more: they are imported by the commands that need them.

_UNWRITABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EEXIST,  # a file where a folder is to be
    errno.ENOTDIR,
)

Inputs = Positional[
    Annotated[tuple[str, ...], arg(name="videos", metavar="VIDEOS", help_behavior_hint="")]
]
Jobs = Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all processors)")]


class Command(Protocol):
    """A parsed command line."""

    def run(self) -> int:
        """Do it, and return the exit status."""


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
    bound: float = 20.0
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
    jobs: Jobs = None
    """Worker processes, of one thread each. 0 works in this process."""
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
        from flowpipe import pipelines

        if self.native and (self.size is not None or self.short_side is not None):
            raise ParameterError("--size, --short-side and --native exclude each other")
        parameters = self._parameters()
        stage = FlowStage(
            parameters=parameters,
            backend=solvers.choose(self.backend, self.method, parameters),
            size=None if self.native else _size(self.size, self.short_side, "340x256"),
            bound=self.bound,
            step=self.step,
            layout=self.layout,
            dtype=self.dtype,
            quality=self.quality,
            frames=self.frames,
            max_frames=self.max_frames,
            keep_truncated=self.keep_truncated,
        )
        summary = pipelines.extract_flow(
            self.videos,
            self.out,
            stage,
            jobs=_jobs(self.jobs),
            shard=Shard() if self.shard is None else Shard.parse(self.shard),
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
class ExtractTrajectories:
    """Track dense or improved dense trajectories and describe them, one HDF5 table a clip.

    Numbers and order of the rows are those of the released programs (DT 1.2 and iDT, 2013).
    """

    videos: Inputs
    """Folders (searched recursively), video files, globs, or list files (.txt, .lst, .csv)."""
    parameters: Annotated[TrajectoryParameters, arg(name="")] = field(
        default_factory=TrajectoryParameters
    )
    out: Path = Path("trajectories")
    """Output folder. Its stage.json says what the trajectories in it were computed with."""
    flow: Annotated[str, arg(metavar="farneback|tvl1|DIR")] = "farneback"
    """Flow of the tracks: the released programs' own, our TV-L1, or a folder of extract-flow."""
    boxes: Annotated[Path | None, arg(metavar="PATH")] = None
    """Boxes of people (iDT): a file of lines 'frame x1 y1 x2 y2 score ...' in pixels, or a folder
    with one a clip, <clip>.txt. Motion inside is not taken for the camera's."""
    size: Annotated[str | None, arg(metavar="WxH")] = None
    """Width and height of the frames, in pixels; without a size each video's own."""
    short_side: Annotated[int | None, arg(metavar="N")] = None
    """Scale to this short side in pixels, keeping the aspect ratio, instead of --size."""
    storage: Storage = "int16"
    """Number type of the table: int16 takes 952 bytes a row, float32 keeps every bit."""
    text: bool = False
    """Also write the released programs' text, <clip>.txt, 436 columns."""
    visualize: bool = False
    """Also write a video of the tracks over the frames, <clip>.mp4."""
    backend: Backend | Literal["auto"] = "auto"
    """Solver of --flow tvl1."""
    jobs: Jobs = None
    """Worker processes, of one thread each. 0 works in this process."""
    shard: Annotated[str | None, arg(metavar="I/N")] = None
    """Do the I-th of N parts of the clips only, to share a run among machines."""
    overwrite: bool = False
    """Compute again what is there already."""
    keep_truncated: bool = False
    """Keep the trajectories of what can be decoded of truncated videos, which else fail."""
    tvl1: Tvl1 = field(default_factory=Tvl1)

    def run(self) -> int:
        """Extract, and print a summary."""
        from flowpipe import pipelines
        from flowpipe.trajectories.stage import TrajectoryStage

        own_flow = self.flow in ("farneback", "tvl1")
        if self.flow != "tvl1" and self.tvl1 != Tvl1():
            raise ParameterError(f"--tvl1.* options are given, but --flow is {self.flow}")
        stage = TrajectoryStage(
            parameters=self.parameters,
            flow=cast(Literal["farneback", "tvl1"], self.flow) if own_flow else Path(self.flow),
            tvl1=self.tvl1,
            backend=solvers.choose(self.backend, "tvl1") if self.flow == "tvl1" else "cpu",
            size=_size(self.size, self.short_side),
            boxes=self.boxes,
            storage=self.storage,
            keep_truncated=self.keep_truncated,
        )
        return pipelines.extract_trajectories(
            self.videos,
            self.out,
            stage,
            text=self.text,
            film=self.visualize,
            jobs=_jobs(self.jobs),
            shard=Shard() if self.shard is None else Shard.parse(self.shard),
            overwrite=self.overwrite,
        ).exit_status


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
    jobs: Jobs = None
    """Worker processes. 0 works in this process."""

    def run(self) -> int:
        """Draw, and print a summary."""
        from flowpipe import pipelines

        to = self.to or self.flow.with_name(f"{self.flow.absolute().name}-view")
        return pipelines.view(
            self.flow, to, names=self.clip, video=not self.sheet_only, jobs=_jobs(self.jobs)
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
    jobs: Jobs = None
    """Worker processes. 0 works in this process."""
    overwrite: bool = False
    """Convert again what is there already."""

    def run(self) -> int:
        """Convert, and print a summary."""
        from flowpipe import pipelines

        return pipelines.export_flow(
            self.flow,
            self.to,
            self.layout,
            bound=self.bound,
            dtype=self.dtype,
            quality=self.quality,
            jobs=_jobs(self.jobs),
            overwrite=self.overwrite,
        ).exit_status


@dataclass(frozen=True)
class Verify:
    """Check that stored flow is whole and belongs to its videos; the exit status is 1 if not."""

    flow: Positional[Annotated[Path, arg(metavar="OUT")]]
    """Folder of flow."""
    repair: bool = False
    """Remove what is not whole or not up to date, so that the next run makes it anew."""
    jobs: Jobs = None
    """Worker processes. 0 works in this process."""

    def run(self) -> int:
        """Verify, and print a summary."""
        from flowpipe import pipelines

        return pipelines.verify(self.flow, repair=self.repair, jobs=_jobs(self.jobs)).exit_status


@dataclass(frozen=True)
class Doctor:
    """Say which solvers run on this machine and, for each that does not, why and what brings it."""

    def run(self) -> int:
        """Print the report."""
        from flowpipe import doctor

        doctor.report(Console())
        return 0


@dataclass(frozen=True)
class Demo:
    """Make a small labelled set of videos, run every stage on it, and say what lies where."""

    out: Path = Path("flowpipe-demo")
    """Folder for everything that it makes."""
    jobs: Jobs = None
    """Worker processes. 0 works in this process."""

    def run(self) -> int:
        """Run the recipe."""
        from flowpipe import pipelines

        return pipelines.demo(self.out, jobs=_jobs(self.jobs))


COMMANDS: dict[str, Callable[..., Command]] = {
    "extract-flow": ExtractFlow,
    "extract-trajectories": ExtractTrajectories,
    "view": View,
    "export-flow": ExportFlow,
    "verify": Verify,
    "doctor": Doctor,
    "demo": Demo,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit: 0, 1 where clips failed, 2 where nothing could be done."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"flowpipe {__version__}")
        return
    console = Console(stderr=True, highlight=False)
    try:
        command: Command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="flowpipe",
            description=(
                "Optical flow, dense trajectories and two-stream baselines for action "
                "recognition. 'flowpipe COMMAND --help' explains a command."
            ),
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        status = command.run()
    except FlowpipeError as error:
        console.print(Text(f"flowpipe: {error}"), soft_wrap=True)
        status = 2
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        console.print(Text(f"flowpipe: cannot write: {error}"), soft_wrap=True)
        status = 2
    except KeyboardInterrupt:
        console.print("flowpipe: interrupted; what is finished is whole, run again to go on")
        status = 130
    sys.exit(status)


def _jobs(asked: int | None) -> int:
    return default_jobs() if asked is None else asked


def _size(size: str | None, short_side: int | None, default: str | None = None) -> Size:
    if size is not None and short_side is not None:
        raise ParameterError("--size and --short-side exclude each other")
    if short_side is not None:
        return short_side
    text = default if size is None else size
    return None if text is None else _parse_size(text)


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ParameterError(f"--size is {text!r}; it must be WIDTHxHEIGHT, such as 340x256")
    return int(match[1]), int(match[2])
