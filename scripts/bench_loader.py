"""Time reading training samples against tsn-pytorch's loader, and against training on them.

    python scripts/bench_loader.py FLOW [--tsn-pytorch FOLDER] [--segments 3] [--length 5]

FLOW is a folder of ``extract-flow``. Its clips are copied until there are 40, so that hardly any is
open already when its turn comes, and converted: ``zip``, loose files (``frames``), ``npy``
(float16), ``h5``, and the uint8 arrays of ``export-stacks``, which are read with ``numpy.load``.
FOLDER is a checkout of https://github.com/yjxiong/tsn-pytorch: its ``dataset.py`` and
``transforms.py`` read the loose files, as its ``main.py`` has them do for training. Without FOLDER
their steps are timed as they are written here.

Processor time of one process of one thread, files in the page cache, in turns; ratios are of the
same run. "Whole" samples are the stored levels; "training" samples are crops of ``--size`` pixels,
as 8-bit levels for FlowClips and floats for tsn-pytorch. "KiB read" is what the process reads by
system calls, a whole sample; what is mapped (``npy``, stacks) is counted as the bytes of the
fields. Frames are timed too if they are stored. Training is forward and backward of a sample.
"""

from __future__ import annotations

import random
import runpy
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
import tyro
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from torch import Tensor

from flowpipe.flow.store import FlowReader, StoredClip, convert, stored_clips
from flowpipe.models.clip_input import Modality
from flowpipe.pipelines.stacks import export_stacks
from flowpipe.runner.pool import Workers
from flowpipe.training import FlowClips, FrameClips, train_transform
from flowpipe.training.data.export import StackExport
from flowpipe.training.data.transforms import normalisation

COPIES = 40
LAYOUTS = ("zip", "frames", "npy", "h5")
STACKS = "exported stacks"
CLIPS = [(f"k/{number:02d}", 0) for number in range(COPIES)]
SCALES = {"flow": [1, 0.875, 0.75], "rgb": [1, 0.875, 0.75, 0.66]}

Sample = Callable[[int], Any]


@dataclass
class Options:
    """What to measure."""

    flow: tyro.conf.Positional[Path]
    """Folder of flow in the layout zip."""
    tsn_pytorch: Path | None = None
    """Checkout of tsn-pytorch, whose loader is timed."""
    segments: int = 3
    """Snippets of a sample."""
    length: int = 5
    """Flow fields of a snippet."""
    size: int = 224
    """Side of the network's input, in pixels."""
    network: str = "resnet18"
    """A network of torchvision's, by name."""
    rounds: int = 5
    """Turns that each has; the median counts."""
    samples: int = 20
    """Samples of a turn."""


def prepared(options: Options, folder: Path) -> dict[str, Path]:
    """The clips in every layout."""
    clips = list(stored_clips(options.flow))
    roots: dict[str, Path] = {name: folder / name for name in LAYOUTS}
    for number, (clip_name, _) in enumerate(CLIPS):
        clip = clips[number % len(clips)]
        copy = roots["zip"] / f"{clip_name}.zip"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, copy)
        for name in LAYOUTS[1:]:
            stored = StoredClip(roots["zip"], clip_name, "zip")
            convert(stored, roots[name], name, dtype="float16")
    roots[STACKS] = folder / "stacks"
    export_stacks(
        roots["zip"], roots[STACKS], StackExport(length=options.length), workers=Workers(0)
    )
    return roots


def from_stacks(root: Path, options: Options, transform: Any) -> Sample:
    """A sample from exported stacks, as another project's loader would take it."""
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)

    def sample(index: int) -> Tensor:
        stacks = np.load(root / f"k/{index:02d}.npy", mmap_mode="r")
        chosen = np.sort(rng.integers(len(stacks), size=options.segments))
        levels = torch.from_numpy(stacks[chosen])
        return transform(levels, generator) if transform else levels

    return sample


def in_epochs(data: FlowClips | FrameClips) -> Sample:
    """Samples of a data set, which are drawn again when its clips come again."""
    count = 0

    def sample(index: int) -> Tensor:
        nonlocal count
        data.set_epoch(count // COPIES)
        count += 1
        return data[index][0]

    return sample


def from_layout(root: Path, options: Options, transform: Any) -> Sample:
    """A sample of :class:`FlowClips`."""
    segments, length = options.segments, options.length
    return in_epochs(FlowClips(root, CLIPS, segments=segments, length=length, transform=transform))


def from_frames(root: Path, options: Options, transform: Any) -> Sample:
    """A sample of :class:`FrameClips`."""
    return in_epochs(FrameClips(root, CLIPS, segments=options.segments, transform=transform))


def of_tsn(root: Path, options: Options, modality: Modality) -> Sample:
    """A training sample of tsn-pytorch: what its ``main.py`` puts together."""
    lines = []
    for name, _ in CLIPS:
        with FlowReader(StoredClip(root, name, "frames")) as reader:
            lines.append(f"{root / name} {len(reader)} 0")
    listed = root.parent / "list.txt"
    listed.write_text("\n".join(lines) + "\n")
    assert options.tsn_pytorch is not None
    theirs = SimpleNamespace(**runpy.run_path(str(options.tsn_pytorch / "transforms.py")))
    data_set = runpy.run_path(str(options.tsn_pytorch / "dataset.py"))["TSNDataSet"]
    is_flow = modality == "flow"
    mean, std = normalisation("rgb").mean, normalisation("rgb").std
    steps = [
        theirs.GroupMultiScaleCrop(options.size, SCALES[modality]),
        theirs.GroupRandomHorizontalFlip(is_flow=is_flow),
        theirs.Stack(),
        theirs.ToTorchFormatTensor(),
        theirs.GroupNormalize(
            [0.5] if is_flow else [value / 255 for value in mean],
            [0.226] if is_flow else [value / 255 for value in std],
        ),
    ]
    data = data_set(
        "",
        str(listed),
        num_segments=options.segments,
        new_length=options.length if is_flow else 1,
        modality="Flow" if is_flow else "RGB",
        image_tmpl="flow_{}_{:05d}.jpg" if is_flow else "img_{:05d}.jpg",
        transform=torchvision.transforms.Compose(steps),
    )
    return lambda index: data[index]


def as_tsn(root: Path, options: Options, modality: Modality) -> Sample:
    """The steps of a training sample of tsn-pytorch: Pillow, plane by plane, then floats."""
    is_flow = modality == "flow"
    length = options.length if is_flow else 1
    lengths = []
    for name, _ in CLIPS:
        with FlowReader(StoredClip(root, name, "frames")) as reader:
            lengths.append(len(reader))
    rgb = normalisation("rgb")
    mean = [0.5] if is_flow else [value / 255 for value in rgb.mean]
    std = [0.226] if is_flow else [value / 255 for value in rgb.std]

    def sample(index: int) -> Tensor:
        clip, images = root / CLIPS[index][0], []
        part = (lengths[index] - length + 1) // options.segments
        for segment in range(options.segments):
            start = 1 + segment * part + random.randrange(part)
            for number in range(start, start + length):
                if is_flow:
                    for axis in "xy":
                        path = clip / f"flow_{axis}_{number:05d}.jpg"
                        images.append(Image.open(path).convert("L"))
                else:
                    images.append(Image.open(clip / f"img_{number:05d}.jpg").convert("RGB"))
        wide, high = images[0].size
        sides = [int(min(wide, high) * scale) for scale in SCALES[modality]]
        first = random.randrange(len(sides))
        second = random.choice([k for k in range(len(sides)) if abs(k - first) <= 1])
        left = random.randrange(5) * ((wide - sides[first]) // 4)
        top = random.randrange(5) * ((high - sides[second]) // 4)
        box = (left, top, left + sides[first], top + sides[second])
        size = (options.size, options.size)
        images = [image.crop(box).resize(size, Image.Resampling.BILINEAR) for image in images]
        if random.random() < 0.5:
            images = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
            if is_flow:
                images[::2] = [ImageOps.invert(image) for image in images[::2]]
        arrays = [np.asarray(image).reshape(*size, -1) for image in images]
        stack = torch.from_numpy(np.concatenate(arrays, axis=2)).permute(2, 0, 1).contiguous()
        floats = stack.float().div(255)
        for plane, m, s in zip(floats, mean * len(images), std * len(images), strict=True):
            plane.sub_(m).div_(s)
        return floats

    return sample


def training(options: Options) -> Sample:
    """One sample through the network and back."""
    network = torchvision.models.get_model(options.network, weights=None, num_classes=101)
    network.conv1 = torch.nn.Conv2d(2 * options.length, 64, 7, stride=2, padding=3, bias=False)
    batch = torch.randn(options.segments, 2 * options.length, options.size, options.size)

    def step(index: int) -> None:
        network(batch).mean(0).logsumexp(0).backward()

    return step


def bytes_read() -> int:
    """By this process so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def milliseconds(function: Sample, samples: int) -> float:
    begin = time.process_time()
    for index in range(samples):
        function(index % COPIES)
    return (time.process_time() - begin) / samples * 1e3


def all_steps(options: Options, roots: dict[str, Path]) -> dict[tuple[str, str], Sample]:
    """What is timed, by name and kind of sample."""
    levels = train_transform("flow", options.size, normalise=False)
    theirs = of_tsn if options.tsn_pytorch else as_tsn
    named = "tsn-pytorch" if options.tsn_pytorch else "tsn-pytorch's steps"
    steps: dict[tuple[str, str], Sample] = {}
    for name, root in roots.items():
        take = from_stacks if name == STACKS else from_layout
        steps[name, "whole"] = take(root, options, None)
        steps[name, "training"] = take(root, options, levels)
    floats = train_transform("flow", options.size)
    steps["zip, normalised by the worker", "training"] = from_layout(roots["zip"], options, floats)
    steps[named, "training"] = theirs(roots["frames"], options, "flow")
    with FlowReader(StoredClip(roots["zip"], CLIPS[0][0], "zip")) as reader:
        has_frames = reader.meta.n_images > 0
    if has_frames:
        levels = train_transform("rgb", options.size, normalise=False)
        steps["zip, RGB", "whole"] = from_frames(roots["zip"], options, None)
        steps["zip, RGB", "training"] = from_frames(roots["zip"], options, levels)
        steps[f"{named}, RGB", "training"] = theirs(roots["frames"], options, "rgb")
    steps[f"{options.network}, forward and backward", "training"] = training(options)
    return steps


def measured(
    options: Options, steps: dict[tuple[str, str], Sample]
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Return milliseconds by name and kind of sample, and KiB of a whole sample by name."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    taken = {}
    for turn in range(options.rounds + 1):
        for (name, kind), step in steps.items():
            few = min(options.samples, 3) if name.endswith("backward") else options.samples
            before = bytes_read()
            took = milliseconds(step, few)
            if kind == "whole":
                taken[name] = (bytes_read() - before) / few / 1024
            if turn:  # the first warms up, and compiles
                times[name, kind].append(took)
    return {key: statistics.median(turns) for key, turns in times.items()}, taken


def main(options: Options) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        roots = prepared(options, Path(folder))
        steps = all_steps(options, roots)
        times, taken = measured(options, steps)
        with FlowReader(StoredClip(roots["zip"], CLIPS[0][0], "zip")) as reader:
            shape = (options.segments * options.length, 2, reader.meta.height, reader.meta.width)
    fields = float(np.prod(shape)) / 1024
    taken |= {"npy": 2 * fields, STACKS: fields}
    title = f"a sample of {options.segments} x {options.length} fields of {shape[3]}x{shape[2]}"
    table = Table(title=f"{title}, {options.size} pixels, one thread")
    for heading in ("", "whole, ms", "training, ms", "samples/s", "tsn-pytorch = 1", "KiB read"):
        table.add_column(heading, justify="left" if not heading else "right")
    theirs = {", RGB" in name: key for key in times if (name := key[0]).startswith("tsn-pytorch")}
    for name in dict.fromkeys(name for name, _ in times):
        whole, own = times.get((name, "whole")), times[name, "training"]
        ratio = times[theirs[", RGB" in name]] / own
        cells = [f"{whole:.2f}" if whole else "", f"{own:.2f}", f"{1e3 / own:.0f}"]
        kib = f"{taken[name]:.0f}" if name in taken else ""
        table.add_row(name, *cells, "" if name.endswith("backward") else f"{ratio:.2f}x", kib)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
