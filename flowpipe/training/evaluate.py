"""Testing: scores of clips from many snippets and crops of each.

TSN's test: 25 snippets at equal steps, of each the corners and the centre and their mirror images;
the scores before the softmax are averaged over the crops and go into the network's consensus over
the snippets, which is their average too unless the network was trained with another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowpipe.models.stream import StreamNetwork
from flowpipe.training.data.clips import Transform
from flowpipe.training.loading import START, init_worker
from flowpipe.training.optimisation import Precision
from flowpipe.training.precision import autocast


class RawClips(Protocol):
    """A data set of whole snippets, such as :class:`flowpipe.training.FlowClips`."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return (segments, C, H, W) of a clip, and its class."""


def score_clips(
    network: StreamNetwork,
    clips: RawClips,
    transform: Transform,
    *,
    device: torch.device | None = None,
    amp: Precision = "auto",
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
    amp
        With how many bits; see :func:`flowpipe.training.precision.trained_with`.
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
    network = network.to(device).channels_last().eval()
    loader = DataLoader(
        cast(Dataset[Any], clips),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        worker_init_fn=init_worker,
    )
    rows = []
    with torch.inference_mode():
        for snippets, _ in loader:
            score = _joint_scores if network.joins_segments else _mean_scores
            rows.append(score(network, snippets, transform, device, batch_size, amp).cpu().numpy())
            advance(1)
    return np.stack(rows).astype(np.float32)


def _mean_scores(
    network: StreamNetwork,
    snippets: Tensor,
    transform: Transform,
    device: torch.device,
    most: int,
    amp: Precision,
) -> Tensor:
    """Return the consensus of the snippets, each the mean over its crops: (classes,)."""
    nothing_random = torch.Generator()
    parts = []
    # The transform of one snippet tells the number of crops.
    crops = len(transform(snippets[:1], nothing_random))
    at_once = max(1, most // crops)
    for start in range(0, len(snippets), at_once):
        images = transform(snippets[start : start + at_once], nothing_random).to(device)
        with autocast(device, amp):
            scores, features = network.snippets(images)
        parts.append(
            [x.float().view(-1, crops, x.shape[1]).mean(dim=1) for x in (scores, features)]
        )
    scores, features = (torch.cat([part[index] for part in parts])[None] for index in (0, 1))
    combined: Tensor = network.consensus(scores, features)[0]
    return combined


def _joint_scores(
    network: StreamNetwork,
    snippets: Tensor,
    transform: Transform,
    device: torch.device,
    most: int,
    amp: Precision,
) -> Tensor:
    """Return the mean over the crops of scores of all snippets together: (classes,)."""
    images = transform(snippets, torch.Generator())
    views = images.unflatten(0, (len(snippets), -1)).transpose(0, 1)  # (crops, K, C, H, W)
    scores = []
    for batch in views.split(max(1, most // len(snippets))):
        with autocast(device, amp):
            scores.append(network(network.clips(batch.to(device))).float())
    return torch.cat(scores).mean(dim=0)
