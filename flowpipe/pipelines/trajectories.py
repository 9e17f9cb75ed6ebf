"""Trajectories, a table a clip."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from flowpipe.datasets import discover
from flowpipe.datasets.base import Clip
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers
from flowpipe.runner.run import Shard, Summary
from flowpipe.runner.stage import run_stage
from flowpipe.trajectories.stage import ExtractTrajectories, TrajectoryStage

logger = logging.getLogger(__name__)


def extract_trajectories(
    inputs: Sequence[str],
    out: Path,
    stage: TrajectoryStage,
    *,
    text: bool = False,
    film: bool = False,
    workers: Workers,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> Summary:
    """Extract the trajectories of videos into a folder.

    Parameters
    ----------
    inputs, out, workers, shard, overwrite
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
    clips = discover.discover(inputs)
    return track(
        clips, out, stage, text=text, film=film, workers=workers, shard=shard, overwrite=overwrite
    )


def track(
    clips: Sequence[Clip],
    out: Path,
    stage: TrajectoryStage,
    *,
    text: bool = False,
    film: bool = False,
    workers: Workers,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> Summary:
    """:func:`extract_trajectories` of clips that have their names already."""
    provenance.open_stage(out, stage.description())
    logger.info(f"{len(clips)} clips, {stage.parameters.kind} trajectories, into {out}")
    work = ExtractTrajectories(stage, out, text=text, film=film, overwrite=overwrite)
    return run_stage(
        work,
        clips,
        out=out,
        workers=workers,
        shard=shard,
        unit="frames",
        outputs=None if overwrite else work.outputs,
    )
