"""Every stage, on the synthetic set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from flowpipe.classify.protocols import official
from flowpipe.datasets.synthetic import write_synthetic
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.flow import extract_flow, view
from flowpipe.pipelines.steps import say
from flowpipe.pipelines.streams import LabelledFlow, Machine
from flowpipe.pipelines.trajectories import extract_trajectories
from flowpipe.pipelines.twostream import compare_streams
from flowpipe.pipelines.upkeep import verify
from flowpipe.trajectories.stage import TrajectoryStage
from flowpipe.twostream.models import Network
from flowpipe.twostream.parameters import Snippets, Stream, Training
from flowpipe.twostream.testing import Testing
from flowpipe.twostream.training import Loading


def demo(out: Path, *, jobs: int) -> int:
    """Make the synthetic set and run every stage on it; return the exit status."""
    videos, flow, pictures = out / "videos", out / "flow", out / "flow-view"
    trajectories = out / "trajectories"
    say(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos)
    stage = FlowStage(backend=solvers.choose("auto", "tvl1"), size=None, frames=True)
    extracted = extract_flow([str(videos)], flow, stage, jobs=jobs)
    checked = verify(flow, repair=False, jobs=jobs)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, jobs=jobs)
    tracked = extract_trajectories([str(videos)], trajectories, TrajectoryStage(), jobs=jobs)
    streams = out / "two-stream"
    protocol = official(dataset)
    compare_streams(
        LabelledFlow(dataset, replace(protocol, splits=protocol.splits[:1]), flow),
        streams,
        {"rgb": _stream("rgb"), "flow": _stream("flow")},
        Testing(segments=10, crops=1),
        machine=Machine(loading=Loading(workers=min(jobs, 1))),
    )
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"their TV-L1 flow, a zip a clip: {flow}",
        f"flow as colour, one clip a class (png, mp4): {pictures}",
        f"their improved dense trajectories, a table a clip: {trajectories}",
        f"networks on frames and on flow, and their fusion: {streams / 'report.html'}",
    ]
    for line in lines:
        say(line)
    runs_done = (extracted, checked, drawn, tracked)
    return max(summary.exit_status for summary in runs_done)


def _stream(name: Literal["rgb", "flow"]) -> Stream:
    """A small network from scratch, a snippet of ten fields a clip.

    The stream of frames learns a fifth as fast and as long, as TSN's does: there is nothing to
    learn from frames of this set but the training clips themselves.
    """
    is_flow = name == "flow"
    return Stream(
        Snippets(name, segments=1, length=10 if is_flow else 1, size=80, subtract_mean=is_flow),
        Network("shufflenet_v2_x1_0", dropout=0.0, batch_norm="train"),
        "none",
        Training(
            epochs=180 if is_flow else 36,
            batch_size=12,
            lr=0.05 if is_flow else 0.01,
            milestones=(0.7, 0.9),
            conv1_lr=1.0,
            spread_classes=True,
        ),
    )
