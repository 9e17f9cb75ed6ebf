"""Every stage, on the synthetic set."""

from __future__ import annotations

from pathlib import Path

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import official
from flowpipe.datasets.synthetic import write_synthetic
from flowpipe.encoding.parameters import Encoding
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.baseline import idt_baseline
from flowpipe.pipelines.flow import extract_flow, view
from flowpipe.pipelines.steps import say
from flowpipe.pipelines.upkeep import verify
from flowpipe.trajectories.stage import TrajectoryStage


def demo(out: Path, *, jobs: int) -> int:
    """Make the synthetic set and run every stage on it; return the exit status."""
    videos, flow, pictures = out / "videos", out / "flow", out / "flow-view"
    baseline = out / "idt-baseline"
    say(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos)
    stage = FlowStage(backend=solvers.choose("auto", "tvl1"), size=None)
    extracted = extract_flow([str(videos)], flow, stage, jobs=jobs)
    checked = verify(flow, repair=False, jobs=jobs)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, jobs=jobs)
    # A quarter of the papers' Gaussians: the set is small, and a demonstration should be short.
    recognised = idt_baseline(
        dataset,
        official(dataset),
        baseline,
        TrajectoryStage(),
        Encoding(gaussians=64),
        Svm(),
        jobs=jobs,
    )
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"their TV-L1 flow, a zip a clip: {flow}",
        f"flow as colour, one clip a class (png, mp4): {pictures}",
        f"their improved dense trajectories, Fisher vectors and what machines make of them: "
        f"{baseline}",
        f"how well that tells the classes apart, a page: {baseline / 'report.html'}",
    ]
    for line in lines:
        say(line)
    return max(recognised, *(summary.exit_status for summary in (extracted, checked, drawn)))
