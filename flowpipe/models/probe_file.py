"""The file of a head on stored maps."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from flowpipe.models.described import read_described, reading, save_described
from flowpipe.models.probe_network import ProbeNetwork
from flowpipe.models.probes import Probe, StoredShape
from flowpipe.runner.json_files import Json

FORMAT = "flowpipe probe 1"
_MOST_NUMBERS, _MOST_PLACES, _MOST_BLOCKS = 1 << 28, 1 << 12, 1000
"""What may be stored of a frame, so that a file of a stranger asks for no more memory."""


def save_probe(path: Path, network: ProbeNetwork, about: Json, root: Path) -> None:
    """Write a head and what is to be known of it atomically, as safetensors.

    Parameters
    ----------
    path
        The file.
    network
        Its weights, its options and what is stored of a frame are written.
    about
        JSON, returned by :func:`load_probe`.
    root
        Output folder, for the atomic write.
    """
    description = {
        "format": FORMAT,
        "probe": asdict(network.probe),
        "shapes": [asdict(shape) for shape in network.shapes],
        "classes": network.classes[0],
        "about": about,
    }
    save_described(path, network.state_dict(), description, root)


def load_probe(path: Path) -> tuple[ProbeNetwork, Json]:
    """Read what :func:`save_probe` wrote.

    Raises
    ------
    FormatError
        It does not exist, is not such a file, or does not fit together.
    """
    with reading(path, "head on stored maps"):
        state, description = read_described(path, FORMAT)
        shapes = [_shape(each) for each in description["shapes"]]
        probe, classes = Probe(**description["probe"]), int(description["classes"])
        with torch.device("meta"):  # takes no memory, whatever the file says
            expected = ProbeNetwork(probe, shapes, classes).state_dict()
        if {name: each.shape for name, each in state.items()} != {
            name: each.shape for name, each in expected.items()
        }:
            raise ValueError("its weights are not those of the head that it describes")
        network = ProbeNetwork(probe, shapes, classes)
        network.load_state_dict(state)
    about: Json = description["about"]
    return network, about


def _shape(stored: Any) -> StoredShape:
    shape, grid = tuple(stored["shape"]), tuple(stored["grid"])
    blocks, heads = stored["blocks"], stored["heads"]
    numbers = [*shape, *grid, heads]
    if len(shape) != 3 or len(grid) != 2 or not all(type(each) is int for each in numbers):
        raise ValueError(f"what is stored of a frame is {stored!r}")
    if min(numbers) < 1 or type(blocks) is not int or blocks < 0:
        raise ValueError(f"what is stored of a frame is {stored!r}")
    places = grid[0] * grid[1]
    wanted = (3 * blocks, 1 + places) if blocks else grid
    if shape[:2] != wanted or blocks > _MOST_BLOCKS or places > _MOST_PLACES:
        raise ValueError(f"what is stored of a frame is {stored!r}")
    if shape[0] * shape[1] * shape[2] > _MOST_NUMBERS:
        raise ValueError(f"what is stored of a frame is too large: {shape}")
    return StoredShape(shape, grid, blocks, heads)
