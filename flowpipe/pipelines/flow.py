"""Flow: extracted, converted, drawn."""

from __future__ import annotations

import contextlib
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
from flowpipe.flow.devices import as_devices
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.store import FloatType, LayoutName, StoredClip
from flowpipe.runner import atomic, provenance
from flowpipe.runner.pool import (
    Advance,
    Done,
    Workers,
    as_workers,
    over_clips_in_threads,
    over_clips_on_devices,
)
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
    device: str | None = None,
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
    device
        ``all`` accelerators of this machine, or names of torch devices such as ``cuda:0,cuda:2``,
        for the solvers ``cuda`` and ``torch``; by default the first accelerator. Each has a process
        of its own and takes the next clip when it has finished one. If a device fails, its clips
        are tried again, and the run continues on the others.
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
        device=device,
    )


def compute_flow(
    clips: Sequence[Clip],
    out: Path,
    stage: FlowStage,
    *,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
    device: str | None = None,
) -> Summary:
    """:func:`extract_flow` of clips that have their names already."""
    workers, shard = as_workers(workers), as_shard(shard)
    if device is not None and workers.executor != "local":
        raise ParameterError(
            f"device is {device!r}, but the executor is {workers.executor}; it must be local, or "
            "each worker must see one device only (CUDA_VISIBLE_DEVICES)"
        )
    # A solver that does not run here is refused before anything is written, and the workers of
    # other machines take the same one.
    stage = replace(stage, backend=stage.solver)
    devices = () if device is None else as_devices(device, stage.solver)
    provenance.open_stage(out, stage.description())
    where = f" on {', '.join(devices)}" if devices else ""
    logger.info(
        f"{len(clips)} clips, {stage.parameters.method} with {stage.solver}{where}, into {out}"
    )
    kind = store.layout(stage.layout, stage.step)
    work = ExtractFlow(stage, out, overwrite)
    batch = solvers.batch_size(stage.solver)
    with contextlib.ExitStack() as stack:
        over = None
        if workers.executor == "local" and (batch > 1 or devices):
            _check_no_timeout(workers, stage)
            jobs = max(workers.local_jobs, 1)
            if devices:
                threads = -(-jobs // len(devices))
                over = partial(over_clips_on_devices, work, devices=devices, threads=threads)
            else:
                create = partial(solvers.create, stage.parameters, stage.solver)
                engine = BatchedSolver(create, batch, clips=max(min(jobs, len(clips)), 1))
                work = replace(work, engine=stack.enter_context(engine))
                over = partial(over_clips_in_threads, work, threads=jobs)
        return run_stage(
            work,
            clips,
            out=out,
            workers=workers,
            shard=shard,
            unit="pairs",
            over=over,
            outputs=lambda clip: kind.outputs(out, clip.name, frames=stage.frames),
            overwrite=overwrite,
        )


def _check_no_timeout(workers: Workers, stage: FlowStage) -> None:
    if workers.timeout is not None:
        raise ParameterError(
            f"timeout is {workers.timeout:g}, but {stage.solver} gathers the clips of all threads "
            "in one process, where none can be ended alone"
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
