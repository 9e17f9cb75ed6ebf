"""The recipes as flat scripts: from paths to paths, one stage after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flowpipe import artifacts, discovery, runs
from flowpipe.datasets.synthetic import write_synthetic
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.execution import Advance, C, Done, Work
from flowpipe.flow import solvers, store
from flowpipe.flow.batching import Gathered
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.store import FloatType, LayoutName, StoredClip
from flowpipe.runs import Shard, Summary
from flowpipe.trajectories.stage import ExtractTrajectories, TrajectoryStage

_CONSOLE = Console(stderr=True, highlight=False)


def extract_flow(
    inputs: Sequence[str],
    out: Path,
    stage: FlowStage,
    *,
    jobs: int,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> Summary:
    """Extract the flow of videos into a folder.

    Parameters
    ----------
    inputs
        As :func:`flowpipe.discovery.discover` takes them.
    out
        The output folder; made if it is not there.
    stage
        What is computed.
    jobs
        Worker processes.
    shard
        The part of the clips to do.
    overwrite
        Compute again what is there already.

    Raises
    ------
    StageMismatchError
        The folder holds flow of other parameters.
    ParameterError, FormatError
        No videos, or a list that cannot be read.
    """
    clips = discovery.discover(inputs)
    records = store.layout(stage.layout).bookkeeping(out)
    artifacts.open_stage(records / "stage.json", stage.description(), out)
    _say(f"{len(clips)} clips, {stage.parameters.method} with {stage.backend}, into {out}")
    batch = solvers.batch_size(stage.backend)
    if batch == 1:
        work = ExtractFlow(stage, out, overwrite)
        return _run(work, clips, out=out, records=records, jobs=jobs, shard=shard, unit="pairs")
    jobs = max(jobs, 1)
    create = partial(solvers.create, stage.parameters, stage.backend)
    with Gathered(create, batch, clips=min(jobs, len(clips))) as engine:
        return _run(
            ExtractFlow(stage, out, overwrite, engine),
            clips,
            out=out,
            records=records,
            jobs=jobs,
            shard=shard,
            unit="pairs",
            in_threads=True,
        )


def extract_trajectories(
    inputs: Sequence[str],
    out: Path,
    stage: TrajectoryStage,
    *,
    text: bool = False,
    film: bool = False,
    jobs: int,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> Summary:
    """Extract the trajectories of videos into a folder.

    Parameters
    ----------
    inputs, out, jobs, shard, overwrite
        As for :func:`extract_flow`.
    stage
        What is computed.
    text, film
        Also write the released programs' text, and a video of the tracks.

    Raises
    ------
    StageMismatchError, ParameterError, FormatError
        As :func:`extract_flow` does.
    """
    clips = discovery.discover(inputs)
    artifacts.open_stage(out / "stage.json", stage.description(), out)
    _say(f"{len(clips)} clips, {stage.parameters.kind} trajectories, into {out}")
    work = ExtractTrajectories(stage, out, text=text, film=film, overwrite=overwrite)
    return _run(work, clips, out=out, records=out, jobs=jobs, shard=shard, unit="frames")


def export_flow(
    source: Path,
    out: Path,
    layout: LayoutName,
    *,
    bound: float | None = None,
    dtype: FloatType = "float32",
    quality: int = 95,
    jobs: int,
    overwrite: bool = False,
) -> Summary:
    """Write stored flow in another layout; see :func:`flowpipe.flow.store.convert`."""
    clips = list(store.stored_clips(source))
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    if source.resolve() == out.resolve():
        raise ParameterError(f"the flow in {str(source)!r} cannot be exported into its own folder")
    description = {
        "stage": "export",
        "layout": layout,
        "bound": bound,
        "dtype": dtype,
        "quality": quality,
    }
    records = store.layout(layout).bookkeeping(out)
    artifacts.open_stage(records / "stage.json", description, out)
    _say(f"{len(clips)} clips, as {layout}, into {out}")
    work = _Convert(out, layout, bound, dtype, quality, overwrite)
    return _run(work, clips, out=out, records=records, jobs=jobs, unit="fields")


def verify(source: Path, *, repair: bool, jobs: int) -> Summary:
    """Check every clip of a folder of flow; see :func:`flowpipe.flow.store.verify`."""
    clips = list(store.stored_clips(source))
    if not clips:
        raise ParameterError(f"{str(source)!r} holds no flow")
    out = source if source.is_dir() else source.parent
    return _run(_Verify(repair), clips, out=out, records=None, jobs=jobs, unit="clips")


def view(source: Path, out: Path, *, names: Sequence[str], video: bool, jobs: int) -> Summary:
    """Draw stored flow; see :mod:`flowpipe.report.flow_view`."""
    clips = list(store.stored_clips(source))
    known = {clip.name for clip in clips}
    if unknown := [name for name in names if name not in known]:
        raise ParameterError(f"{str(source)!r} holds no clip {unknown[0]!r}")
    chosen = [clip for clip in clips if not names or clip.name in names]
    if not chosen:
        raise ParameterError(f"{str(source)!r} holds no flow")
    out.mkdir(parents=True, exist_ok=True)
    _say(f"{len(chosen)} clips, drawn into {out}")
    return _run(_Draw(out, video), chosen, out=out, records=None, jobs=jobs, unit="clips")


def demo(out: Path, *, jobs: int) -> int:
    """Make the synthetic set and run every stage on it; return the exit status."""
    videos, flow, pictures = out / "videos", out / "flow", out / "flow-view"
    trajectories = out / "trajectories"
    _say(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos)
    stage = FlowStage(backend=solvers.choose("auto", "tvl1"), size=None)
    extracted = extract_flow([str(videos)], flow, stage, jobs=jobs)
    checked = verify(flow, repair=False, jobs=jobs)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, jobs=jobs)
    tracked = extract_trajectories([str(videos)], trajectories, TrajectoryStage(), jobs=jobs)
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"their TV-L1 flow, a zip a clip: {flow}",
        f"flow as colour, one clip a class (png, mp4): {pictures}",
        f"their improved dense trajectories, a table a clip: {trajectories}",
    ]
    for line in lines:
        _say(line)
    runs_done = (extracted, checked, drawn, tracked)
    return max(summary.exit_status for summary in runs_done)


class DamagedError(FlowpipeError):
    """Stored flow is not whole, or not of its video."""

    kind = "damaged"


@dataclass(frozen=True, slots=True)
class _Convert:
    out: Path
    layout: LayoutName
    bound: float | None
    dtype: FloatType
    quality: int
    overwrite: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        if not self.overwrite and self._is_there(clip):
            return Done(skipped=True)
        meta = store.convert(
            clip,
            self.out,
            self.layout,
            bound=self.bound,
            quality=self.quality,
            dtype=self.dtype,
        )
        advance(meta.n_flows)
        return Done()

    def _is_there(self, clip: StoredClip) -> bool:
        there = StoredClip(self.out, clip.name, self.layout)
        if not there.mark.exists():
            return False
        with store.FlowReader(clip) as reader:
            source = reader.meta.source
        try:
            with store.FlowReader(there) as reader:
                return reader.meta.source.get("sha256") == source.get("sha256")
        except FormatError:
            return False  # damaged: it is made anew


@dataclass(frozen=True, slots=True)
class _Verify:
    repair: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        fault = store.verify(clip)
        advance(1)
        if fault is None:
            return Done()
        if self.repair:
            removed = store.remove(clip)
            fault += "; removed" if removed else "; left, since it is not known as flowpipe's"
        raise DamagedError(fault)


@dataclass(frozen=True, slots=True)
class _Draw:
    out: Path
    video: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        from flowpipe.flow.store.codecs import encode_png
        from flowpipe.report import flow_view

        sheet = encode_png(flow_view.contact_sheet(clip))
        artifacts.write_atomic(self.out / f"{clip.name}.png", sheet, self.out)
        if self.video:
            flow_view.write_video(clip, self.out / f"{clip.name}.mp4", self.out)
        advance(1)
        return Done()


def _run(
    work: Work[C],
    clips: Sequence[C],
    *,
    out: Path,
    records: Path | None,
    jobs: int,
    unit: str,
    shard: Shard | None = None,
    in_threads: bool = False,
) -> Summary:
    sizes = {clip.name: _size(clip.path) for clip in clips}
    summary = runs.run(
        work,
        clips,
        out=out,
        records=records,
        sizes=sizes,
        jobs=jobs,
        shard=shard,
        unit=unit,
        in_threads=in_threads,
    )
    _say(str(summary))
    return summary


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _say(line: str) -> None:
    _CONSOLE.print(Text(line), soft_wrap=True)
