"""Testing: scores of clips from many snippets and crops of each.

TSN's test: 25 snippets at equal steps, of each the corners and the centre and their mirror images;
the scores before the softmax are averaged over the crops and go into the network's consensus over
the snippets, which is their average too unless the network was trained with another. SlowFast's: 10
clips of 3 crops, whose probabilities are averaged. The scores then are the logarithms of the
averages, of which the softmax makes the averages again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowpipe.models.stream import StreamNetwork
from flowpipe.training.data.views import Transform
from flowpipe.training.loading import START, init_worker
from flowpipe.training.optimisation import Precision
from flowpipe.training.precision import autocast
from flowpipe.training.testing import Average


class RawClips(Protocol):
    """A data set of whole snippets, such as :class:`flowpipe.training.FlowClips`."""

    def __len__(self) -> int:
        """Return the number of clips."""

    def __getitem__(self, index: int) -> tuple[Tensor | Iterator[Tensor], int]:
        """Return (segments, C, H, W) of a clip, or parts of it in turn, and its class."""


def score_clips(
    network: StreamNetwork,
    clips: RawClips,
    transform: Transform,
    *,
    average: Average = "scores",
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
        Of a network that relates segments, those of each of its views in turn.
    transform
        Makes the crops of a snippet: (1, C, H, W) to (crops, C, h, w).
    average
        What is averaged over the views: scores before the softmax, or probabilities.
    device
        Where the network computes.
    amp
        With how many bits; see :func:`flowpipe.training.precision.trained_with`.
    batch_size
        Images at a time, about: crops of snippets, or of frames where the network is 3-D.
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
    network = network.to(device).laid_out().eval()
    loader = DataLoader(
        cast(Dataset[Any], clips),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=START if workers else None,
        worker_init_fn=init_worker,
    )
    scoring = _Scoring(network, transform, device, amp, batch_size, average)
    score = scoring.of_segments if network.joins_segments else scoring.of_snippets
    rows = []
    with torch.inference_mode():
        for snippets, _ in loader:
            rows.append(score(snippets).cpu().numpy())
            advance(1)
    return np.stack(rows).astype(np.float32)


@dataclass(frozen=True)
class _Scoring:
    """Scores of the snippets of a clip, (n, C, H, W) or parts of them: -> (classes,)."""

    network: StreamNetwork
    transform: Transform
    device: torch.device
    amp: Precision
    most: int
    average: Average

    def of_snippets(self, snippets: Tensor | Iterator[Tensor]) -> Tensor:
        """Return the consensus of the snippets, each the mean over its crops."""
        network = self.network
        scores: list[Tensor] = []
        features: list[Tensor] = []
        for snippet in _parts(snippets, 1):
            consecutive = network.takes == "frames"
            frames = snippet.shape[1] // network.clip.channels_per_frame if consecutive else 1
            images = self._images(snippet)
            crops = len(images)
            for batch in images.split(max(1, self.most // frames)):
                with autocast(self.device, self.amp):
                    parts = network.snippets(batch.to(self.device))
                scores.append(parts[0].float())
                features.append(parts[1].float())
        if self.average == "probabilities":
            return self._mean(torch.cat(scores))
        means = [torch.cat(each).view(-1, crops, each[0].shape[1]) for each in (scores, features)]
        combined: Tensor = network.consensus(*(each.mean(dim=1)[None] for each in means))[0]
        return combined

    def of_segments(self, snippets: Tensor | Iterator[Tensor]) -> Tensor:
        """Return the mean over the views of scores of all segments together."""
        network, segments = self.network, self.network.clip.segments
        scores = []
        for clip in _parts(snippets, segments):
            views = self._images(clip).unflatten(0, (segments, -1)).transpose(0, 1)
            for batch in views.split(max(1, self.most // segments)):  # of (crops, K, C, H, W)
                with autocast(self.device, self.amp):
                    scores.append(network(network.clips(batch.to(self.device))).float())
        return self._mean(torch.cat(scores))

    def _images(self, snippets: Tensor) -> Tensor:
        return self.transform(snippets, torch.Generator())  # nothing in it is random

    def _mean(self, scores: Tensor) -> Tensor:
        """Return the average of (views, classes) scores, or the logarithm of that of probabilities.

        Each data set of the network has probabilities of its own.
        """
        if self.average == "scores":
            return scores.mean(dim=0)
        sets = scores.split(list(self.network.classes), dim=1)
        return torch.cat([each.log_softmax(1).logsumexp(0) for each in sets]) - math.log(
            len(scores)
        )


def _parts(snippets: Tensor | Iterator[Tensor], size: int) -> Iterator[Tensor]:
    return iter(snippets.split(size)) if isinstance(snippets, Tensor) else snippets
