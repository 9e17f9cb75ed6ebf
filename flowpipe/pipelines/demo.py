"""Every stage, on the synthetic set."""

from __future__ import annotations

from pathlib import Path

from flowpipe.datasets.synthetic import write_synthetic
from flowpipe.execution import Workers
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.flow import extract_flow, view
from flowpipe.pipelines.steps import say
from flowpipe.pipelines.trajectories import extract_trajectories
from flowpipe.pipelines.upkeep import verify
from flowpipe.trajectories.stage import TrajectoryStage


def demo(out: Path, *, workers: Workers) -> int:
    """Make the synthetic set and run every stage on it; return the exit status."""
    videos, flow, pictures = out / "videos", out / "flow", out / "flow-view"
    trajectories = out / "trajectories"
    say(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos)
    stage = FlowStage(backend=solvers.choose("auto", "tvl1"), size=None)
    extracted = extract_flow([str(videos)], flow, stage, workers=workers)
    checked = verify(flow, repair=False, workers=workers)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, workers=workers)
    tracked = extract_trajectories([str(videos)], trajectories, TrajectoryStage(), workers=workers)
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"their TV-L1 flow, a zip a clip: {flow}",
        f"flow as colour, one clip a class (png, mp4): {pictures}",
        f"their improved dense trajectories, a table a clip: {trajectories}",
    ]
    for line in lines:
        say(line)
    runs_done = (extracted, checked, drawn, tracked)
    return max(summary.exit_status for summary in runs_done)
