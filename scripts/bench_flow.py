"""TV-L1 solvers side by side: pairs a second, ratios, distance from OpenCV, end-point error.

    python scripts/bench_flow.py clip.mp4 [more clips] [--size 340x256 ...] [--middlebury DIR]

Solvers take turns, and a ratio is between times of the same run: other work on the machine changes
the times and hardly the ratios. With one thread and no GPU the times are processor time. OpenCV's
CPU solver "cuda-like" is set to the scheme of its CUDA solver (no median filter, one loop of 300
iterations): the one ours computes.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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

from flowpipe.errors import FlowpipeError
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.tvl1 import Tvl1Solver, pyramid_sizes

Frames = NDArray[np.uint8]
Solver = Callable[[Frames, Frames], NDArray[np.float32]]

cv2: Any = _cv2  # its stubs know neither opencv-contrib nor the CUDA build
OURS, YARDSTICK = "flowpipe cpu", "OpenCV cpu, cuda-like"
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
    others: bool = True
    """Also measure scikit-image, DIS and OpenCV's defaults, CUDA and OpenCL solvers."""
    middlebury: Path | None = None
    """Folder of Middlebury pairs (NAME/frame10.png, frame11.png, flow10.flo)."""


def each(calc: Callable[[Frames, Frames], Any]) -> Solver:
    """Make a solver of batches of one of pairs, which gives (H, W, 2) or (2, H, W)."""

    def solve(first: Frames, second: Frames) -> NDArray[np.float32]:
        flows = [np.asarray(calc(a, b)) for a, b in zip(first, second, strict=True)]
        return np.stack([f if f.shape[0] == 2 else f.transpose(2, 0, 1) for f in flows])

    return solve


def opencv(**settings: Any) -> Solver:
    solver = cv2.optflow.DualTVL1OpticalFlow_create(**settings)
    return each(lambda a, b: solver.calc(a, b, None))


CUDA_LIKE = {"innnerIterations": 1, "outerIterations": 300, "medianFiltering": 1}


def opencv_cuda(a: Frames, b: Frames) -> Any:
    solver = cv2.cuda.OpticalFlowDual_TVL1.create()
    first, second = cv2.cuda_GpuMat(a), cv2.cuda_GpuMat(b)
    return solver.calc(first, second, None).download()


def opencv_opencl(a: Frames, b: Frames) -> Any:
    solver = cv2.optflow.DualTVL1OpticalFlow_create(**CUDA_LIKE)
    return solver.calc(cv2.UMat(a), cv2.UMat(b), None).get()


def solvers(height: int, width: int, threads: int, options: Options) -> dict[str, Solver]:
    """Those that are here, by name; ours first."""
    found: dict[str, Solver] = {}
    for device in options.device:
        for batch in options.batch:
            name = f"flowpipe {device}" + (f", batch {batch}" if batch > 1 else "")
            try:
                ours = Tvl1Solver(
                    Tvl1(), height, width, device=device, threads=threads, batch=batch
                )
            except FlowpipeError as error:
                print(f"no {name}: {error}")
                continue
            found[name] = in_batches(ours, batch)
    if "cpu" in options.device:
        found["flowpipe cpu, fast"] = Tvl1Solver(Tvl1.fast(), height, width, threads=threads)
    found[YARDSTICK] = opencv(**CUDA_LIKE)
    if not options.others:
        return found
    found["OpenCV cpu, defaults"] = opencv()
    if hasattr(cv2, "cuda") and cv2.cuda.getCudaEnabledDeviceCount():
        found["OpenCV cuda"] = each(opencv_cuda)
    if cv2.ocl.haveOpenCL():
        found["OpenCV opencl, cuda-like"] = each(opencv_opencl)
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


def in_batches(solver: Tvl1Solver, batch: int) -> Solver:
    def solve(first: Frames, second: Frames) -> NDArray[np.float32]:
        parts = [slice(i, i + batch) for i in range(0, len(first), batch)]
        return np.concatenate([solver(first[p], second[p]) for p in parts])

    return solver if batch == 1 else solve


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
    found: dict[str, Solver],
    first: Frames,
    second: Frames,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """Seconds a pair, the best of the rounds, and the flow of each solver."""
    flows = {name: solve(first, second) for name, solve in found.items()}
    seconds = dict.fromkeys(found, np.inf)
    for _ in range(rounds):
        for name, solve in found.items():
            start = clock()
            solve(first, second)
            seconds[name] = min(seconds[name], (clock() - start) / len(first))
    return seconds, flows


def iteration_cost(height: int, width: int) -> float:
    """Seconds of our CPU iteration, a pixel, over a whole pyramid of this size."""
    grey = np.random.default_rng(0).integers(0, 256, (2, 1, height, width), dtype=np.uint8)
    pixels = sum(h * w for h, w in pyramid_sizes(height, width, 5, 0.8))
    seconds = {}
    for iterations in (2, 32):
        solver = Tvl1Solver(replace(Tvl1(), epsilon=0.0, iterations=iterations), height, width)
        took = time_in_turns({"": solver}, grey[0], grey[1], 3)[0][""]
        seconds[iterations] = took
    return (seconds[32] - seconds[2]) / (30 * 5 * pixels)


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


def _timed(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def speed_table(width: int, height: int, threads: int, options: Options, console: Console) -> None:
    pairs = [p for clip in options.clips for p in read_pairs(clip, width, height, options)]
    first, second = (np.stack([p[i] for p in pairs]) for i in (0, 1))
    cv2.setNumThreads(threads)
    found = solvers(height, width, threads, options)
    alone = threads == 1 and not any(name.split(",")[0].endswith("cuda") for name in found)
    clock = time.process_time if alone else time.perf_counter
    seconds, flows = time_in_turns(found, first, second, options.rounds, clock)
    table = Table(title=f"{width}x{height}, {len(pairs)} pairs, {threads} thread(s)")
    for column in ("solver", "pairs/s", "ms a pair", "x OpenCV", "mean px", "p99 px"):
        table.add_column(column, justify="left" if column == "solver" else "right", no_wrap=True)
    for name, took in seconds.items():
        off = np.hypot(*(flows[name] - flows[YARDSTICK]).swapaxes(0, 1))
        table.add_row(
            name, f"{1 / took:.2f}", f"{took * 1e3:.1f}", f"{seconds[YARDSTICK] / took:.1f}",
            f"{off.mean():.3f}", f"{np.percentile(off, 99):.2f}",
        )  # fmt: skip
    console.print(table)


def middlebury_table(folder: Path, console: Console) -> None:
    settings: dict[str, Tvl1 | dict[str, int]] = {
        "flowpipe (OpenCV's CUDA scheme)": Tvl1(),
        "flowpipe, cubic -0.75, median 5": Tvl1(cubic=-0.75, median=5),
        "flowpipe, n_scales auto": Tvl1(n_scales="auto"),
        "flowpipe, fast": Tvl1.fast(),
        "OpenCV cpu, cuda-like": CUDA_LIKE,
        "OpenCV cpu, defaults": {},
    }
    names = sorted(p.name for p in folder.iterdir() if (p / "flow10.flo").exists())
    table = Table("end-point error, px", *names)
    for title, setting in settings.items():
        errors = []
        for name in names:
            a, b = (
                cv2.imread(str(folder / name / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE)
                for i in (10, 11)
            )
            truth = cv2.readOpticalFlow(str(folder / name / "flow10.flo")).transpose(2, 0, 1)
            known = (np.abs(truth) < 1e9).all(axis=0)
            solver: Solver = (
                Tvl1Solver(setting, *a.shape) if isinstance(setting, Tvl1) else opencv(**setting)
            )
            flow = solver(a[None].astype(np.uint8), b[None].astype(np.uint8))[0]
            errors.append(np.hypot(*(flow - truth))[known].mean())
        table.add_row(title, *(f"{e:.4f}" for e in errors))
    console.print(table)


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def main(options: Options) -> None:
    console = Console(width=110)
    versions = f"OpenCV {cv2.__version__}, numba {numba.__version__}"
    console.print(f"{cpu_model()}, {versions}, {date.today()}")
    for size in options.size:
        width, height = (int(n) for n in size.split("x"))
        for threads in options.threads:
            speed_table(width, height, threads, options, console)
        if "cpu" in options.device:
            cost, (bandwidth, flops) = iteration_cost(height, width), ceilings()
            console.print(
                f"{OURS}, {size}: {cost * 1e9:.2f} ns a pixel and iteration = "
                f"{FLOPS / cost / flops:.0%} of {flops / 1e9:.0f} GFLOP/s (one core, FMA); "
                f"{4 * FIELDS_MOVED / cost / bandwidth:.0%} of the {bandwidth / 1e9:.1f} GB/s of a "
                "copy in memory, were nothing kept in a cache"
            )
    if options.middlebury:
        middlebury_table(options.middlebury, console)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
