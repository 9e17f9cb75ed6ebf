"""Videos with labelled intervals, their flow and features, and detectors on these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import flowpipe
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.pipelines.features import _of_network
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import open_stage
from flowpipe.training.detection.parameters import DetectorTraining
from flowpipe.training.features.layouts import files_of, write_features
from flowpipe.training.features.sources import TrainedNetwork
from flowpipe.training.features.stage import FeatureStage
from tests.helpers import media
from tests.helpers.live import random_network

SIZE = (64, 48)
STAGE = FlowStage(parameters=Tvl1.fast(), size=SIZE, frames=True)
SMALL = DetectorTraining(
    steps=6, future=3, width=16, depth=1, decoder_depth=1, epochs=2, batch_size=8, lr=1e-3
)
CLASSES = ("left", "right")


@dataclass(frozen=True)
class Recordings:
    """A set of videos with everything that a detector needs.

    Attributes
    ----------
    root
        The folder of all.
    videos, flow
        The videos with their intervals, and their flow.
    networks, features
        Networks by what they see, and their features.
    """

    root: Path
    videos: Path
    flow: Path
    networks: dict[str, Path]
    features: dict[str, Path]


def record(
    root: Path,
    lengths: Sequence[int] = (24, 18, 21),
    stride: int = 3,
    stage: FlowStage = STAGE,
) -> Recordings:
    """Write videos in which a texture moves to the right, rests, and moves to the left."""
    rows = ["path,start,end,label,group"]
    for number, length in enumerate(lengths):
        third = length // 3
        right = media.moving(third, seed=number)
        left = media.moving(length - 2 * third, dx=-2, seed=number)
        images = [*right, *[right[-1]] * third, *left]
        media.write(root / "videos" / f"v{number}.avi", images)
        ends = (0.0, third / 25, 2 * third / 25, length / 25)
        rows.append(f"v{number}.avi,{ends[0]},{ends[1]},right,g{number}")
        rows.append(f"v{number}.avi,{ends[2]},{ends[3]},left,g{number}")
    (root / "videos" / "intervals.csv").write_text("\n".join(rows) + "\n")
    flow = root / "flow"
    flowpipe.extract_flow(root / "videos", flow, stage, workers=1)
    networks, features = {}, {}
    for modality, length in (("flow", 4), ("rgb", 1)):
        networks[modality] = root / f"net-{modality}"
        random_network(networks[modality], modality, length=length, segments=1, stage=stage)
        features[modality] = root / f"features-{modality}"
        compute_features(flow, features[modality], networks[modality], stride)
    return Recordings(root, root / "videos", flow, networks, features)


def compute_features(flow: Path, out: Path, network: Path, stride: int) -> None:
    """Do what ``features`` does, in this process: another one would import torch first."""
    origin = TrainedNetwork(network / "model.safetensors")
    window = FeatureStage(stride=stride)
    task = _of_network(flow, out, origin, window, "cpu", Workers(), overwrite=False)
    open_stage(out, task.description)
    for clip in task.clips:
        task.work(clip, lambda units: None)


def store_features(
    out: Path,
    features: dict[str, np.ndarray],
    *,
    frames: dict[str, int] | None = None,
    length: int = 1,
    stride: int = 1,
    fps: float = 10.0,
    changes: dict | None = None,
) -> Path:
    """Write arrays as ``features`` does, of frames, with a network that does not exist."""
    stage = {
        "stage": "features",
        "length": length,
        "stride": stride,
        "layout": "npy",
        "crops": 1,
        "network": {"model": "tsn", "clip": {"modality": "rgb"}, "weights": "none"},
        "source": None,
        **(changes or {}),
    }
    open_stage(out, stage)
    for name, array in features.items():
        files = files_of("npy", out, name, "rgb")
        about = {
            "clip": name,
            "modality": "rgb",
            "length": length,
            "stride": stride,
            "frames": (frames or {}).get(name, length + stride * (len(array) - 1)),
            "fps": fps,
        }
        write_features(files, {files.features: array.astype(np.float32)}, about, out)
    return out
