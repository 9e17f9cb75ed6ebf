"""A detector on a live source: features of its frames, and the scores of the present.

Features are those of training, but for the compression of stored flow and frames, and for the
solver of the flow. Where frames are dropped, the next feature is of the frames that follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.prediction.detection.load import Detector
from flowpipe.prediction.live.mailbox import Taken
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.ring import Entry
from flowpipe.prediction.live.window import WindowClip


class DetectorWindow:
    """Features of the last steps, and the detector that scores the newest.

    A :class:`~flowpipe.prediction.live.window.Window`.

    Parameters
    ----------
    detector
        The detector.
    live
        Options.

    Raises
    ------
    ParameterError
        An option does not apply to a detector, or to its networks.
    BackendUnavailableError
        The flow cannot be computed on this machine.
    """

    def __init__(self, detector: Detector, live: Live) -> None:
        usual = Live()
        for name in ("window", "snippets"):
            if (value := getattr(live, name)) != getattr(usual, name):
                raise ParameterError(
                    f"{name} is {value!r}; it applies to classifiers: a detector sees the steps "
                    "of its training"
                )
        networks = detector.networks
        if live.live_flow != "auto" and not any(each.network.clip.has_flow for each in networks):
            raise ParameterError(
                f"live_flow is {live.live_flow!r}, but the detector's networks see no flow"
            )
        self._features = detector.features(live.live_flow, stored=False)
        self._scorer = detector.scorer()
        self._size: tuple[int, ...] | None = None
        self._newest: Entry[NDArray[np.float32]] | None = None
        self.run = max(each.timing.length for each in networks)
        self.before = max(each.timing.after for each in networks)
        self.fewest = self._features.fewest

    def add(self, taken: Taken) -> None:
        """Compute the feature that the next frame completes, if it does.

        When frames change their size, what there is of the old size is dropped.
        """
        image = taken.frame.image
        changed = self._size is not None and image.shape != self._size
        self._size = image.shape
        if changed or not taken.follows:
            self._features.restart()
        if changed:
            self._scorer.restart()
        feature = self._features.add(image)
        if feature is not None:
            self._scorer.add(feature)
            window = self._scorer.window()
            assert window is not None
            self._newest = Entry(taken.frame.time, taken.frame.arrived, 0, window)

    def clip(self) -> WindowClip | None:
        """Return the features of the last steps; None before the first step."""
        newest = self._newest
        return None if newest is None else WindowClip([newest])

    def scores(self, clip: WindowClip) -> NDArray[np.float32]:
        """Return the scores of the present before the softmax, of the background last."""
        return self._scorer.logits(clip.entries[-1].value)
