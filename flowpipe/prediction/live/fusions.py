"""A fusion of classifiers on the last seconds of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flowpipe.prediction.fusion import FusionClassifier
from flowpipe.prediction.live.mailbox import Taken
from flowpipe.prediction.live.window import Window, WindowClip


class FusionWindow:
    """What each member of a fusion is given of the last seconds.

    A :class:`~flowpipe.prediction.live.window.Window`.

    Parameters
    ----------
    classifier
        The fusion.
    members
        The window of each member.
    """

    def __init__(self, classifier: FusionClassifier, members: Sequence[Window]) -> None:
        self._classifier, self._members = classifier, members
        self.run = max(each.run for each in members)
        self.before = max(each.before for each in members)
        self.fewest = max(each.fewest for each in members)

    def add(self, taken: Taken) -> None:
        """Extract the next frame for each member."""
        for each in self._members:
            each.add(taken)

    def clip(self) -> WindowClip | None:
        """Return what there is for each member; None if it is too little for one of them."""
        clips = [each.clip() for each in self._members]
        whole = [each for each in clips if each is not None]
        if len(whole) < len(clips):
            return None
        newest = max(whole, key=lambda clip: clip.time).entries[-1]
        return WindowClip([replace(newest, value=whole)])

    def scores(self, clip: WindowClip) -> NDArray[np.float32]:
        """Return the weighted sum of the members' scores."""
        clips = clip.entries[-1].value
        return self._classifier.fused(
            [member.scores(own) for member, own in zip(self._members, clips, strict=True)]
        )
