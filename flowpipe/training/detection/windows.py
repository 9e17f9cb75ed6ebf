"""Windows of steps that end at the present, and what is to be predicted for each.

Windows slide by one step. A window that begins before its video repeats the first step: the
released OadTR never trains such windows and never scores them, but short videos consist of little
else, and someone who watches a video wants scores from its beginning. Steps after the end of a
video, and ambiguous ones, have no target and no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.datasets.intervals import Interval, covered_frames, frame_labels
from flowpipe.errors import ParameterError
from flowpipe.training.detection.steps import Steps


@dataclass(frozen=True, slots=True)
class StepLabels:
    """Which classes the steps of a video have.

    Attributes
    ----------
    classes
        (T, classes) bool; a row without True is background.
    ambiguous
        (T,) bool; steps that are neither trained on nor counted.
    """

    classes: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]

    @property
    def unclear(self) -> NDArray[np.bool_]:
        """(T,) bool; ambiguous steps of no class: those of an action are known all the same."""
        return np.logical_and(self.ambiguous, np.logical_not(self.classes.any(axis=1)))

    def targets(self) -> NDArray[np.float32]:
        """Return (T, classes + 1) shares of the classes, background last; 0 where unclear.

        A step of several classes has equal shares of them.
        """
        background = np.logical_not(self.classes.any(axis=1))
        shares = np.column_stack([self.classes, background]).astype(np.float32)
        shares /= shares.sum(axis=1, keepdims=True)
        shares[self.unclear] = 0
        return shares


def step_labels(
    steps: Steps,
    intervals: Sequence[Interval],
    classes: Sequence[str],
    ambiguous: Sequence[Interval] = (),
) -> StepLabels:
    """Return the classes of the frames that are the present for the steps of a video."""
    frames, rate = steps.frames, steps.frame_rate
    labels = frame_labels(intervals, classes, frames, rate)
    unclear = covered_frames(ambiguous, frames, rate)
    return StepLabels(labels[steps.present], unclear[steps.present])


def window_rows(present: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """Return the rows of the windows that end at some steps of a video.

    Parameters
    ----------
    present
        (N,) steps.
    steps
        Length of a window.

    Returns
    -------
    (N, steps)
        0 where a window begins before the video.

    Examples
    --------
    >>> window_rows(np.array([0, 1, 4]), 3).tolist()
    [[0, 0, 0], [0, 0, 1], [2, 3, 4]]
    """
    return np.maximum(present[:, None] - np.arange(steps - 1, -1, -1), 0)


class StepWindows:
    """Windows that end at every step of some videos.

    Parameters
    ----------
    videos
        Their features.
    targets
        Of each video (T, classes + 1), as :meth:`StepLabels.targets` returns them.
    steps, future
        Lengths of a window, and of what follows the present.

    Raises
    ------
    ParameterError
        There is no step, or none has a target.
    """

    def __init__(
        self,
        videos: Sequence[Steps],
        targets: Sequence[NDArray[np.float32]],
        steps: int,
        future: int,
    ) -> None:
        if not any(each.any() for each in targets):
            raise ParameterError(
                "there is no step to train on: the videos have no features, or all steps are "
                "ambiguous"
            )
        self._features = torch.from_numpy(np.concatenate([each.features for each in videos]))
        whole = np.concatenate(list(targets))
        nothing = np.zeros((1, whole.shape[1]), np.float32)
        self._targets = torch.from_numpy(np.concatenate([whole, nothing]))
        lengths = [len(each.features) for each in videos]
        self._first = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        self._end = np.repeat(np.cumsum(lengths), lengths)
        self._steps, self._future = steps, future
        # What has no target now or later would only slow the training down.
        has = whole.any(axis=1)
        self.present = np.flatnonzero(has)
        self.labels: list[int] = whole[self.present].argmax(axis=1).tolist()

    @property
    def features(self) -> Tensor:
        """(N, F) of all steps."""
        return self._features

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.present)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return windows, and what is to be predicted.

        Returns
        -------
        (B, steps, F), (B, classes + 1), (B, future, classes + 1)
            Features; shares of the classes now; and in the steps that follow, 0 after the end.
        """
        rows = self.present[list(indices)]
        first, end = self._first[rows], self._end[rows]
        seen = first[:, None] + window_rows(rows - first, self._steps)
        ahead = rows[:, None] + np.arange(1, self._future + 1)
        ahead = np.where(ahead < end[:, None], ahead, len(self._targets) - 1)
        return self._features[seen], self._targets[rows], self._targets[ahead]
