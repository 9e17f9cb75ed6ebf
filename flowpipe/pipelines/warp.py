"""Stored flow without the camera's motion."""

from __future__ import annotations

import logging
from pathlib import Path

from flowpipe.flow import store
from flowpipe.flow.store import layout
from flowpipe.flow.warp import WarpFlow
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import Summary, run_stage

logger = logging.getLogger(__name__)


def warp_flow(
    source: Path,
    out: Path,
    stage: WarpStage,
    *,
    workers: Workers | int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Take the camera's motion out of stored flow; see :mod:`flowpipe.flow.warp`.

    Parameters
    ----------
    source
        Folder of flow, in any layout.
    out
        Folder to write to.
    stage
        What is written.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    overwrite
        Recompute clips that are finished.

    Raises
    ------
    StageMismatchError
        The folder holds warped flow of other flow, or in another layout.
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    workers = as_workers(workers)
    clips = store.flow_to_read(source, out)
    provenance.open_stage(out, stage.description(provenance.read_stage(source)))
    logger.info(f"{len(clips)} clips, without the camera's motion, into {out}")
    work = WarpFlow(stage, out, overwrite)
    return run_stage(
        work,
        clips,
        out=out,
        workers=workers,
        unit="fields",
        outputs=lambda clip: layout(stage.layout).outputs(out, clip.name, frames=False),
        overwrite=overwrite,
    )
