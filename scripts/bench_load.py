"""Measure what many clips and long runs cost beside the work itself.

    python scripts/bench_load.py many [--clips 100000]
    python scripts/bench_load.py long [--hours 3] [--stage flow|trajectories]

`many` makes so many tiny videos and runs ``extract-flow`` over them with a stub in place of the
solver, which stores the flow of one clip for all. It prints processor time and highest memory of
the first run, of one that finds everything done, of ``status`` and of ``verify``, each in a process
of its own.

`long` gives a command as many pairs as one core solves in so many hours at 340x256 (13 a second,
TV-L1), or as many frames as it tracks at 320x240 (31 a second, improved trajectories), in clips of
61 frames of 64x48, for which it needs minutes. It prints the memory of the command and that of its
workers, and their open files, as the clips get done.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from flowpipe.datasets.base import Clip
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.parameters import Farneback
from flowpipe.pipelines.flow import extract_flow
from flowpipe.pipelines.verify import verify
from flowpipe.runner import json_files
from flowpipe.runner.inspect import status
from flowpipe.runner.pool import Advance, Done, Workers
from flowpipe.runner.run_status import FOLDER

KINDS = 10
"""Different videos of a long run; the rest are links to them."""
PER_FOLDER = 1000
RATES = {"flow": 13, "trajectories": 31}
LENGTH, SIZE = 61, (64, 48)
COMMANDS = {
    "flow": ("extract-flow", "--native", "--backend", "cpu", "--frames"),
    "trajectories": ("extract-trajectories",),
}
STAGE = FlowStage(Farneback(), backend="opencv-cpu", size=None, frames=True)
CONSOLE = Console(highlight=False)


def write_video(path: Path, n_frames: int, size: tuple[int, int], seed: int) -> None:
    """Smooth noise that moves a pixel a frame."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.integers(0, 256, (size[1], 4 * size[0], 3), np.uint8), (0, 0), 2)
    ground = cv2.normalize(ground, None, 0, 255, cv2.NORM_MINMAX)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for index in range(n_frames):
        writer.write(np.ascontiguousarray(ground[:, index : index + size[0]]))
    writer.release()


def link_videos(folder: Path, count: int, kinds: list[Path]) -> None:
    """So many names for a few videos."""
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:03d}" / f"{number:06d}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = kinds[number % len(kinds)]
        try:
            os.link(kind, path)
        except OSError:  # as many links as the file system has room for
            path.write_bytes(kind.read_bytes())


def with_stub(videos: Path, out: Path, flow: bytes) -> None:
    """``extract-flow``, every clip's flow being those bytes."""

    def stub(self: ExtractFlow, clip: Clip, advance: Advance) -> Done:
        path = self.out / f"{clip.name}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(flow)
        advance(1)
        return Done()

    ExtractFlow.__call__ = stub  # type: ignore[method-assign]
    extract_flow([str(videos)], out, STAGE, workers=Workers(0))


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time and MB at the highest of a call in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_costs, (work,))


def _costs(work: Callable[[], object]) -> tuple[float, float]:
    begin = time.process_time()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return time.process_time() - begin, peak


@dataclass
class Many:
    """Many clips."""

    clips: int = 100_000
    """Number of clips."""
    folder: Path | None = None
    """Where there is room for temporary files."""

    def run(self, folder: Path) -> None:
        """Measure and print."""
        one, videos, out = folder / "one.avi", folder / "videos", folder / "out"
        write_video(one, 2, (16, 16), 0)
        extract_flow([str(one)], folder / "one", STAGE, workers=Workers(0))
        flow = (folder / "one/one.zip").read_bytes()
        # Some file systems allow 65 000 links of a file.
        kinds = [folder / f"kind{index}.avi" for index in range(1 + self.clips // 30_000)]
        for kind in kinds:
            kind.write_bytes(one.read_bytes())
        link_videos(videos, self.clips, kinds)
        extraction = functools.partial(with_stub, videos, out, flow)
        checking = functools.partial(verify, out, repair=False, workers=Workers(0))
        table = Table("", "s of processor time", "ms a clip", "MB at the highest")
        works: dict[str, Callable[[], object]] = {
            "first run": extraction,
            "run over finished clips": extraction,
            "status": functools.partial(status, out),
            "verify --quick": functools.partial(checking, quick=True),
            "verify": checking,
        }
        for name, work in works.items():
            seconds, peak = measured(work)
            each = 1e3 * seconds / self.clips
            table.add_row(name, f"{seconds:.1f}", f"{each:.2f}", f"{peak:.0f}")
        CONSOLE.print(f"{self.clips} clips of {len(flow)} bytes", table)


@dataclass
class Long:
    """Hours of work."""

    hours: float = 3
    """Of one core, at full size."""
    stage: Literal["flow", "trajectories"] = "flow"
    """What to compute."""
    jobs: int = 1
    """Worker processes."""
    folder: Path | None = None
    """Where there is room for temporary files."""

    def run(self, folder: Path) -> None:
        """Run the command, look at it now and then, and print."""
        kinds = [folder / f"kind{index}.avi" for index in range(KINDS)]
        for seed, kind in enumerate(kinds):
            write_video(kind, LENGTH, SIZE, seed)
        count = max(KINDS, round(self.hours * 3600 * RATES[self.stage] / (LENGTH - 1)))
        videos, out = folder / "videos", folder / "out"
        link_videos(videos, count, kinds)
        name, *options = COMMANDS[self.stage]
        command = [sys.executable, "-m", "flowpipe", name, str(videos), "--out", str(out), *options]
        table = Table("clips done", "minutes", "command, MB", "workers, MB", "open files")
        begin, shown = time.monotonic(), -1
        with subprocess.Popen(
            [*command, "--jobs", str(self.jobs)], stderr=subprocess.DEVNULL
        ) as run:
            while run.poll() is None:
                time.sleep(1)
                done = clips_done(out)
                if done * 10 // count > shown and run.poll() is None:
                    shown = done * 10 // count
                    mains, workers = memory(run.pid), [memory(pid) for pid in children(run.pid)]
                    files = sum(map(open_files, [run.pid, *children(run.pid)]))
                    minutes = (time.monotonic() - begin) / 60
                    each = " ".join(f"{worker:.0f}" for worker in workers)
                    table.add_row(str(done), f"{minutes:.1f}", f"{mains:.0f}", each, str(files))
        CONSOLE.print(f"{count} clips of {LENGTH} frames; exit status {run.returncode}", table)


def clips_done(out: Path) -> int:
    """As the run's own record has it."""
    try:
        state = json_files.read_json(out / FOLDER / "1-of-1.json")
    except FileNotFoundError:
        return 0
    return int(state["done"])


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    try:
        lists = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return sorted(int(child) for text in lists for child in text.split())


def memory(pid: int) -> float:
    """Resident MB of a process; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def open_files(pid: int) -> int:
    """Of a process; 0 where it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def main() -> None:
    """Measure one of the two."""
    what: Many | Long = tyro.extras.subcommand_cli_from_dict(
        {"many": Many, "long": Long}, description=(__doc__ or "").splitlines()[0]
    )
    with tempfile.TemporaryDirectory(dir=what.folder) as folder:
        what.run(Path(folder))


if __name__ == "__main__":
    main()
