"""Small networks on small clips, and what a test computes of them by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
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
