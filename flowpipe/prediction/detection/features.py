"""Features of the frames of a video as they come, exactly as ``features`` computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.flow.quantize import DEFAULT_BOUND
from flowpipe.flow.store import QUALITY
from flowpipe.flow.store.as_stored import AsStored, image_as_stored
from flowpipe.io.source import resized
from flowpipe.models.stream import StreamNetwork
from flowpipe.prediction.detection.recent import RecentFrames
from flowpipe.prediction.flow import RecordedFlow
from flowpipe.prediction.live.flow import FrameFlow, LiveMethod, live_method
from flowpipe.prediction.live.parameters import LiveFlow
from flowpipe.runner.json_files import Json
from flowpipe.training.detection.steps import Timing, offsets
from flowpipe.training.features.network import window_features


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network, and how it was used for the features of one folder.

    Attributes
    ----------
    network
        Trained.
    record
        The stage of the features.
    flow
        How the flow or the frames were extracted.
    timing
        When the features are due.
    """

    network: StreamNetwork
    record: Json
    flow: RecordedFlow
    timing: Timing

    def method(self, choice: LiveFlow, *, stored: bool) -> LiveMethod | None:
        """Return how its flow is computed; None for a network on frames alone.

        Parameters
        ----------
        choice
            Of the solver, as for live prediction.
        stored
            Whether the flow is changed as storing it for training did.
        """
        seen = self.network.clip
        if not seen.has_flow:
            return None
        stage, warped = self.flow.stage(), self.flow.is_warped
        given = DEFAULT_BOUND if seen.bound is None else seen.bound
        method = live_method(stage, choice, given, warped=warped)
        if not stored:
            return method
        own = AsStored(stage.layout, method.bound, stage.quality, stage.dtype)
        if not warped:
            return replace(method, stored=own)
        record = self.flow.record
        outer = AsStored(record["layout"], method.bound, record["quality"], record["dtype"])
        quality = stage.quality or QUALITY
        return replace(
            method,
            stored=own,
            warped_stored=outer,
            frames_quality=quality if stage.frames else None,
        )


@dataclass
class _Part:
    """The features of one network, so far."""

    source: FeatureNetwork
    method: LiveMethod | None
    flow: FrameFlow | None
    frames: RecentFrames
    features: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    count: int = 0


class FeatureStream:
    """Joined features of a video, one step after the other.

    Parameters
    ----------
    networks
        Those of the folders that the detector was trained on, in their order.
    choice
        Solver of the flow: that of training, or a faster one.
    stored
        Whether flow and frames are changed as storing them for training did, so that features are
        those of stored flow to the last bit.
    device
        Where the networks compute.
    """

    def __init__(
        self,
        networks: Sequence[FeatureNetwork],
        *,
        choice: LiveFlow = "trained",
        stored: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self._networks, self._stored = networks, stored
        self._device = device or torch.device("cpu")
        self._methods = [each.method(choice, stored=stored) for each in networks]
        self._offsets = offsets([each.timing for each in networks])
        self.restart()

    def restart(self) -> None:
        """Forget the frames: the next one begins another video."""
        # Networks on the same flow share it.
        shared: dict[tuple[LiveMethod, object], FrameFlow] = {}
        self._parts = []
        for source, method in zip(self._networks, self._methods, strict=True):
            flow = None
            if method is not None:
                key = (method, source.flow.stage().size)
                flow = shared.setdefault(key, FrameFlow(method))
            bound = DEFAULT_BOUND if method is None else method.bound
            frames = RecentFrames(source.network.clip, bound)
            self._parts.append(_Part(source, method, flow, frames))
        self._steps = self._n_frames = 0

    def add(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Add a frame, and return the feature (F,) of the step that it completes, if it does.

        Parameters
        ----------
        image
            (H, W, 3) uint8 BGR, of the same size since the last restart.
        """
        self._n_frames += 1
        levels: dict[int, NDArray[np.uint8] | None] = {}
        for part in self._parts:
            stage = part.source.flow.stage()
            scaled = resized(image, stage.size)
            own = None
            if part.flow is not None:
                if id(part.flow) not in levels:
                    levels[id(part.flow)] = part.flow.add(scaled)
                own = levels[id(part.flow)]
            if self._stored and stage.frames and not part.source.network.clip.is_flow:
                scaled = image_as_stored(scaled, stage.quality)
            part.frames.add(scaled, own)
            timing = part.source.timing
            start = part.count * timing.stride
            if len(part.frames) >= start + timing.length:
                self._compute(part, start)
        return self._joined()

    def finish(self) -> NDArray[np.float32] | None:
        """Return the feature of a video that is shorter than a window, whose last frame repeats."""
        if self._steps or any(not len(part.frames) for part in self._parts):
            return None
        for part in self._parts:
            if not part.count:
                self._compute(part, 0)
        rows = [
            part.features[min(offset, part.count - 1)]
            for part, offset in zip(self._parts, self._offsets, strict=True)
        ]
        self._steps += 1
        return np.concatenate(rows)

    @property
    def fewest(self) -> int:
        """Number of frames up to the first step."""
        return 1 + max(each.timing.first for each in self._networks)

    def _compute(self, part: _Part, start: int) -> None:
        record = part.source.record
        (feature,) = window_features(
            part.source.network,
            part.frames,
            [start],
            part.source.timing.length,
            crops=record["crops"],
            layer=record.get("layer"),
            device=self._device,
        )
        part.features[part.count] = feature
        part.count += 1

    def _joined(self) -> NDArray[np.float32] | None:
        wanted = [self._steps + offset for offset in self._offsets]
        pairs = list(zip(self._parts, wanted, strict=True))
        if not all(row in part.features for part, row in pairs):
            return None
        feature = np.concatenate([part.features[row] for part, row in pairs])
        for part, row in pairs:
            part.features = {key: each for key, each in part.features.items() if key > row}
        self._steps += 1
        return feature
