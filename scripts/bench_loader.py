"""Time reading flow stacks from the layouts against training a network on them.

    python scripts/bench_loader.py FLOW [--segments 3] [--length 5] [--size 224]

FLOW is a folder of ``extract-flow``. Its clips are copied until there are 40, so that hardly any is
open already when its turn comes, and converted: ``zip``, loose files (``frames``), ``npy``
(float16), ``h5``, and the uint8 arrays of ``export-stacks``, which are read with ``numpy.load``.
All in one process of one thread, files in the page cache, in turns; ratios to ``zip`` are of the
same run. "KiB read" is what the process reads by system calls, a sample; what is mapped (``npy``,
stacks) is counted as the bytes of the fields. Training is forward and backward of a sample.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from flowpipe.flow.store import FlowReader, StoredClip, convert, stored_clips
from flowpipe.pipelines.stacks import export_stacks
from flowpipe.runner.pool import Workers
from flowpipe.training import FlowClips, train_transform
from flowpipe.training.data.export import StackExport

COPIES = 40
LAYOUTS = ("zip", "frames", "npy", "h5")
STACKS = "exported stacks"


@dataclass
class Options:
    """What to measure."""

    flow: tyro.conf.Positional[Path]
    """Folder of flow in the layout zip."""
    segments: int = 3
    """Snippets of a sample."""
    length: int = 5
    """Flow fields of a snippet."""
    size: int = 224
    """Side of the network's input, in pixels."""
    network: str = "resnet18"
    """A network of torchvision's, by name."""
    rounds: int = 5
    """Turns that each layout has; the median counts."""
    samples: int = 20
    """Samples of a turn."""


def prepared(options: Options, folder: Path) -> dict[str, Path]:
    """The clips in every layout."""
    clips = list(stored_clips(options.flow))
    roots: dict[str, Path] = {name: folder / name for name in LAYOUTS}
    for number in range(COPIES):
        clip = clips[number % len(clips)]
        copy = roots["zip"] / f"k/{number:02d}.zip"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, copy)
        for name in LAYOUTS[1:]:
            stored = StoredClip(roots["zip"], f"k/{number:02d}", "zip")
            convert(stored, roots[name], name, dtype="float16")
    roots[STACKS] = folder / "stacks"
    export_stacks(
        roots["zip"], roots[STACKS], StackExport(length=options.length), workers=Workers(0)
    )
    return roots


def from_stacks(root: Path, options: Options) -> Callable[[int], Tensor]:
    """A sample from exported stacks, as another project's loader would take it."""
    rng = np.random.default_rng(0)

    def sample(index: int) -> Tensor:
        stacks = np.load(root / f"k/{index:02d}.npy", mmap_mode="r")
        chosen = np.sort(rng.integers(len(stacks), size=options.segments))
        return torch.from_numpy(stacks[chosen])

    return sample


def from_layout(root: Path, options: Options) -> Callable[[int], Tensor]:
    """A sample of :class:`FlowClips`, untransformed."""
    clips = [(f"k/{number:02d}", 0) for number in range(COPIES)]
    data = FlowClips(root, clips, segments=options.segments, length=options.length)
    return lambda index: data[index][0]


def bytes_read() -> int:
    """By this process so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def milliseconds(function: Callable[[int], object], samples: int) -> float:
    begin = time.perf_counter()
    for index in range(samples):
        function(index % COPIES)
    return (time.perf_counter() - begin) / samples * 1e3


def training(options: Options) -> Callable[[int], object]:
    """One sample through the network and back."""
    network = torchvision.models.get_model(options.network, weights=None, num_classes=101)
    network.conv1 = torch.nn.Conv2d(2 * options.length, 64, 7, stride=2, padding=3, bias=False)
    batch = torch.randn(options.segments, 2 * options.length, options.size, options.size)

    def step(index: int) -> None:
        network(batch).mean(0).logsumexp(0).backward()

    return step


def main(options: Options) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        roots = prepared(options, Path(folder))
        read = {
            name: (from_stacks if name == STACKS else from_layout)(root, options)
            for name, root in roots.items()
        }
        transform = train_transform("flow", options.size)
        generator = torch.Generator().manual_seed(0)
        snippets = read["zip"](0)
        steps: dict[str, Callable[[int], object]] = {
            **read,
            "train_transform": lambda index: transform(snippets, generator),
            f"{options.network}, forward and backward": training(options),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        taken: dict[str, int] = {}
        for turn in range(options.rounds + 1):
            for name, step in steps.items():
                few = min(options.samples, 3) if name.endswith("backward") else options.samples
                before = bytes_read()
                took = milliseconds(step, few)
                taken[name] = (bytes_read() - before) // few
                if turn:  # the first warms up
                    times[name].append(took)
        with FlowReader(StoredClip(roots["zip"], "k/00", "zip")) as reader:
            shape = (options.segments * options.length, 2, reader.meta.height, reader.meta.width)
        fields = int(np.prod(shape))
        taken |= {"npy": 2 * fields, STACKS: fields}
        of_zip = statistics.median(times["zip"])
        table = Table(title=f"a sample of {options.segments} x {options.length} fields, one thread")
        for heading in ("", "ms", "clips/s", "zip = 1", "KiB read"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, turns in times.items():
            median = statistics.median(turns)
            kib = f"{taken[name] / 1024:.0f}" if name in read else ""
            row = (f"{median:.1f}", f"{1e3 / median:.1f}", f"{median / of_zip:.2f}", kib)
            table.add_row(name, *row)
        console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
