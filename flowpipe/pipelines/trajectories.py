"""Extract the trajectories of videos, one table per clip."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from flowpipe._options import with_options
from flowpipe.datasets import discover
from flowpipe.datasets.base import Clip
from flowpipe.errors import ParameterError
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import Shard, Summary, as_shard, run_stage
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage
from flowpipe.trajectories.work import ExtractClip

logger = logging.getLogger(__name__)

_PARAMETERS = {field.name for field in fields(TrajectoryParameters)}


def extract_trajectories(
    videos: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "trajectories",
    stage: TrajectoryStage | None = None,
    *,
    text: bool = False,
    visualize: bool = False,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Summary:
    """Extract the trajectories of videos into a folder, one HDF5 table per clip.

    Parameters
    ----------
    videos
        A folder, a video, a glob or a list file, or several of them.
    out
        The output folder; created where it does not exist.
    stage
        What is computed; by default improved trajectories as of the released program.
    text, visualize
        Also write the released programs' text, and a video of the tracks.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    shard
        The part of the clips to process, such as ``"2/8"``; by default all.
    overwrite
        Recompute the clips that are done already.
    **options
        Fields of `stage`, or of its parameters, in place of its values: ``kind="dt"``,
        ``storage="float32"``.

    Returns
    -------
    Summary
        How many clips were done, skipped and failed.

    Raises
    ------
    StageMismatchError
        The folder holds trajectories of other settings, of other flow or of other boxes.
    ParameterError, FormatError
        An option is unknown or out of range, there are no videos, or a list cannot be read.

    Examples
    --------
    >>> import flowpipe
    >>> summary = flowpipe.extract_trajectories("clip.avi", "tracks", kind="dt")
    >>> summary.done, summary.failed
    (1, 0)
    """
    stage = with_trajectory_options(stage or TrajectoryStage(), options)
    given = [videos] if isinstance(videos, str | PathLike) else videos
    clips = discover.discover([fspath(path) for path in given])
    return track(
        clips,
        Path(out),
        stage,
        text=text,
        visualize=visualize,
        workers=workers,
        shard=shard,
        overwrite=overwrite,
    )


def with_trajectory_options(stage: TrajectoryStage, options: Mapping[str, Any]) -> TrajectoryStage:
    """Return a stage with single options, which are fields of it or of its parameters."""
    inner = {name: value for name, value in options.items() if name in _PARAMETERS}
    own = {name: value for name, value in options.items() if name not in _PARAMETERS}
    parameters = replace(stage.parameters, **inner)
    changed: TrajectoryStage = with_options(own, replace(stage, parameters=parameters))[0]
    return changed


def track(
    clips: Sequence[Clip],
    out: Path,
    stage: TrajectoryStage,
    *,
    text: bool = False,
    visualize: bool = False,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    overwrite: bool = False,
) -> Summary:
    """Extract the trajectories of clips that have their names already."""
    workers, shard = as_workers(workers), as_shard(shard)
    if visualize and (inside := [clip for clip in clips if _is_below(clip.path, out)]):
        raise ParameterError(
            f"out is {str(out)!r}, which contains the video {str(inside[0].path)!r}; it must be "
            "another folder with visualize, which writes videos to it"
        )
    provenance.open_stage(out, stage.description())
    logger.info(f"{len(clips)} clips, {stage.parameters.kind} trajectories -> {out}")
    work = ExtractClip(stage, out, text=text, visualize=visualize, overwrite=overwrite)
    return run_stage(
        work,
        clips,
        out=out,
        workers=workers,
        shard=shard,
        unit="frames",
        outputs=work.outputs,
        overwrite=overwrite,
    )


def _is_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents
