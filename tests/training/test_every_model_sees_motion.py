"""Networks learn the motions of the synthetic set, which only motion tells apart, in minutes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.models.clip_input import Modality
from flowpipe.training.distributed import torch_threads
from flowpipe.training.optimisation import Training
from flowpipe.training.parameters import Stream
from flowpipe.training.runtime import TrainingRuntime
from flowpipe.training.testing import Testing
from tests.helpers.inputs import smallest

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.usefixtures("no_flushing")]

CHANCE = 1 / 6
RUNTIME = TrainingRuntime(device="cpu", loader_workers=0)
STEPS = Training(
    batch_size=12,
    lr=0.001,
    optimizer="adamw",
    weight_decay=0.01,
    schedule="cosine",
    warmup=1.0,
    milestones=(),
    conv1_lr=1.0,
    balanced_batches=True,
)


@dataclass(frozen=True)
class Learned:
    """How a network learns the motions: epochs that take minutes on one core.

    Inputs are small, but the shapes can still be told apart. The mean of each field, which is of
    all the background where few things move, is left out for networks that do not begin to learn
    with it.
    """

    epochs: int
    segments: int = 4
    length: int = 5
    input_size: int = 64
    lr: float = 0.001
    modality: Modality = "warped-flow"
    frame_stride: int | None = None
    subtract_mean: bool = False
    test_clips: int = 1


LEARNED = {
    "tsn": Learned(30, segments=3),
    "tsm": Learned(30),
    "trn": Learned(20),
    "trn-multiscale": Learned(20),
    "lrcn": Learned(30),
    "stm": Learned(25, segments=3),
    "tea": Learned(16, segments=3),
    "non-local": Learned(20, segments=3),
    "eco-full": Learned(16),
    "eco-lite": Learned(35),
    "deepvideo-single": Learned(
        60, segments=1, length=1, input_size=96, lr=0.0005, subtract_mean=True, test_clips=10
    ),
    "deepvideo-early": Learned(
        60, segments=1, length=10, input_size=96, lr=0.0005, subtract_mean=True, test_clips=5
    ),
    "deepvideo-late": Learned(
        50, segments=1, length=16, input_size=96, lr=0.0005, subtract_mean=True, test_clips=5
    ),
    "deepvideo-slow": Learned(40, segments=1, length=10, input_size=96, lr=0.0003),
    "tdn": Learned(40, segments=3, lr=0.0003, modality="rgb+flow"),
    "two-stream-fusion": Learned(
        30, segments=3, lr=0.004, modality="rgb+flow", frame_stride=2, subtract_mean=True,
        test_clips=5,
    ),
}  # fmt: skip
NAMES = list(LEARNED) if os.environ.get("FLOWPIPE_NETWORKS") == "all" else ["tsn"]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """The synthetic set with its flow, and its flow without the camera's motion."""
    root = tmp_path_factory.mktemp("synthetic")
    videos, flow, warped = (str(root / name) for name in ("videos", "flow", "warped"))
    flowpipe.write_synthetic(videos)
    for command in (
        ["extract-flow", videos, "--preset", "fast", "--frames", "--out", flow, "--jobs", "1"],
        ["warp-flow", flow, warped, "--jobs", "1"],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    return root


@pytest.mark.parametrize("name", NAMES)
def test_motion_is_seen(synthetic, tmp_path, name):
    its = LEARNED[name]
    network, clip = smallest(name)
    clip = replace(
        clip,
        modality=its.modality,
        segments=its.segments,
        length=its.length,
        input_size=its.input_size,
        frame_stride=its.frame_stride or clip.frame_stride,
        subtract_mean=its.subtract_mean,
    )
    flow = synthetic / ("flow" if its.modality == "rgb+flow" else "warped")
    stream = Stream(clip, network, "none", replace(STEPS, epochs=its.epochs, lr=its.lr))
    shared: dict[str, Any] = {"splits": ["split1"], "runtime": RUNTIME}
    with torch_threads(1):
        flowpipe.train(synthetic / "videos", flow, tmp_path / "net", stream, **shared)
        metrics = flowpipe.evaluate(
            tmp_path / "net",
            synthetic / "videos",
            flow,
            tmp_path / "scores",
            Testing(test_clips=its.test_clips, crops=1),
            **shared,
        )
    # Of 48 clips: a probability of less than 1e-3 by chance.
    assert metrics.accuracy.value > 2.2 * CHANCE
