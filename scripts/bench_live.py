"""Measure live prediction: frames used, delay behind the picture, and memory.

    python scripts/bench_live.py [VIDEO] [--seconds 60]
    python scripts/bench_live.py --fast-forward 90000
    python scripts/bench_live.py --detector oadtr [--stride 4]

A MobileNetV2 stream on stacks of flow with random weights labels a file that is played at its own
pace: VIDEO over and over, or a video of 340x256 at 25 frames per second that is made here. The
labels are random; times and memory are those of a trained network. The delay is from the moment
when the newest frame that was scored was due, to its label.

With `--detector`, the network gives features of windows, and a detector of the published size with
random weights labels the present.

`--fast-forward N` takes N frames as fast as they can be used, dropping none (90 000 are an hour at
25 frames per second): what an hour of frames does to the memory. The slope is that of a line
through all measurements but those of the first tenth, in which caches fill.
"""

from __future__ import annotations

import itertools
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Annotated

import av
import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from flowpipe.flow.extract import FlowStage
from flowpipe.io import video
from flowpipe.io.stream import FrameSource, Stream, StreamFrame
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.detectors import make_detector
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.pipelines.live import window_of
from flowpipe.prediction.detection.features import FeatureNetwork
from flowpipe.prediction.detection.load import Detector
from flowpipe.prediction.flow import RecordedFlow
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.run import live_labels
from flowpipe.prediction.network import NetworkClassifier
from flowpipe.prediction.record import Record
from flowpipe.training.detection.files import TrainedDetector
from flowpipe.training.detection.steps import Timing

RATE, SIZE, LENGTH = 25, (340, 256), 10.0
"""Of the video that is made: frames per second, width and height, seconds."""
CLASSES = 101


@dataclass
class Options:
    """What to measure."""

    video: tyro.conf.Positional[Path | None] = None
    """Video to play over and over; by default one is made."""
    seconds: float = 60.0
    """Time of the source to play."""
    fast_forward: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of frames to use as fast as possible, in place of playing."""
    backbone: str = "mobilenet_v2"
    """Network of torchvision's, by name."""
    length: int = 5
    """Flow fields of a stack."""
    detector: str | None = None
    """Detector on the features of the network, by name, in place of the network alone."""
    stride: int = 4
    """Frames from one feature of a detector to the next."""
    measurements: int = 20
    """Times that the memory is measured."""
    live: Annotated[Live, tyro.conf.arg(name="")] = field(default_factory=Live)


class Repeated:
    """A file that is played at its own pace, over and over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name, self.rate = str(path), float(RATE)
        self.heard, self.failed = time.monotonic(), 0
        self.trouble: str | None = None

    def frames(self, stop: Event) -> Iterator[StreamFrame]:
        """Yield frames, as :class:`flowpipe.io.stream.FrameSource` does."""
        begin, end, period = 0.0, 0.0, 1 / RATE
        while not stop.is_set():
            for frame in Stream(self._path).frames(stop):
                self.heard = time.monotonic()
                end = begin + frame.time
                yield replace(frame, time=end)
            begin = end + period


class FastForward:
    """Decoded frames over and over, as fast as they are used."""

    def __init__(self, images: list[NDArray[np.uint8]], count: int) -> None:
        self._images, self._count = images, count
        self.name, self.rate = "fast-forward", float(RATE)
        self.heard, self.failed = time.monotonic(), 0
        self.trouble: str | None = None

    def frames(self, stop: Event) -> Iterator[StreamFrame]:
        """Yield frames, as :class:`flowpipe.io.stream.FrameSource` does."""
        for number, image in enumerate(
            itertools.islice(itertools.cycle(self._images), self._count)
        ):
            if stop.is_set():
                return
            self.heard = time.monotonic()
            yield StreamFrame(image, number / RATE, self.heard, number > 0)


def made_up(path: Path) -> Path:
    """Write a video of a texture that turns and drifts before another."""
    width, height = SIZE
    rng = np.random.default_rng(0)

    def texture(side: int) -> NDArray[np.uint8]:
        noise = cv2.GaussianBlur(rng.random((side, side, 3)).astype(np.float32), (0, 0), 3)
        return np.asarray(cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))

    back, front = texture(900), texture(120)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(LENGTH * RATE)):
            phase = 2 * np.pi * number / (LENGTH * RATE)
            x, y = round(280 + 250 * np.sin(phase)), round(320 + 250 * np.cos(phase))
            picture = back[y : y + height, x : x + width].copy()
            turn = cv2.getRotationMatrix2D((60, 60), 5 * number, 1.0)
            left, top = round(110 + 90 * np.sin(3 * phase)), round(68 + 50 * np.cos(2 * phase))
            turned = cv2.warpAffine(front, turn, (120, 120), borderMode=cv2.BORDER_REFLECT)
            picture[top : top + 120, left : left + 120] = turned
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def classifier(options: Options) -> NetworkClassifier:
    """Return a flow stream with random weights."""
    torch.manual_seed(0)
    network = StreamNetwork(
        Network(backbone=options.backbone), ClipInput("flow", 3, options.length), [CLASSES]
    )
    return NetworkClassifier(
        Path("random"),
        tuple(str(number) for number in range(CLASSES)),
        network,
        FlowStage().description(),
        np.arange(CLASSES),
        Record(),
        "cpu",
    )


def random_detector(options: Options, name: str) -> Detector:
    """Return a detector with random weights on the features of that stream."""
    flow = FlowStage().description()
    network = classifier(options).network.eval()
    channels = 2 * options.length
    with torch.inference_mode():
        size = network.features(network.clips(torch.zeros(1, 1, channels, 224, 224))).shape[-1]
    classes = tuple(str(number) for number in range(CLASSES))
    windows = {"stage": "features", "layout": "npy", "crops": 1, "source": flow}
    record = {**windows, "length": options.length, "stride": options.stride}
    stream = FeatureNetwork(
        network, record, RecordedFlow(flow, "random"), Timing(options.length, options.stride, 1)
    )
    trained = TrainedDetector(
        Path("random"), make_detector(name, size, CLASSES + 1).eval(), size, classes, {}
    )
    return Detector(Path("random"), trained, (stream,), torch.device("cpu"))


def resident() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(options: Options) -> None:
    trained: NetworkClassifier | Detector = classifier(options)
    if options.detector is not None:
        trained = random_detector(options, options.detector)
    window = window_of(trained, options.live)
    with tempfile.TemporaryDirectory() as folder:
        path = options.video or made_up(Path(folder, "made.mp4"))
        seconds = options.seconds
        source: FrameSource = Repeated(path)
        if options.fast_forward is not None:
            seconds = options.fast_forward / RATE
            images = [frame.image for frame in video.frames(path, max_frames=250)]
            source = FastForward(images, options.fast_forward)
        live = replace(options.live, duration=seconds)
        print(
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; "
            f"{options.backbone}, stacks of {options.length}"
            f"{f', {options.detector} every {options.stride}' if options.detector else ''}; {live}"
        )
        delays, memory = [], [(0.0, resident())]
        begin, used_processor = time.perf_counter(), time.process_time()
        last = None
        for last in live_labels(trained, window, source, live, drops=options.fast_forward is None):
            delays.append(last.delay)
            if last.time >= memory[-1][0] + seconds / options.measurements:
                memory.append((last.time, resident()))
                print(f"  {last.time:7.0f} s  {memory[-1][1]:7.1f} MiB", flush=True)
        wall = time.perf_counter() - begin
        processor = time.process_time() - used_processor
    assert last is not None
    print(f"{last.frames} frames in {wall:.1f} s, {processor:.1f} s of processors")
    print(f"used: {last.used}, {last.used / wall:.1f} per second; dropped: {last.dropped}")
    if options.fast_forward is None:
        late = np.percentile(delays, [50, 95, 100])
        print(
            f"{len(delays)} labels; delay: median {late[0]:.3f} s, 95 % {late[1]:.3f} s, "
            f"largest {late[2]:.3f} s"
        )
    times, sizes = np.array(memory).T
    settled = times >= 0.1 * seconds
    hours = times[settled] / 3600
    slope = float(np.polyfit(hours, sizes[settled], 1)[0]) if settled.sum() > 2 else float("nan")
    print(
        f"memory: {sizes[0]:.1f} MiB at the start, {sizes[settled][0]:.1f} after a tenth, "
        f"{sizes[-1]:.1f} at the end; slope {slope:+.1f} MiB per hour of the source"
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=(__doc__ or "").splitlines()[0]))
