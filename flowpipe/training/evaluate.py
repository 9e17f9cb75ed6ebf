"""Testing: scores of clips from many snippets and crops of each.

TSN's test: 25 snippets at equal steps, of each the corners and the centre and their mirror images;
the scores before the softmax are averaged over the crops and go into the network's consensus over
the snippets, which is their average too unless the network was trained with another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowpipe.errors import ParameterError
from flowpipe.models.stream import StreamNetwork
from flowpipe.runner.json_files import Json
from flowpipe.training.data.clips import Transform
from flowpipe.training.train import START, autocast, begin_worker


@dataclass(frozen=True, slots=True)
class Testing:
    """How much of a clip is looked at."""

    __test__ = False  # no test of pytest's

    segments: int = 25
    """Snippets at equal steps."""
    crops: Literal[1, 10] = 10
    """10: corners, centre and their mirror images; 1: the centre."""

    def __post_init__(self) -> None:
        if self.segments < 1 or self.crops not in (1, 10):
            raise ParameterError(
                f"segments is {self.segments} and crops is {self.crops}; "
                "they must be 1 or more, and 1 or 10"
            )

    def description(self) -> Json:
        """Everything that determines the scores, besides the network and the clips."""
        return {"stage": "test-stream", **asdict(self)}


class RawClips(Protocol):
    """A data set of whole snippets, such as :class:`flowpipe.training.FlowClips`."""

    def __len__(self) -> int:
        """Number of clips."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(segments, C, H, W) of a clip, and its class."""


def score_clips(
    network: StreamNetwork,
    clips: RawClips,
    transform: Transform,
    *,
    device: torch.device | None = None,
    batch_size: int = 50,
    workers: int = 0,
    advance: Callable[[int], None] = lambda clips: None,
) -> NDArray[np.float32]:
    """Score clips with a trained network.

    Parameters
    ----------
    network
        Trained.
    clips
        Without a transform, so that what workers hand over are levels and not ten crops of them.
    transform
        Makes the crops of a snippet: (1, C, H, W) to (crops, C, h, w).
    device
        Where the network computes.
    batch_size
        Crops at a time, about.
    workers
        Processes that read.
    advance
        Told the number of clips that are done.

    Returns
    -------
    (n, classes) float32
        Before any softmax, of the classes of all data sets of the network.
    """
    device = device or torch.device("cpu")
    network = network.to(device).to(memory_format=torch.channels_last).eval()
    loader = DataLoader(
        cast(Dataset[Any], clips),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        worker_init_fn=begin_worker,
    )
    rows = []
    with torch.inference_mode():
        for snippets, _ in loader:
            scores, features = _snippets(network, snippets, transform, device, batch_size)
            rows.append(network.consensus(scores[None], features[None])[0].cpu().numpy())
            advance(1)
    return np.stack(rows).astype(np.float32)


def _snippets(
    network: StreamNetwork, snippets: Tensor, transform: Transform, device: torch.device, most: int
) -> tuple[Tensor, Tensor]:
    """(K, classes) and (K, F) of the snippets of a clip: means over their crops."""
    nothing_random = torch.Generator()
    parts = []
    # One snippet says how many crops there are.
    first = transform(snippets[:1], nothing_random)
    crops = len(first)
    at_once = max(1, most // crops)
    for start in range(0, len(snippets), at_once):
        images = transform(snippets[start : start + at_once], nothing_random).to(device)
        with autocast(device):
            scores, features = network.snippets(images)
        parts.append(
            [x.float().view(-1, crops, x.shape[1]).mean(dim=1) for x in (scores, features)]
        )
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
