"""TV-L1 solvers side by side: pairs a second, ratios, distance from OpenCV, end-point error.

    python scripts/bench_flow.py clip.mp4 [more clips] [--size 340x256 ...]
        [--middlebury DIR] [--kitti DIR]

Solvers take turns, and a ratio is between times of the same run: other work on the machine changes
the times and hardly the ratios. With one thread and nothing but CPU solvers the times are processor
time. OpenCV's CPU solver "cuda-like" is set to the scheme of its CUDA solver (no median filter, one
loop of 300 iterations): the one ours computes. A batch that is larger than the number of pairs is
filled by repeating them.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2 as _cv2
import numba
import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow.opencv import OpencvSolver, Runtime, why_unavailable
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.tvl1 import Tvl1Solver, pyramid_sizes

Frames = NDArray[np.uint8]
Solver = Callable[[Frames, Frames], NDArray[np.float32]]

cv2: Any = _cv2  # its stubs know neither opencv-contrib nor the CUDA build
YARDSTICK = "OpenCV cpu, cuda-like"
FLOPS = 62
"""Of an iteration, a pixel: 17 primal, 4 for the change, 2 x 20.5 dual (a root is one)."""
FIELDS_MOVED = 16
"""Floats an iteration must read and write, a pixel, that does not keep any in a cache."""


@dataclass
class Options:
    """What to measure."""

    clips: tyro.conf.Positional[list[Path]]
    """Videos; a round takes pairs of each."""
    size: tuple[str, ...] = ("340x256",)
    """Frame sizes, WIDTHxHEIGHT."""
    pairs: int = 3
    """Pairs of each clip."""
    stride: int = 8
    """Frames between pairs, so that a few show the whole clip."""
    rounds: int = 3
    """Turns every solver has; the fastest counts."""
    threads: tuple[int, ...] = (1,)
    """Threads; a table for each."""
    batch: tuple[int, ...] = (1,)
    """Batches for solvers that take them."""
    device: tuple[str, ...] = ("cpu",)
    """Our devices: cpu, cuda, torch:cpu, ..."""
    tvl1: Tvl1 = field(default_factory=Tvl1)
    """Parameters of ours and of OpenCV's, which has the published steps and its own cubic."""
    others: bool = True
    """Also measure scikit-image, DIS and OpenCV's defaults, CUDA and OpenCL solvers."""
    middlebury: Path | None = None
    """Folder of Middlebury pairs (NAME/frame10.png, frame11.png, flow10.flo)."""
    kitti: Path | None = None
    """Folder of KITTI 2012 pairs (image_0_ID_10.png, image_0_ID_11.png, flow_occ_ID_10.png)."""


@dataclass(frozen=True)
class Entry:
    """A solver that is measured."""

    solve: Solver
    batch: int = 1
    on_cpu: bool = True

    def filled(self, frames: Frames) -> Frames:
        """The frames, repeated until they fill the last batch."""
        return np.resize(frames, (-(-len(frames) // self.batch) * self.batch, *frames.shape[1:]))

    def __call__(self, first: Frames, second: Frames) -> NDArray[np.float32]:
        """Flow of the pairs, a batch at a time."""
        starts = range(0, len(first), self.batch)
        parts = [slice(start, start + self.batch) for start in starts]
        return np.concatenate([self.solve(first[p], second[p]) for p in parts])


def is_here(device: str) -> bool:
    try:
        Tvl1Solver(Tvl1(), 16, 16, device=device)
    except BackendUnavailableError as error:
        print(f"no flowpipe {device}: {error}")
        return False
    return True


def each(calc: Callable[[Frames, Frames], Any]) -> Entry:
    """Make a solver of batches of one of pairs, which gives (H, W, 2) or (2, H, W)."""

    def solve(first: Frames, second: Frames) -> NDArray[np.float32]:
        flows = [np.asarray(calc(a, b)) for a, b in zip(first, second, strict=True)]
        return np.stack([f if f.shape[0] == 2 else f.transpose(2, 0, 1) for f in flows])

    return Entry(solve)


def opencv_defaults() -> Entry:
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    return each(lambda a, b: solver.calc(a, b, None))


def cuda_like(runtime: Runtime, tvl1: Tvl1, height: int, width: int) -> Entry:
    """OpenCV's solver in the scheme of its CUDA solver."""
    known = replace(tvl1, cubic=Tvl1().cubic, steps=Tvl1().steps)
    return Entry(OpencvSolver(known, runtime, height, width), on_cpu=runtime == "cpu")


def entries(height: int, width: int, threads: int, options: Options) -> dict[str, Entry]:
    """Those that are here, by name; ours first."""
    found: dict[str, Entry] = {}
    settings = [("", batch, options.tvl1) for batch in options.batch]
    settings.append((", fast", max(options.batch), Tvl1.fast()))
    for device in options.device:
        for kind, batch, tvl1 in settings:
            name = f"flowpipe {device}{kind}" + (f", batch {batch}" if batch > 1 else "")
            ours = Tvl1Solver(tvl1, height, width, device=device, threads=threads, batch=batch)
            found[name] = Entry(ours, batch, on_cpu=device == "cpu")
    found[YARDSTICK] = cuda_like("cpu", options.tvl1, height, width)
    if not options.others:
        return found
    found["OpenCV cpu, defaults"] = opencv_defaults()
    for runtime in ("cuda", "opencl"):
        if reason := why_unavailable(runtime, Tvl1.method):
            print(f"no OpenCV {runtime}: {reason}")
        else:
            found[f"OpenCV {runtime}"] = cuda_like(runtime, options.tvl1, height, width)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found["OpenCV DIS, medium"] = each(lambda a, b: dis.calc(a, b, None))
    try:
        skimage_tvl1 = import_module("skimage.registration").optical_flow_tvl1
    except ImportError:
        print("no scikit-image here")
    else:
        found["scikit-image"] = each(
            lambda a, b: skimage_tvl1(a / np.float32(255), b / np.float32(255))[::-1]
        )
    return found


def read_pairs(clip: Path, width: int, height: int, options: Options) -> Iterator[Frames]:
    """(2, height, width) pairs of consecutive frames, grey after resizing."""
    capture, frames = cv2.VideoCapture(str(clip)), []
    for index in range(options.pairs * options.stride + 1):
        good, frame = capture.read()
        if not good:
            break
        if index % options.stride < 2:
            frames.append(cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2GRAY))
    for i in range(0, len(frames) - 1, 2):
        yield np.stack(frames[i : i + 2])


def time_in_turns(
    found: dict[str, Entry],
    first: Frames,
    second: Frames,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """Seconds a pair, the best of the rounds, and the flow of each solver."""
    flows = {
        name: entry(entry.filled(first), entry.filled(second))[: len(first)]
        for name, entry in found.items()
    }
    seconds = dict.fromkeys(found, np.inf)
    for _ in range(rounds):
        for name, entry in found.items():
            a, b = entry.filled(first), entry.filled(second)
            start = clock()
            entry(a, b)
            seconds[name] = min(seconds[name], (clock() - start) / len(a))
    return seconds, flows


def iteration_cost(
    height: int, width: int, device: str = "cpu", batch: int = 1, rounds: int = 3
) -> float:
    """Seconds of our iteration, a pixel, over a whole pyramid of this size."""
    grey = np.random.default_rng(0).integers(0, 256, (2, batch, height, width), dtype=np.uint8)
    pixels = sum(h * w for h, w in pyramid_sizes(height, width, 5, 0.8))
    clock = time.process_time if device == "cpu" else time.perf_counter
    few, many = 2, 32
    seconds = {}
    for iterations in (few, many):
        setting = replace(Tvl1(), epsilon=0.0, iterations=iterations, warps=1)
        solver = Entry(Tvl1Solver(setting, height, width, device=device, batch=batch), batch)
        seconds[iterations] = time_in_turns({"": solver}, grey[0], grey[1], rounds, clock)[0][""]
    return (seconds[many] - seconds[few]) / ((many - few) * pixels)


@numba.njit(fastmath=True)  # type: ignore[untyped-decorator,unused-ignore]
def _multiply_adds(values: NDArray[np.float32], times: int) -> None:
    for _ in range(times):
        for i in range(64):
            values[i] = values[i] * np.float32(0.999) + np.float32(0.001)


def ceilings() -> tuple[float, float]:
    """Bytes and float32 operations a second of one core: a copy of 64 MiB, and 64 chains of FMA."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    copy = min(_timed(lambda: np.copyto(target, source)) for _ in range(8))
    values = np.ones(64, np.float32)
    _multiply_adds(values, 1)
    fma = min(_timed(lambda: _multiply_adds(values, 1_000_000)) for _ in range(8))
    return 2 * source.nbytes / copy, 2 * 64 * 1_000_000 / fma


def device_bandwidth(device: str) -> float:
    """Bytes a second that a copy in the device's memory moves."""
    import torch

    if not torch.cuda.is_available():  # under Triton's interpreter
        device = "cpu"
    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        if source.is_cuda:
            torch.cuda.synchronize()

    return 2 * 4 * len(source) / min(_timed(copy, time.perf_counter) for _ in range(8))


def _timed(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    call()
    return clock() - start


def print_share_of_the_roofline(
    width: int, height: int, device: str, options: Options, console: Console
) -> None:
    batch = 1 if device == "cpu" else max(options.batch)
    cost = iteration_cost(height, width, device, batch, options.rounds)
    size = f"flowpipe {device}, {width}x{height}, batch {batch}"
    moved = 4 * FIELDS_MOVED / cost
    if device == "cpu":
        bandwidth, flops = ceilings()
        limit = f"{FLOPS / cost / flops:.0%} of {flops / 1e9:.0f} GFLOP/s (one core, FMA); "
    else:
        bandwidth, limit = device_bandwidth(device), ""
    console.print(
        f"{size}: {cost * 1e9:.3f} ns a pixel and iteration = {limit}{moved / bandwidth:.0%} of "
        f"the {bandwidth / 1e9:.1f} GB/s of a copy in memory, were nothing kept in a cache"
    )


def speed_table(width: int, height: int, threads: int, options: Options, console: Console) -> None:
    pairs = [p for clip in options.clips for p in read_pairs(clip, width, height, options)]
    first, second = (np.stack([p[i] for p in pairs]) for i in (0, 1))
    cv2.setNumThreads(threads)
    found = entries(height, width, threads, options)
    alone = threads == 1 and all(entry.on_cpu for entry in found.values())
    clock = time.process_time if alone else time.perf_counter
    seconds, flows = time_in_turns(found, first, second, options.rounds, clock)
    kind = "processor time" if alone else "wall clock"
    table = Table(title=f"{width}x{height}, {len(pairs)} pairs, {threads} thread(s), {kind}")
    for column in ("solver", "pairs/s", "ms a pair", "x OpenCV", "mean px", "p99 px"):
        table.add_column(column, justify="left" if column == "solver" else "right", no_wrap=True)
    for name, took in seconds.items():
        off = np.hypot(*(flows[name] - flows[YARDSTICK]).swapaxes(0, 1))
        table.add_row(
            name, f"{1 / took:.2f}", f"{took * 1e3:.1f}", f"{seconds[YARDSTICK] / took:.1f}",
            f"{off.mean():.3f}", f"{np.percentile(off, 99):.2f}",
        )  # fmt: skip
    console.print(table)


@dataclass(frozen=True)
class Pair:
    """Two grey frames, their (2, H, W) flow in pixels, and where it is known."""

    first: Frames
    second: Frames
    truth: NDArray[np.float32]
    known: NDArray[np.bool_]

    def error(self, flow: NDArray[np.float32]) -> float:
        """Mean end-point error in pixels."""
        return float(np.hypot(*(flow - self.truth))[self.known].mean())


def _grey(path: Path) -> Frames:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)


def middlebury_pairs(folder: Path) -> dict[str, Pair]:
    """Pairs by their name."""
    found = {}
    for path in sorted(folder.glob("*/flow10.flo")):
        first, second = (_grey(path.with_name(f"frame{number}.png")) for number in (10, 11))
        truth = cv2.readOpticalFlow(str(path)).transpose(2, 0, 1)
        found[path.parent.name] = Pair(first, second, truth, (np.abs(truth) < 1e9).all(axis=0))
    return found


def kitti_pairs(folder: Path) -> dict[str, Pair]:
    """Pairs by their number, with the flow of occluded pixels too."""
    found = {}
    for path in sorted(folder.glob("flow_occ_*_10.png")):
        number = path.stem.split("_")[2]
        first, second = (_grey(folder / f"image_0_{number}_{frame}.png") for frame in (10, 11))
        coded = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
        truth = (coded[..., :0:-1].transpose(2, 0, 1) - 2**15) / 64
        found[f"KITTI {number}"] = Pair(first, second, truth, coded[..., 0] > 0)
    return found


def accuracy_table(pairs: dict[str, Pair], console: Console) -> None:
    """Print end-point errors, and the time relative to OpenCV's defaults."""
    settings: dict[str, Tvl1 | Runtime | None] = {
        "OpenCV cpu, defaults": None,
        "OpenCV cpu, cuda-like": "cpu",
        "flowpipe, published": Tvl1(),
        "flowpipe, n_scales auto": Tvl1(n_scales="auto"),
        "flowpipe, fast": Tvl1.fast(),
        "flowpipe, accurate": Tvl1.accurate(),
    }
    table = Table("end-point error, px", *pairs, "x OpenCV")
    yardstick = 0.0
    for title, setting in settings.items():
        errors, took = [], 0.0
        for pair in pairs.values():
            solver: Solver
            if isinstance(setting, Tvl1):
                solver = Tvl1Solver(setting, *pair.first.shape)
                solver(pair.first[None], pair.second[None])  # compiles
            else:
                size = pair.first.shape
                solver = cuda_like(setting, Tvl1(), *size) if setting else opencv_defaults()
            start = time.process_time()
            flow = solver(pair.first[None], pair.second[None])[0]
            took += time.process_time() - start
            errors.append(pair.error(flow))
        yardstick = yardstick or took
        table.add_row(title, *(f"{e:.4f}" for e in errors), f"{yardstick / took:.1f}")
    console.print(table)


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def main(options: Options) -> None:
    console = Console(width=110)
    versions = f"OpenCV {cv2.__version__}, numba {numba.__version__}"
    options = replace(options, device=tuple(filter(is_here, options.device)))
    console.print(f"{cpu_model()}, {versions}, {date.today()}")
    for size in options.size:
        width, height = (int(n) for n in size.split("x"))
        for threads in options.threads:
            speed_table(width, height, threads, options, console)
        for device in options.device:
            if not device.startswith("torch"):
                print_share_of_the_roofline(width, height, device, options, console)
    if options.middlebury:
        accuracy_table(middlebury_pairs(options.middlebury), console)
    if options.kitti:
        accuracy_table(kitti_pairs(options.kitti), console)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
