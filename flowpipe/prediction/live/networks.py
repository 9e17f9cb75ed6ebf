"""A network on the last seconds of a source.

A network sees what it was trained on: stacks of consecutive fields of flow, in the levels of its
training, or frames. Only the compression of stored flow and frames as JPEG is left out.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowpipe.errors import ParameterError
from flowpipe.flow.quantize import DEFAULT_BOUND, from_uint8, to_uint8
from flowpipe.io.source import resized
from flowpipe.models.clip_input import BOTH
from flowpipe.prediction.live.flow import FrameFlow, live_method
from flowpipe.prediction.live.mailbox import Taken
from flowpipe.prediction.live.parameters import Live
from flowpipe.prediction.live.ring import Entry, Ring, whole
from flowpipe.prediction.live.window import WindowClip
from flowpipe.prediction.network import NetworkClassifier
from flowpipe.training.data.sampling import centre_starts, tick_starts
from flowpipe.training.data.stacks import follow

_FEWEST_SNIPPETS = 3
"""Of a window, for networks that score each snippet by itself."""

Item = NDArray[np.uint8]
"""(2, H, W) levels of flow, or (3, H, W) RGB."""


class NetworkWindow:
    """Fields of flow or frames of the last seconds, and the network that scores them.

    A :class:`~flowpipe.prediction.live.window.Window`.

    Parameters
    ----------
    classifier
        The network.
    live
        Options.

    Raises
    ------
    ParameterError
        An option does not apply to the network.
    BackendUnavailableError
        Its flow cannot be computed on this machine.
    """

    def __init__(self, classifier: NetworkClassifier, live: Live) -> None:
        self._classifier = classifier
        self._stage = classifier.stage()
        network, seen = classifier.network, classifier.network.clip
        fewest = 1 if network.joins_segments else _FEWEST_SNIPPETS
        self._snippets = live.snippets or max(seen.segments, fewest)
        if seen.modality == BOTH:
            raise ParameterError(
                f"{str(classifier.path)!r} sees {BOTH}; networks on one of them label a live video"
            )
        self._flow: FrameFlow | None = None
        self._bound = DEFAULT_BOUND if seen.bound is None else seen.bound
        self.before = 0
        self.run = seen.span + (seen.modality == "rgb-diff")
        self._length = self.run
        if seen.is_flow:
            method = live_method(
                self._stage, live.live_flow, self._bound, warped=classifier.recorded_flow.is_warped
            )
            self._flow, self._bound = FrameFlow(method), method.bound
            self.before = abs(method.step)
        elif live.live_flow != "auto":
            raise ParameterError(
                f"live_flow is {live.live_flow!r}, but the network was trained on "
                f"{seen.modality}; live_flow applies to networks on flow"
            )
        self.fewest = self.run + self.before
        others = len(os.sched_getaffinity(0)) - 1
        self._threads = max(1, min(torch.get_num_threads(), others))
        self._ring: Ring[Item] = Ring(live.window, self._length)
        self._size: tuple[int, ...] | None = None
        self._views = replace(classifier.record.testing, test_clips=1, crops=1).of(network)

    def add(self, taken: Taken) -> None:
        """Compute the flow that ends in the next frame, or keep the frame.

        When frames change their size, what there is of the old size is dropped.
        """
        image = taken.frame.image
        changed = self._size is not None and image.shape != self._size
        self._size = image.shape
        if changed or not taken.follows:
            self._ring.begin_run(empty=changed)
            if self._flow is not None:
                self._flow.restart()
        image = resized(image, self._stage.size)
        item = _rgb(image) if self._flow is None else self._flow.add(image)
        if item is not None:
            self._ring.append(taken.frame, item)

    def clip(self) -> WindowClip | None:
        """Return the fields or frames of the last seconds; None if no snippet is whole."""
        entries = self._ring.entries()
        return WindowClip(entries) if whole(entries, self._length) else None

    def scores(self, clip: WindowClip) -> NDArray[np.float32]:
        """Return the scores of snippets at equal steps; of the newest one if one is asked for."""
        starts = whole(clip.entries, self._length)
        n = len(starts) + self._length - 1
        if self._snippets == 1:
            chosen = starts[-1:]
        elif self._classifier.network.joins_segments:
            chosen = [starts[at] for at in centre_starts(n, self._snippets, self._length)]
        else:
            chosen = [starts[at] for at in tick_starts(n, self._snippets, self._length)]
        snippets = np.stack(
            [self._snippet(clip.entries[first : first + self._length]) for first in chosen]
        )
        # Threads of the network that wait for each other on busy cores would hold up the flow.
        with threadpool_limits(self._threads, "openmp"):
            return self._classifier.scores_of([(torch.from_numpy(snippets), 0)], self._views)

    def _snippet(self, entries: list[Entry[Item]]) -> NDArray[np.generic]:
        """Return (C, H, W), as :class:`~flowpipe.training.data.clips.FlowClips` gives it."""
        seen = self._classifier.network.clip
        items = np.stack([entry.value for entry in entries])
        if seen.stacking == "trajectory":
            flow = from_uint8(items, self._bound, zero=127.5)
            items = to_uint8(follow(flow), self._bound)
        is_difference = seen.modality == "rgb-diff"
        levels = np.diff(items.astype(np.int16), axis=0) if is_difference else items
        return levels[:: seen.frame_stride].reshape(-1, *items.shape[2:])


def _rgb(image: NDArray[np.uint8]) -> Item:
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
