"""Stored flow without the camera's motion."""

from __future__ import annotations

from pathlib import Path

from flowpipe.flow import store
from flowpipe.flow.warp import WarpFlow, WarpStage
from flowpipe.runner import artifacts
from flowpipe.runner.pool import Workers
from flowpipe.runner.run import Summary
from flowpipe.runner.stage import flow_to_read, run_stage, say


def warp_flow(
    source: Path, out: Path, stage: WarpStage, *, workers: Workers, overwrite: bool = False
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
        Who does it.
    overwrite
        Compute again what is there already.

    Raises
    ------
    StageMismatchError
        The folder holds warped flow of other flow, or in another layout.
    ParameterError, FormatError
        There is no flow, or it lies in the output folder.
    """
    clips = flow_to_read(source, out)
    records = store.layout(stage.layout).bookkeeping(out)
    artifacts.open_stage(records / "stage.json", stage.description(_stage_of(source)), out)
    say(f"{len(clips)} clips, without the camera's motion, into {out}")
    work = WarpFlow(stage, out, overwrite)
    return run_stage(work, clips, out=out, records=records, workers=workers, unit="fields")


def _stage_of(source: Path) -> artifacts.Json | None:
    """What the folder's ``stage.json`` says, None where there is none."""
    for records in (source, store.layout("frames").bookkeeping(source)):
        path = records / "stage.json"
        if path.is_file():
            return artifacts.read_json(path)
    return None
