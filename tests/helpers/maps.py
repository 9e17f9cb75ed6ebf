"""Maps without a video, for the tests of what is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flowpipe.datasets.base import Dataset
from flowpipe.runner.provenance import open_stage
from flowpipe.training.features.layouts import files_of, write_record
from flowpipe.training.features.map_files import MapWriter
from flowpipe.training.features.maps import keep_network
from tests.helpers.nets import small_network


def write_maps(
    folder: Path,
    maps: Mapping[str, np.ndarray],
    *,
    source: dict | None = None,
    seed: int = 0,
    **said: object,
) -> Path:
    """Write maps of clips, (T, H, W, C) each, as of a network with weights of a seed."""
    described = {"model": "tsn", "clip": {"modality": "rgb"}, "weights": f"sha256 {seed}"}
    what = {"tokens": said["tokens"]} if "tokens" in said else {"maps": "layer3"}
    stage = {"stage": "features", **what, "short_side": None, "stride": 1}
    open_stage(folder, {**stage, "network": described, "source": source})
    keep_network(folder, small_network(channels=3, seed=seed), described)
    for name, array in maps.items():
        files = files_of("npy", folder, name, "rgb")
        with MapWriter(files.features, folder) as writer:
            writer.append(array)
            writer.finish()
        about = {"clip": name, "key": f"{name} {float(array.sum())}", **what, **said}
        write_record(files, about, folder)
    return folder


def telling_maps(
    dataset: Dataset, shape: tuple[int, ...] = (3, 4, 8), *, by_time: bool = False
) -> dict[str, np.ndarray]:
    """Maps of 12 to 14 frames that tell the classes apart.

    By their channels, or, `by_time`, by whether one of them rises or falls: the mean is the same.
    """
    rng = np.random.default_rng(0)
    made = {}
    for number, clip in enumerate(dataset.clips):
        count, label = 12 + number % 3, dataset.classes.index(clip.label)
        maps = rng.normal(size=(count, *shape)).astype(np.float32)
        if by_time:
            course = np.linspace(-3, 3, count) * (1 if label else -1)
            maps[..., 0] += course[:, None, None]
        else:
            maps[..., label] += 2
        made[clip.name] = maps
    return made
