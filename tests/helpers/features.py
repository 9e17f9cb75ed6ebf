"""Small networks on small clips, and what a test computes of them by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.entry import PYSLOWFAST, Model
from flowpipe.models.i3d import I3D
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.timesformer import TimeSformer
from flowpipe.models.weights import save_model
from tests.helpers.clips import frames, smooth_flow, store_clip
from tests.helpers.nets import SMALLEST

SIZE = (48, 32)
INPUT = 28
"""7/8 of the short side: frames are cropped and not scaled."""
IMAGENET = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def save_network(root: Path, model: str = "tsn", about: dict | None = None, **seen) -> Path:
    """Write a network with random weights, as train does; return its folder."""
    backbones = {"tsn": SMALLEST, "tsm": "mobilenet_v2"}
    backbone = {"backbone": backbones[model]} if model in backbones else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StreamNetwork(
            Network(model, batch_norm="train", **backbone), ClipInput(input_size=INPUT, **seen), [3]
        )
    folder = root / f"net-{model}-{seen.get('modality', 'flow')}"
    save_model(folder / "model.safetensors", network.eval(), about or {}, root)
    return folder


def save_vit(root: Path, monkeypatch) -> tuple[Path, StreamNetwork]:
    """Write a small vision transformer on frames of 32 pixels; return its folder and itself."""

    def build(clip: ClipInput) -> TimeSformer:
        sizes = {"width": 24, "depth": 2, "heads": 2}
        return TimeSformer(clip.channels, 1, size=clip.input_size, attention="space", **sizes)

    entry = Model(build, "segments", "", "", normalisation=PYSLOWFAST, fixed_size=True)
    return _save_new(root, monkeypatch, "small-vit", entry, ClipInput("rgb", 2, 1, 32))


def save_i3d(root: Path, monkeypatch) -> tuple[Path, StreamNetwork]:
    """Write a narrow I3D on 8 frames of 32 pixels; return its folder and itself."""
    normalisation = ((127.5,) * 3, (127.5,) * 3)
    entry = Model(
        lambda clip: I3D(3, 1, width=1 / 16), "frames", "", "", normalisation=normalisation
    )
    return _save_new(root, monkeypatch, "small-i3d", entry, ClipInput("rgb", 1, 8, 32))


def _save_new(
    root: Path, monkeypatch, name: str, entry: Model, seen: ClipInput
) -> tuple[Path, StreamNetwork]:
    monkeypatch.setitem(MODELS, name, entry)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StreamNetwork(Network(name, batch_norm="train"), seen, [3]).eval()
    save_model(root / f"net-{name}/model.safetensors", network, {}, root)
    return root / f"net-{name}", network


def store_flow(root: Path, lengths: dict[str, int], **options) -> Path:
    """Write clips of smooth flow with their frames; return their folder."""
    for seed, (name, n) in enumerate(lengths.items()):
        images = frames(n + 1, SIZE, seed)
        flow = smooth_flow(n, SIZE, seed=seed)
        store_clip(root / "flow", "zip", flow, clip=name, images=images, **options)
    return root / "flow"


def reader_of(flow: Path, name: str) -> FlowReader:
    return FlowReader(next(clip for clip in stored_clips(flow) if clip.name == name))


def levels_of(flow: Path, name: str) -> np.ndarray:
    """(N, 2, H, W) levels of stored flow."""
    with reader_of(flow, name) as reader:
        return np.stack([reader.levels(index) for index in range(len(reader))])


def images_of(flow: Path, name: str) -> np.ndarray:
    """(N, 3, H, W) RGB levels of stored frames."""
    with reader_of(flow, name) as reader:
        images = [reader.image(index)[..., ::-1] for index in range(reader.meta.n_images)]
    return np.stack(images).transpose(0, 3, 1, 2)


def centre(levels: np.ndarray) -> np.ndarray:
    """The centre of frames of 48 x 32, 28 pixels wide and high."""
    return levels[..., 2:30, 10:38].astype(np.float32)
