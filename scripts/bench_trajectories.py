"""Frames a second of dense trajectories on one core, by stage, against OpenCV's Farneback flow.

The released programs run DT at 18 to 27 and iDT at 10 to 13 frames/s at 320x240 on a core where the
yardstick, ``cv2.calcOpticalFlowFarneback`` at 340x256, takes 13 ms. The yardstick is timed here
before each pass over a clip, so that the ratio to them does not depend on the machine. Times are
the process's CPU time on one thread; of each frame, and of the yardstick's calls, the least of all
repeats, as what else runs on a machine costs caches as well as time.

    python scripts/bench_trajectories.py v_Bowling_g01_c01.avi v_IceDancing_g01_c01.avi
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.camera import motion
from flowpipe.trajectories import descriptors, extract, farneback, sampling
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.table import TableWriter
from flowpipe.trajectories.text import TextWriter

Kind = Literal["dt", "idt"]

YARDSTICK_MS = 13.0
RELEASED_FPS = {"dt": (18.0, 27.0), "idt": (10.0, 13.0)}
STAGES: list[tuple[str, Any, str]] = [
    ("grey", extract, "to_grey"),
    ("grey", extract, "grey_pyramid"),
    ("expansion", farneback.FarnebackFlow, "expand"),
    ("flow", farneback.FarnebackFlow, "flow"),
    ("median", farneback, "filter_flow"),
    ("sampling", extract, "measure_corners"),
    ("sampling", sampling.Sampler, "sample"),
    ("descriptors", descriptors.DescriptorAccumulator, "add"),
    ("camera", motion.CameraMotion, "estimate"),
    ("camera", extract, "warp_back"),
    ("rows", extract.Extractor, "_collect"),
]


def read_frames(path: Path) -> list[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (frame := video.read())[0]:
        frames.append(np.asarray(frame[1], np.uint8))
    return frames


def yardstick(frames: list[NDArray[np.uint8]]) -> float:
    """Milliseconds of the yardstick call, the least of 11 pairs."""
    grey = [cv2.cvtColor(cv2.resize(f, (340, 256)), cv2.COLOR_BGR2GRAY) for f in frames[:12]]
    times = []
    for first, second in pairwise(grey):
        start = time.process_time()
        flow = np.empty((*first.shape, 2), np.float32)
        cv2.calcOpticalFlowFarneback(first, second, flow, 0.5, 3, 15, 3, 5, 1.2, 0)
        times.append(time.process_time() - start)
    return 1e3 * min(times)


class StageTimer:
    """Times functions in place; a stage inside another counts for itself alone."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a clock."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.process_time()
            result = call(*args, **kwargs)
            total = time.process_time() - start
            self.spent[stage] += total - self._inner.pop()
            self._inner[-1] += total
            return result

        return timed


def time_stages(frames: list[NDArray[np.uint8]], parameters: TrajectoryParameters) -> None:
    """Print milliseconds a frame of each stage."""
    timer, originals = StageTimer(), []
    for stage, owner, name in STAGES:
        originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, timer.wrap(stage, getattr(owner, name)))
    start = time.process_time()
    for _ in extract.extract(frames, parameters, length=len(frames)):
        pass
    total = time.process_time() - start
    for owner, name, call in originals:
        setattr(owner, name, call)
    timer.spent["the rest"] = total - sum(timer.spent.values())
    print("    ms a frame:", end=" ")
    print(", ".join(f"{k} {1e3 * v / len(frames):.2f}" for k, v in timer.spent.items()))


def run(
    frames: list[NDArray[np.uint8]], parameters: TrajectoryParameters, output: str
) -> tuple[NDArray[np.float64], int, int]:
    """Seconds of each frame and of the end of one pass over a clip, its rows, the bytes written."""
    height, width = frames[0].shape[:2]
    rows = 0
    times: list[float] = []

    def stamped() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            times.append(time.process_time())
            yield frame

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows"
        batches = extract.extract(stamped(), parameters, length=len(frames))
        if output == "none":
            rows = sum(len(batch) for batch in batches)
        elif output == "table":
            with TableWriter(target, parameters) as table:
                for batch in batches:
                    rows += len(batch)
                    table.append(batch)
                table.finish(len(frames), width, height)
        else:
            with target.open("w+b") as file:
                writer = TextWriter(file, parameters)
                for batch in batches:
                    rows += len(batch)
                    writer.append(batch)
                writer.finish(len(frames))
        times.append(time.process_time())
        return np.diff(times), rows, target.stat().st_size if target.exists() else 0


def bench(path: Path, kind: Kind, repeats: int) -> None:
    """Print the figures of one clip."""
    frames = read_frames(path)
    height, width = frames[0].shape[:2]
    parameters = TrajectoryParameters(kind=kind)
    calls, seconds, sizes, rows = [], {}, {}, 0
    for output in ("none", "table", "text"):
        passes = []
        for _ in range(repeats):
            calls.append(yardstick(frames))
            passes.append(run(frames, parameters, output))
        seconds[output] = float(np.min([spent for spent, _, _ in passes], axis=0).sum())
        _, rows, sizes[output] = passes[0]
    call = min(calls)
    print(f"{path.stem} {kind} {width}x{height}, {len(frames)} frames, {rows} rows")
    low, high = (fps * YARDSTICK_MS / call for fps in RELEASED_FPS[kind])
    print(
        f"    yardstick {call:.1f} ms; the released program here {low:.1f} to {high:.1f} frames/s"
    )
    for output, spent in seconds.items():
        fps = len(frames) / spent
        print(f"    output {output}: {fps:.1f} frames/s, {fps / high:.1f}x to {fps / low:.1f}x")
    print(
        f"    bytes a row: table {sizes['table'] / max(rows, 1):.0f}, "
        f"text {sizes['text'] / max(rows, 1):.0f}"
    )
    time_stages(frames, parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=("dt", "idt"), default=["dt", "idt"])
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    kinds: list[Kind] = arguments.kinds
    cv2.setNumThreads(1)
    for kind in kinds:
        # compiles what is not in Numba's cache
        for _ in extract.extract(read_frames(arguments.clips[0])[:20], TrajectoryParameters(kind)):
            pass
        for path in arguments.clips:
            bench(path, kind, arguments.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB, decoded frames of a whole clip included")


if __name__ == "__main__":
    main()
