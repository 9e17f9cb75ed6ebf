"""Score clips with heads on stored maps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.models.probe_network import ProbeNetwork
from flowpipe.training.data.stored_maps import MapClips
from flowpipe.training.features.network import exact


def score_maps(
    network: ProbeNetwork, clips: MapClips, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Score clips with a trained head, each by itself.

    Parameters
    ----------
    network
        Trained.
    clips
        Not random; those of each time that all parts are sampled follow each other.
    device
        Where the head computes.

    Returns
    -------
    (n, classes) float32
        Before the softmax, averaged over the times.
    """
    return np.stack([score_views(network, clips[index][0], device) for index in range(len(clips))])


def score_views(
    network: ProbeNetwork, maps: Tensor, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Score a clip.

    Parameters
    ----------
    network
        Trained.
    maps
        (V T, numbers), what is stored of T frames, V times.
    device
        Where the head computes.

    Returns
    -------
    (classes,) float32
    """
    device = device or torch.device("cpu")
    network = network.to(device).eval()
    views = maps.unflatten(0, (-1, network.probe.frames))
    with torch.inference_mode(), exact(device):
        scores = [network(network.clips(view[None].to(device))) for view in views]
        mean: NDArray[np.float32] = torch.cat(scores).mean(dim=0).cpu().numpy()
    return mean
