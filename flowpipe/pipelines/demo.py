"""Every stage, on the synthetic set."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

from flowpipe.classify.protocols import official
from flowpipe.datasets.synthetic import write_synthetic
from flowpipe.encoding.parameters import Encoding
from flowpipe.flow import solvers
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.pipelines.flow import extract_flow, view
from flowpipe.pipelines.idt_baseline import idt_baseline
from flowpipe.pipelines.labelled import LabelledFlow
from flowpipe.pipelines.two_stream import compare_streams
from flowpipe.pipelines.verify import verify
from flowpipe.pipelines.warp import warp_flow
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.training.distributed import torch_threads
from flowpipe.training.optimisation import Training
from flowpipe.training.parameters import Stream
from flowpipe.training.runtime import TrainingRuntime
from flowpipe.training.testing import Testing

logger = logging.getLogger(__name__)


def demo(out: Path, *, workers: Workers | int | None = None) -> int:
    """Make the synthetic set and run every stage on it; return the exit status."""
    workers = as_workers(workers)
    videos, flow, pictures = out / "videos", out / "flow", out / "flow-view"
    warped, baseline = out / "warped-flow", out / "idt-baseline"
    logger.info(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos)
    stage = FlowStage(backend=solvers.choose("auto", "tvl1"), size=None, frames=True)
    extracted = extract_flow([str(videos)], flow, stage, workers=workers)
    checked = verify(flow, repair=False, workers=workers)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, workers=workers)
    protocol = official(dataset)
    # A quarter of the papers' Gaussians: the set is small, and a demonstration should be short.
    recognised = idt_baseline(
        dataset,
        baseline,
        protocol,
        encoding=Encoding(gaussians=64),
        workers=workers,
    )
    still = warp_flow(flow, warped, WarpStage(), workers=workers)
    streams, first = out / "two-stream", replace(protocol, splits=protocol.splits[:1])
    with torch_threads(1):
        compare_streams(
            {
                "rgb": (LabelledFlow(dataset, first, flow), _stream("rgb")),
                "warped-flow": (LabelledFlow(dataset, first, warped), _stream("warped-flow")),
            },
            streams,
            Testing(test_clips=10, crops=10),
            idt=baseline / "scores.npz",
            runtime=TrainingRuntime(loader_workers=min(workers.local_jobs, 2)),
        )
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"TV-L1 flow, one zip file per clip: {flow}",
        f"pictures and videos of the flow, for one clip per class: {pictures}",
        f"improved dense trajectories, Fisher vectors and SVMs: {baseline}",
        f"report on their accuracy: {baseline / 'report.html'}",
        f"flow without the camera's motion: {warped}",
        f"report on two-stream networks on frames and on that flow: {streams / 'report.html'}",
    ]
    for line in lines:
        logger.info(line)
    failed = recognised.failed or any(e.exit_status for e in (extracted, checked, drawn, still))
    return 1 if failed else 0


def _stream(name: Literal["rgb", "warped-flow"]) -> Stream:
    """Return a small network from scratch, with one snippet of ten fields per clip.

    The stream of frames learns a fifth as fast and as long, as TSN's does: there is nothing to
    learn from frames of this set but the training clips themselves.
    """
    is_flow = name == "warped-flow"
    return Stream(
        ClipInput(
            name, segments=1, length=10 if is_flow else 1, input_size=80, subtract_mean=is_flow
        ),
        Network(backbone="shufflenet_v2_x1_0", dropout=0.0, batch_norm="train"),
        "none",
        Training(
            epochs=180 if is_flow else 36,
            batch_size=12,
            lr=0.05 if is_flow else 0.01,
            milestones=(0.7, 0.9),
            conv1_lr=1.0,
            balanced_batches=True,
        ),
    )
