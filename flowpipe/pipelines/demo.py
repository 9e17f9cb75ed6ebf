"""Systems of five generations side by side on the synthetic set, and the label of a new video."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from flowpipe.classify.protocols import official
from flowpipe.datasets.drawn import write_lossless
from flowpipe.datasets.synthetic import Synthetic, render, write_synthetic
from flowpipe.pipelines.compare.run import Compared, compare
from flowpipe.pipelines.compare.settings import Settings
from flowpipe.pipelines.compare.shared import flow_folder
from flowpipe.pipelines.flow import view
from flowpipe.pipelines.predict import Predictions, predict
from flowpipe.pipelines.verify import verify
from flowpipe.prediction import Prediction
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.training.distributed import torch_threads
from flowpipe.training.runtime import TrainingRuntime

logger = logging.getLogger(__name__)

SYSTEMS = ("clip-size", "dt", "idt", "two-stream", "lrcn", "tsn", "trn")
"""A control, and six systems from 2011 to 2018."""
SET = Synthetic(width=96, height=72)
"""Small frames, which all stages go through in a third of the time of the usual ones."""
SETTINGS = Settings(
    # Frames of this set tell nothing, so that networks see flow alone.
    recipe="scratch", streams=("flow",), gaussians=32, size=(SET.width, SET.height),
    flow_preset="fast", epochs=30,
)  # fmt: skip
NEW = replace(SET, seed=1)
"""The set that the new video is of: other shapes, backgrounds and cameras than the training's."""
NEW_MOTION = "orbit"
NEW_PATH = f"{NEW_MOTION}/g01_c02_moving.avi"


def demo(out: Path, *, workers: Workers | int | None = None) -> int:
    """Compare systems on the synthetic set, and label a new video; return the exit status."""
    workers = as_workers(workers)
    videos, compared, pictures = out / "videos", out / "compare", out / "flow-view"
    logger.info(f"making the synthetic set in {videos}")
    dataset = write_synthetic(videos, SET)
    protocol = official(dataset)
    with torch_threads(1):
        found = compare(
            dataset,
            SYSTEMS,
            compared,
            replace(protocol, splits=protocol.splits[:1]),
            SETTINGS,
            # Clips of this size are read in less time than it takes to start processes for it.
            runtime=TrainingRuntime(loader_workers=0),
            workers=workers,
        )
    flow = flow_folder(compared, SETTINGS)
    checked = verify(flow, repair=False, workers=workers)
    shown = [next(c.name for c in dataset.clips if c.label == label) for label in dataset.classes]
    drawn = view(flow, pictures, names=shown, video=True, workers=workers)
    best, said = _label(found, _new_video(out / "new"), out / "predicted", workers)
    lines = [
        f"{len(dataset.clips)} videos of {len(dataset.classes)} classes: {videos}",
        f"pictures and videos of their flow, for one clip per class: {pictures}",
        f"a new video, in which the motion is {NEW_MOTION}: {out / 'new' / 'new.avi'}",
        *(f"{best}, the most accurate here, says: {_told(each)}" for each in said.predictions),
        *(f"{best} cannot label it: {reason}" for reason in said.failed.values()),
        f"the new video with its labels: {out / 'predicted' / 'new.mp4'}",
        f"the page to open: {found.page}",
    ]
    for line in lines:
        logger.info(line)
    failed = found.failed or said.failed or checked.exit_status or drawn.exit_status
    return 1 if failed else 0


def _new_video(folder: Path) -> Path:
    """Draw a video that no classifier has seen; return it."""
    path = folder / "new.avi"
    if not path.exists():
        write_lossless(path, render(NEW, NEW_PATH), NEW.fps, folder)
    return path


def _label(found: Compared, video: Path, drawn: Path, workers: Workers) -> tuple[str, Predictions]:
    """Label a video with the most accurate system, the first of several; return its name, too."""
    best = max(found.classifiers, key=lambda name: found.accuracies[name].value)
    (kept,) = found.classifiers[best]
    return best, predict(kept, video, draw=drawn, workers=workers)


def _told(prediction: Prediction) -> str:
    return ", ".join(f"{label} {100 * p:.1f} %" for label, _, p in prediction.top(3))
