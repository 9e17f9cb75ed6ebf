"""Compare networks with the same ones built plainly on torchvision: time, and memory at the most.

    python scripts/bench_models.py [NAME ...] [--batch 2] [--rounds 5] [--device cuda]

Each network of the table is run forward, as in tests, and forward and backward, as in training, in
turn with its plain peer, on the clips that its paper has. The peers are torchvision's own video
networks; its ResNet-50 on single frames with the mean of their scores (tsn); the same ResNet-50
with the shift of TSM written with a new tensor and three copies before the first convolution of
every block, as released programs have it (tsm); and, where Python can import them, pytorchvideo's
SlowFast and the I3D of pytorch-i3d (pytorch_i3d.py in a folder of PYTHONPATH). Peers keep
torchvision's memory format; flowpipe's networks have that of tests and training. Times are medians
of `rounds`; a ratio below 1 means that flowpipe is faster, or needs less. Memory is what a process,
or the GPU, needs for one step of training in addition to the weights and the clips; each is
measured in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.resnet3d import slow_frames
from flowpipe.models.stream import StreamNetwork

CLASSES = 400


class OnFrames(nn.Module):
    """A network on single frames, whose scores are averaged."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor) -> Tensor:
        """Return the mean scores: (B, C, T, H, W) to (B, classes)."""
        scores: Any = self.backbone(clips.transpose(1, 2).flatten(0, 1))
        mean: Tensor = scores.unflatten(0, (len(clips), -1)).mean(1)
        return mean


class CopyingShift(nn.Module):
    """TSM's shift before a convolution, by a new tensor and three copies."""

    def __init__(self, convolution: nn.Module, frames: int) -> None:
        super().__init__()
        self.convolution, self.frames = convolution, frames

    def forward(self, images: Tensor) -> Tensor:
        """Shift an eighth of the channels back and an eighth on: (B T, C, H, W)."""
        frames: Any = images
        clips: Tensor = frames.unflatten(0, (-1, self.frames))
        fold = clips.shape[2] // 8
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :fold] = clips[:, 1:, :fold]
        shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        shifted[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        scores: Tensor = self.convolution(shifted.flatten(0, 1))
        return scores


def plain_tsn(clip: ClipInput) -> nn.Module:
    return OnFrames(torchvision.models.resnet50(num_classes=CLASSES))


def plain_tsm(clip: ClipInput) -> nn.Module:
    backbone = torchvision.models.resnet50(num_classes=CLASSES)
    for block in backbone.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1 = CopyingShift(block.conv1, clip.segments)
    return OnFrames(backbone)


class TwoPathways(nn.Module):
    """pytorchvideo's SlowFast on the frames of its fast pathway."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Return the scores: (B, C, T, H, W) to (B, classes)."""
        slow = clips.index_select(2, slow_frames(clips.shape[2], 4))
        scores: Tensor = self.network([slow, clips])
        return scores


class OverTime(nn.Module):
    """pytorch-i3d's I3D, whose scores are averaged over time."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Return the mean scores: (B, C, T, H, W) to (B, classes)."""
        scores: Tensor = self.network(clips).mean(2)
        return scores


def pytorchvideo_slowfast(clip: ClipInput) -> nn.Module:
    slowfast: Any = import_module("pytorchvideo.models.slowfast")
    return TwoPathways(slowfast.create_slowfast(model_num_class=CLASSES))


def pytorch_i3d(clip: ClipInput) -> nn.Module:
    released: Any = import_module("pytorch_i3d")
    return OverTime(released.InceptionI3d(CLASSES))


def of_torchvision(name: str) -> Callable[[ClipInput], nn.Module]:
    def build(clip: ClipInput) -> nn.Module:
        network: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES)
        return network

    return build


PEERS: dict[str, Callable[[ClipInput], nn.Module]] = {
    "tsn": plain_tsn,
    "tsm": plain_tsm,
    "r3d-18": of_torchvision("r3d_18"),
    "mc3-18": of_torchvision("mc3_18"),
    "r2plus1d-18": of_torchvision("r2plus1d_18"),
    "s3d": of_torchvision("s3d"),
    "mvit-v2-s": of_torchvision("mvit_v2_s"),
    "swin3d-t": of_torchvision("swin3d_t"),
    "slowfast-r50-8x8": pytorchvideo_slowfast,
    "i3d": pytorch_i3d,
}
NEEDS = {"slowfast-r50-8x8": "pytorchvideo", "i3d": "pytorch_i3d"}
"""Modules that are not flowpipe's dependencies."""


def clip_of(name: str) -> ClipInput:
    return MODELS[name].suited(ClipInput("rgb", length=1))


def build(name: str, ours: bool, device: torch.device) -> nn.Module:
    """Return a network with random weights, flowpipe's or its peer."""
    torch.manual_seed(0)
    clip = clip_of(name)
    if not ours:
        return PEERS[name](clip).to(device)
    network = Network(name, backbone="resnet50", batch_norm="train", dropout=0.5)
    return StreamNetwork(network, clip, [CLASSES]).to(device)


def clips_of(name: str, batch: int, device: torch.device) -> Tensor:
    clip = clip_of(name)
    frames = clip.length if MODELS[name].takes == "frames" else clip.segments
    shape = (batch, 3, frames, clip.input_size, clip.input_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def lay_out(network: nn.Module) -> None:
    """Give flowpipe's networks the memory format that tests and training give them."""
    if isinstance(network, StreamNetwork):
        network.laid_out()


def settle(network: nn.Module, clips: Tensor) -> None:
    """Give normalisations the statistics of the clips.

    With those that they are made with, maps of random weights become so small from layer to layer
    that a processor computes them at a fraction of its speed.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
    network.train()
    with torch.no_grad():
        network(clips)


def forward(network: nn.Module, clips: Tensor) -> None:
    network.eval()
    with torch.inference_mode():
        network(clips)


def step(network: nn.Module, clips: Tensor) -> None:
    network.train()
    labels = torch.arange(len(clips), device=clips.device)
    loss: Any = nn.functional.cross_entropy(network(clips), labels)
    loss.backward()
    network.zero_grad(set_to_none=True)


def seconds(
    call: Callable[[nn.Module, Tensor], None],
    network: nn.Module,
    clips: Tensor,
    device: torch.device,
) -> float:
    start = time.perf_counter()
    call(network, clips)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def memory(name: str, ours: bool, batch: int, device: torch.device) -> float:
    """Return the MiB that a step of training takes, in this process."""
    network, clips = build(name, ours, device), clips_of(name, batch, device)
    lay_out(network)
    forward(network, clips[:1])  # what is allocated once
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step(network, clips)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # what is highest, is what is
    resting = resident("VmRSS")
    step(network, clips)
    return resident("VmHWM") - resting


def resident(field: str) -> float:
    """Return a field of this process's memory, in MiB; a process inherits getrusage's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if field in line)
    return int(line.split()[1]) / 2**10


def bench(name: str, batch: int, rounds: int, device: torch.device) -> str:
    """Return the line of a network."""
    clips = clips_of(name, batch, device)
    networks = {ours: build(name, ours, device) for ours in (True, False)}
    lay_out(networks[True])
    cells = [f"{name:16s} {'x'.join(map(str, clips.shape[1:])):>16s}"]
    for network in networks.values():
        settle(network, clips)
    for call in (forward, step):
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds + 1):
            for ours, network in networks.items():
                taken = seconds(call, network, clips, device)
                if number:  # the first warms up
                    times[ours].append(taken)
        own, peer = (statistics.median(times[ours]) / batch * 1e3 for ours in (True, False))
        cells.append(f"{own:9.1f} {peer:9.1f} {own / peer:6.2f}")
    del networks
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        own, peer = (pool.apply(memory, (name, ours, batch, device)) for ours in (True, False))
    cells.append(f"{own:8.0f} {peer:8.0f} {own / peer:6.2f}")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PEERS)}")
    parser.add_argument("--batch", type=int, default=2, help="clips at a time (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="times each is run (default: 5)")
    parser.add_argument("--device", default="cpu", help="device of torch (default: cpu)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PEERS):
        parser.error(f"{', '.join(sorted(unknown))}: no plain network is known for it")
    lacking = {name: module for name, module in NEEDS.items() if not find_spec(module)}
    for name in lacking.keys() & set(options.names):
        parser.error(f"{name}: Python cannot import {lacking[name]}")
    names = options.names or [name for name in PEERS if name not in lacking]
    device = torch.device(options.device)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device}", end=", ")
    print(f"{torch.get_num_threads()} threads, batches of {options.batch}")
    print("milliseconds a clip: flowpipe, plain, ratio; MiB of a training step in addition")
    print(f"{'network':16s} {'clip':>16s}  {'forward':>26s}  {'forward and backward':>26s}  memory")
    for name in names:
        print(bench(name, options.batch, options.rounds, device), flush=True)


if __name__ == "__main__":
    main()
