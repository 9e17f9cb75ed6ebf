"""Flow: extracted, converted, drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from flowpipe.datasets import discover
from flowpipe.datasets.base import Clip
from flowpipe.errors import ParameterError
from flowpipe.flow import solvers, store
from flowpipe.flow.batching import BatchedSolver
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.store import FloatType, LayoutName, StoredClip
from flowpipe.runner import atomic, provenance
from flowpipe.runner.pool import Advance, Done, Workers, as_workers
from flowpipe.runner.run import Shard, Summary, as_shard, run_stage

logger = logging.getLogger(__name__)


def extract_flow(
    videos: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "flow",
    stage: FlowStage | None = None,
    *,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Summary:
    """Compute the optical flow of videos and store it, one output per clip.

    Finished clips are kept, so that an interrupted run is resumed by the same call.

    Parameters
    ----------
    videos
        Folders (searched recursively), video files, globs, or list files; see
        :func:`flowpipe.datasets.discover.discover`.
    out
        The output folder; created if it does not exist.
    stage
        What is computed; by default TV-L1 at 340x256, stored as zips of JPEGs.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    shard
        The part of the clips to process, such as ``"2/8"``; by default all.
    overwrite
        Recompute finished clips.
    **options
        Fields of :class:`~flowpipe.flow.extract.FlowStage`, in place of `stage`.

    Returns
    -------
    Summary
        Numbers of clips that were done, skipped and failed, and the file that lists the failures.

    Raises
    ------
    StageMismatchError
        The folder holds flow of other parameters.
    ParameterError, FormatError
        There are no videos, a list cannot be read, or an option has a wrong value.
    BackendUnavailableError
        The solver does not run on this machine.

    Examples
    --------
    >>> import flowpipe
    >>> summary = flowpipe.extract_flow("clip.avi", "flow-of-clip", size=(160, 120))
    >>> summary.done, summary.failed
    (1, 0)
    >>> flowpipe.read_flow("flow-of-clip/clip.zip").shape
    (19, 2, 120, 160)
    """
    if stage is not None and options:
        raise ParameterError(f"stage and {', '.join(options)} exclude each other")
    inputs = [videos] if isinstance(videos, str | PathLike) else videos
    clips = discover.discover([fspath(each) for each in inputs])
    return compute_flow(
        clips,
        Path(out),
        stage or FlowStage(**options),
        workers=workers,
        shard=shard,
        overwrite=overwrite,
    )


def compute_flow(
    clips: Sequence[Clip],
    out: Path,
    stage: FlowStage,
    *,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
) -> Summary:
    """:func:`extract_flow` of clips that have their names already."""
    workers, shard = as_workers(workers), as_shard(shard)
    # A solver that does not run here is refused before anything is written, and the workers of
    # other machines take the same one.
    stage = replace(stage, backend=stage.solver)
    provenance.open_stage(out, stage.description())
    logger.info(f"{len(clips)} clips, {stage.parameters.method} with {stage.solver}, into {out}")
    kind = store.layout(stage.layout, stage.step)

    def outputs(clip: Clip) -> list[Path]:
        return kind.outputs(out, clip.name, frames=stage.frames)

    batch = solvers.batch_size(stage.solver)
    if batch == 1 or workers.executor != "local":
        work = ExtractFlow(stage, out, overwrite)
        return run_stage(
            work,
            clips,
            out=out,
            workers=workers,
            shard=shard,
            unit="pairs",
            outputs=outputs,
            overwrite=overwrite,
        )
    if workers.timeout is not None:
        raise ParameterError(
            f"timeout is {workers.timeout:g}, but {stage.solver} gathers the clips of all threads "
            "in one process, where none can be ended alone"
        )
    workers = replace(workers, jobs=max(workers.local_jobs, 1))
    create = partial(solvers.create, stage.parameters, stage.solver)
    with BatchedSolver(create, batch, clips=min(workers.local_jobs, len(clips))) as engine:
        return run_stage(
            ExtractFlow(stage, out, overwrite, engine),
            clips,
            out=out,
            workers=workers,
            shard=shard,
            unit="pairs",
            in_threads=True,
            outputs=outputs,
            overwrite=overwrite,
        )


def export_flow(
    source: Path,
    out: Path,
    layout: LayoutName,
    *,
    bound: float | None = None,
    dtype: FloatType | None = None,
    quality: int | None = None,
    workers: Workers | int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Write stored flow in another layout; see :func:`flowpipe.flow.store.convert`."""
    workers = as_workers(workers)
    # A bound is of the flow that is read, too.
    store.layout(layout).check_options(dtype=dtype, quality=quality)
    clips = store.flow_to_read(source, out)
    description = {
        "stage": "export",
        "layout": layout,
        "bound": bound,
        "dtype": dtype,
        "quality": quality,
        "flow": provenance.read_stage(source),
    }
    provenance.open_stage(out, description)
    logger.info(f"{len(clips)} clips, as {layout}, into {out}")
    return run_stage(
        _Convert(out, layout, bound, dtype, quality, overwrite),
        clips,
        out=out,
        workers=workers,
        unit="fields",
        outputs=lambda clip: store.layout(layout).outputs(out, clip.name, frames=False),
        overwrite=overwrite,
    )


def view(
    source: Path,
    out: Path,
    *,
    names: Sequence[str],
    video: bool,
    workers: Workers | int | None = None,
) -> Summary:
    """Draw stored flow; see :mod:`flowpipe.report.flow_view`."""
    clips = list(store.stored_clips(source))
    known = {clip.name for clip in clips}
    if unknown := [name for name in names if name not in known]:
        raise ParameterError(f"{str(source)!r} holds no clip {unknown[0]!r}")
    chosen = [clip for clip in clips if not names or clip.name in names]
    if not chosen:
        raise ParameterError(f"{str(source)!r} holds no flow")
    provenance.open_stage(out, {"stage": "view"})
    logger.info(f"{len(chosen)} clips, drawn into {out}")
    return run_stage(
        _Draw(out, video),
        chosen,
        out=out,
        record=False,
        workers=workers,
        unit="clips",
        outputs=lambda clip: [out / f"{clip.name}.png"],
        overwrite=True,
    )


@dataclass(frozen=True, slots=True)
class _Convert:
    out: Path
    layout: LayoutName
    bound: float | None
    dtype: FloatType | None
    quality: int | None
    overwrite: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        with store.FlowReader(clip) as reader:
            kind = store.layout(self.layout)
            if not self.overwrite and store.is_up_to_date(self.out, kind, reader):
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


@dataclass(frozen=True, slots=True)
class _Draw:
    out: Path
    video: bool

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        from flowpipe.flow.store.codecs import encode_png
        from flowpipe.report import flow_view

        sheet = encode_png(flow_view.contact_sheet(clip))
        atomic.write_atomic(self.out / f"{clip.name}.png", sheet, self.out)
        if self.video:
            flow_view.write_video(clip, self.out / f"{clip.name}.mp4", self.out)
        advance(1)
        return Done()
