"""Format the status of output folders, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.filesize import decimal
from rich.text import Text

from flowpipe.runner.inspect import StageStatus, free
from flowpipe.runner.progress import clock_time
from flowpipe.runner.provenance import STAGES
from flowpipe.runner.run_status import RunState


def as_text(stage: StageStatus) -> Text:
    """Return the status of an output folder in a few lines."""
    contents = STAGES.get(stage.stage, stage.stage)
    lines = [f"{stage.out}: {contents} ({stage.stage}), {stage.files} files"]
    lines += [f"  {_run(run)}" for run in stage.runs]
    if stage.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in stage.failures.items())
        lines.append(f"  failed, to be tried again: {kinds}")
    disk = f"  disk: {decimal(stage.used)} used"
    if stage.needed:
        disk += f", about {decimal(stage.needed)} more needed"
    lines.append(f"{disk}, {decimal(free(stage.out))} free")
    return Text("\n".join(lines))


def as_json(stages: Sequence[StageStatus]) -> str:
    """Return the status of output folders as JSON."""
    return json.dumps(
        [
            {
                "out": str(stage.out),
                "stage": stage.stage,
                "files": stage.files,
                "bytes": stage.used,
                "bytes_needed": stage.needed,
                "bytes_free": free(stage.out),
                "failures": stage.failures,
                "runs": [
                    {**asdict(run), "alive": run.alive(), "seconds_left": run.seconds_left}
                    for run in stage.runs
                ],
            }
            for stage in stages
        ],
        indent=1,
    )


def _run(run: RunState) -> str:
    finished = run.done + run.skipped + run.failed
    how = "running" if run.alive() else {"running": "killed"}.get(run.state, run.state)
    parts = [f"{how}: {finished}/{run.clips} clips", f"{run.done} done"]
    parts += [f"{run.skipped} skipped"] * (run.skipped > 0)
    parts += [f"{run.failed} failed"] * (run.failed > 0)
    if run.units and run.seconds:
        parts.append(f"{run.units / run.seconds:.1f} {run.unit}/s")
    parts.append(f"{clock_time(run.seconds)} elapsed")
    if run.alive() and run.seconds_left is not None:
        parts.append(f"{clock_time(run.seconds_left)} left")
    return f"{', '.join(parts)} ({run.host}, process {run.pid}, {run.updated})"
