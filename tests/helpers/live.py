"""Live sources that the tests drive, and classifiers with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import torch

from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors, fit_encoders
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.io.stream import StreamFrame
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weights import save_model
from flowpipe.pipelines.live import window_of
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.run import LivePrediction, live_labels
from flowpipe.prediction.network import NetworkClassifier
from flowpipe.prediction.trajectories import TrajectoryClassifier
from flowpipe.trajectories.dense import dense_trajectories
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage
from tests.helpers import media

CLASSES = ("a", "b", "c")
SIZE = (64, 48)
LONG = Live(window=1000, every=1000)
"""One label, of everything, at the end."""


def live_frames(
    images: Iterable[np.ndarray], rate: float = 25.0, begin: float = 0.0
) -> list[StreamFrame]:
    """Frames that have all arrived now."""
    now = time.monotonic()
    return [
        StreamFrame(image, begin + number / rate, now, follows=number > 0)
        for number, image in enumerate(images)
    ]


class FakeSource:
    """Gives frames, and does what it is told at its end.

    Parameters
    ----------
    frames
        What it gives.
    then
        ``end``; ``stall``, until it is told to stop; or an error to raise.
    wait
        Seconds between frames.
    """

    name, rate, trouble, failed = "fake", 25.0, None, 0

    def __init__(
        self,
        frames: Iterable[StreamFrame],
        then: str | Exception = "end",
        wait: float = 0.0,
    ) -> None:
        self._frames, self._then, self._wait = frames, then, wait
        self.heard = time.monotonic()
        self.stopped = False

    def frames(self, stop: Event) -> Iterator[StreamFrame]:
        for frame in self._frames:
            self.heard = time.monotonic()
            yield frame
            if stop.wait(self._wait) if self._wait else stop.is_set():
                break
        if isinstance(self._then, Exception):
            raise self._then
        if self._then == "stall":
            stop.wait(60)
        self.stopped = stop.is_set()


def random_network(
    folder: Path,
    modality: str = "flow",
    *,
    length: int = 3,
    segments: int = 3,
    stage: FlowStage | None = None,
    backbone: str = "shufflenet_v2_x0_5",
    input_size: int = 32,
    classes: Sequence[str] = CLASSES,
    **seen: object,
) -> NetworkClassifier:
    """A network whose scores differ from clip to clip, as ``train`` would have written it."""
    stage = stage or FlowStage(parameters=Tvl1.fast(), size=SIZE, layout="npy")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StreamNetwork(
            Network(backbone=backbone, batch_norm="train"),
            ClipInput(modality, segments, length, input_size, **seen),
            [len(classes)],
        )
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0
        # With the statistics of noise, features are as different as their inputs.
        with torch.no_grad():
            network.train()
            network.features(torch.randn(8, network.channels, 1, input_size, input_size))
        torch.nn.init.normal_(network.last.weight, std=1)
    record = stage.description()
    if modality == "warped-flow":
        record = WarpStage(layout="npy").description(record)
    about = {
        "classes": [list(classes)],
        "trained_classes": [list(range(len(classes)))],
        "stream": {"sets": [{"flow": record}]},
    }
    save_model(folder / "model.safetensors", network, about, folder)
    return NetworkClassifier.load(folder / "model.safetensors", device="cpu")


def random_trajectory_classifier(
    path: Path, images: Sequence[np.ndarray], kind: str = "dt", pyramid: tuple[str, ...] = ("t2",)
) -> TrajectoryClassifier:
    """Fisher vectors fitted to the trajectories of some frames, with random weights."""
    stage = TrajectoryStage(TrajectoryParameters(kind=kind), storage="float32")
    encoding = Encoding(descriptors=("hof", "mbhx"), gaussians=2, rows=500, pyramid=pyramid)
    rows = dense_trajectories(np.stack(images)[..., ::-1], kind)
    encoders = fit_encoders({name: getattr(rows, name) for name in encoding.descriptors}, encoding)
    rng = np.random.default_rng(0)
    vectors = ClipVectors(encoders, encoding.pyramid).vectors()
    weights = {name: rng.normal(size=(3, len(vector))) for name, vector in vectors.items()}
    return TrajectoryClassifier(
        path, CLASSES, stage.description(), encoding, encoders, np.arange(3), np.zeros(3), weights
    )


def images(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """BGR frames of a texture that moves."""
    width, height = size
    return [media.coloured(grey) for grey in media.moving(count, height, width)]


def labels_of(classifier, frames, live=LONG, **options) -> list[LivePrediction]:
    """Labels of frames that have all arrived, or of a source."""
    source = frames if isinstance(frames, FakeSource) else FakeSource(frames)
    return list(live_labels(classifier, window_of(classifier, live), source, live, **options))
