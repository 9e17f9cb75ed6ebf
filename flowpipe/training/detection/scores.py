"""Scores of the present, of all steps of a video, or of one after the other as they come."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.errors import FormatError
from flowpipe.training.detection.files import TrainedDetector
from flowpipe.training.detection.windows import window_rows

_BATCH = 128


def step_scores(
    detector: TrainedDetector,
    features: NDArray[np.float32],
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Return the scores of every step of a video, each of the window that ends there.

    Parameters
    ----------
    detector
        Trained.
    features
        (T, F) of the video.
    device
        Where the detector computes.

    Returns
    -------
    (T, classes + 1) float32
        Probabilities, the background last.

    Raises
    ------
    FormatError
        Features have another size than those of the training.
    """
    _check(detector, features.shape[1])
    device = device or torch.device("cpu")
    network = detector.network.to(device).eval()
    rows, whole = [], torch.from_numpy(np.ascontiguousarray(features))
    with torch.inference_mode():
        for first in range(0, len(features), _BATCH):
            present = np.arange(first, min(first + _BATCH, len(features)))
            windows = whole[window_rows(present, detector.steps)]
            rows.append(network(windows.to(device)).now.float().softmax(dim=1).cpu().numpy())
    scores: NDArray[np.float32] = np.concatenate(rows)
    if not np.isfinite(scores).all():
        raise FormatError(f"{str(detector.path)!r} gives scores that are not finite")
    return scores


class StepScorer:
    """Score one step after the other.

    Parameters
    ----------
    detector
        Trained.
    device
        Where the detector computes.
    """

    def __init__(self, detector: TrainedDetector, device: torch.device | None = None) -> None:
        self._detector = detector
        self._device = device or torch.device("cpu")
        self._network = detector.network.to(self._device).eval()
        self._last: deque[NDArray[np.float32]] = deque(maxlen=detector.steps)

    def restart(self) -> None:
        """Forget the steps: the next one is the first of another video."""
        self._last.clear()

    def add(self, feature: NDArray[np.float32]) -> None:
        """Add the feature (F,) of the next step."""
        _check(self._detector, len(feature))
        if not self._last:  # what lies before the first step is that step
            self._last.extend([feature] * self._detector.steps)
        else:
            self._last.append(feature)

    def window(self) -> NDArray[np.float32] | None:
        """Return the (steps, F) features up to now; None before the first step."""
        return np.stack(self._last) if self._last else None

    def logits(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (classes + 1,) scores of a window's last step, before the softmax."""
        with torch.inference_mode():
            found = self._network(torch.from_numpy(window)[None].to(self._device)).now
        scores: NDArray[np.float32] = found[0].float().cpu().numpy()
        return scores

    def next(self, feature: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (classes + 1,) probabilities of the next step."""
        self.add(feature)
        window = self.window()
        assert window is not None
        return torch.from_numpy(self.logits(window)).softmax(dim=0).numpy()


def _check(detector: TrainedDetector, size: int) -> None:
    if size != detector.n_features:
        raise FormatError(
            f"a feature has {size} numbers; {str(detector.path)!r} was trained on "
            f"{detector.n_features}"
        )
