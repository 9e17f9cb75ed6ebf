"""Features of a network, window by window.

A window is seen as a network sees a clip: whole, by networks on consecutive frames; else as
snippets from the middle of each of its segments (:func:`flowpipe.training.data.sampling
.centre_starts`), resized and cropped as in tests. What the head of the network sees is averaged
over the segments or steps in time that it has, and over the crops.

On a CPU each window is computed by itself in one thread, so that its bits depend on nothing else:
neither on the other windows, nor on the number of workers or cores. On a GPU windows are computed
in batches, in float32 throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import FormatError
from flowpipe.flow.store import FlowMeta, StoredClip
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.stream import StreamNetwork
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.data.datasets import testing_transform
from flowpipe.training.data.sampling import centre_starts
from flowpipe.training.distributed import pick_device, torch_threads
from flowpipe.training.features.frames import open_clip
from flowpipe.training.features.layouts import ClipFiles, files_of, is_current, write_features
from flowpipe.training.features.sources import NetworkSource
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.testing import Crops, Testing

_BATCH = 32
"""Views of windows that a GPU computes at a time."""


@dataclass
class NetworkWork:
    """The work of ``features`` on one clip of flow or frames.

    Attributes
    ----------
    source
        The network; each worker loads it once.
    stage
        Windows and layout, or the layer whose maps are stored.
    out
        The output folder.
    seen
        What the network sees of a clip.
    weights, key
        Digests of the network's weights, and of the network and the stage.
    device
        Where the network computes.
    overwrite
        Compute again what is up to date.
    """

    source: NetworkSource
    stage: FeatureStage
    out: Path
    seen: ClipInput
    weights: str
    key: str
    device: str = "auto"
    overwrite: bool = False
    _network: StreamNetwork | None = field(default=None, repr=False)

    def __getstate__(self) -> Json:
        """Return everything but the network."""
        return {**self.__dict__, "_network": None}

    def _loaded(self) -> StreamNetwork:
        if self._network is None:
            self._network = self.source.load().laid_out().eval()
        return self._network


class NetworkFeatures(NetworkWork):
    """The work of ``features`` on one clip."""

    def files(self, clip: StoredClip) -> ClipFiles:
        """Return the files of a clip."""
        return files_of(self.stage.layout, self.out, clip.name, self.seen.modality)

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        """Write the features of a clip, unless they are up to date.

        Raises
        ------
        FormatError, OSError
            The clip is damaged, or has neither frames nor the video that it was made from.
        """
        files = self.files(clip)
        with open_clip(clip, self.seen) as frames:
            windows = self.stage.windows
            short = len(frames) < windows.length and not windows.per_frame
            warning = (
                f"shorter than a window ({len(frames)} of {windows.length}): its last one repeats"
                if short
                else None
            )
            key = provenance.digest([self.key, frames.identity])
            if not self.overwrite and is_current(files, key):
                return Done(skipped=True, warning=warning)
            starts = windows.starts(len(frames), frames.n_frames)
            meta = frames.reader.meta
            # Before the work: a layout with times needs the frame rate.
            # A window of flow ends with the second frame of its last pair.
            last = windows.length - 1 + frames.n_frames - len(frames)
            timed = _times(files, meta, [start + last for start in starts])
            features = window_features(
                self._loaded(),
                frames,
                starts,
                windows.length,
                crops=self.stage.crops,
                layer=self.stage.layer,
                device=pick_device(self.device),
                advance=advance,
            )
            if not np.isfinite(features).all():
                raise FormatError(
                    f"features of {clip.name!r} are not finite: the network has diverged, or its "
                    "weights are damaged"
                )
            about = {
                "clip": clip.name,
                "modality": self.seen.modality,
                "length": windows.length,
                "stride": windows.stride,
                "per_frame": windows.per_frame,
                "windows": len(features),
                "features": features.shape[1],
                "frames": frames.n_frames,
                "fps": meta.fps,
                "width": meta.width,
                "height": meta.height,
                "weights": self.weights,
                "key": key,
            }
        first = self.stage.entry.features_first
        arrays = {files.features: features.T if first else features, **timed}
        write_features(files, arrays, about, self.out)
        return Done(warning=warning)


class WindowFrames(Protocol):
    """Flow fields, frames, or differences of frames, of which windows are made.

    Such as :class:`~flowpipe.training.features.frames.ClipFrames`.
    """

    def expect(self, starts: Sequence[int], length: int) -> None:
        """Prepare for windows of `length` that begin at `starts`, ascending."""

    def snippet(self, indices: Sequence[int]) -> NDArray[Any]:
        """Return (C * L, H, W) of L fields, frames or differences."""

    def forget(self, before: int) -> None:
        """Drop what was decoded before a field or frame; never what may be repeated."""


def window_features(
    network: StreamNetwork,
    frames: WindowFrames,
    starts: Sequence[int],
    length: int,
    *,
    crops: Crops = 1,
    layer: str | None = None,
    device: torch.device | None = None,
    advance: Advance = lambda windows: None,
) -> NDArray[np.float32]:
    """Compute the features of windows of a clip.

    Parameters
    ----------
    network
        Trained.
    frames
        The clip.
    starts
        First field or frame of each window, ascending.
    length
        Fields or frames of a window.
    crops
        Crops whose features are averaged: 1, 3 or 10.
    layer
        Layer whose output is the feature; see :meth:`StreamNetwork.layer_features`.
    device
        Where the network computes.
    advance
        Told the number of windows that are done.

    Returns
    -------
    (windows, F) float32
    """
    device = device or torch.device("cpu")
    network = network.to(device).eval()
    # Features have the size of training, whatever the size that scores are tested with.
    size = network.clip.input_size
    views = Testing(1, crops, round(size * 8 / 7), size, "scores").of(network)
    transform = testing_transform(network.clip, network.network, views)
    frames.expect(starts, length)
    at_once = 1 if device.type == "cpu" else max(1, _BATCH // crops)
    rows = []
    with torch.inference_mode(), exact(device):
        for batch in _batches(_views(network, frames, starts, length, transform), at_once):
            clips = network.clips(torch.cat(batch).to(device))
            features = network.layer_features(clips, layer).float()  # (windows * crops, T', F)
            means = features.unflatten(0, (len(batch), -1)).flatten(1, 2).mean(dim=1)
            rows.append(means.cpu().numpy())
            advance(len(batch))
    return np.concatenate(rows)


def snippets_of(network: StreamNetwork, length: int) -> list[range]:
    """Return which fields or frames of a window each snippet has that a network sees of it."""
    seen = network.clip
    if network.takes == "frames":
        return [range(0, length, seen.frame_stride)]
    segments = seen.segments
    if not network.joins_segments:
        segments = min(segments, length - seen.span + 1)
    starts = centre_starts(length, segments, seen.span).tolist()
    return [range(start, start + seen.span, seen.frame_stride) for start in starts]


def _views(
    network: StreamNetwork,
    frames: WindowFrames,
    starts: Sequence[int],
    length: int,
    transform: Any,
) -> Iterator[Tensor]:
    """Yield the crops of each window, (crops, segments, C, H, W) float32."""
    snippets = snippets_of(network, length)
    nothing_random = torch.Generator()
    for start in starts:
        frames.forget(start)
        levels = np.stack([frames.snippet([start + one for one in each]) for each in snippets])
        images = transform(torch.from_numpy(levels), nothing_random)
        yield images.unflatten(0, (len(snippets), -1)).transpose(0, 1)


def _batches(views: Iterator[Tensor], size: int) -> Iterator[list[Tensor]]:
    batch: list[Tensor] = []
    for view in views:
        batch.append(view)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def exact(device: torch.device) -> AbstractContextManager[Any]:
    """Compute with one thread on a CPU, and with all bits of float32 on a GPU."""
    if device.type == "cpu":
        return torch_threads(1)
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


def _times(files: ClipFiles, meta: FlowMeta, last: Sequence[int]) -> dict[Path, NDArray[Any]]:
    """Return the frame rate, and the times of the last frames of windows in milliseconds."""
    if files.fps is None or files.times is None:
        return {}
    if not meta.fps:
        raise FormatError(
            f"the frame rate of {meta.clip!r} is not known, which the layout video-features "
            "stores; use another layout, or flow that extract-flow made of the video"
        )
    times = []
    for frame in last:
        frame = min(frame, meta.n_frames - 1)
        known = meta.times[frame] if meta.times and frame < len(meta.times) else None
        times.append(1000 * (frame / meta.fps if known is None else known))
    return {files.fps: np.array(meta.fps), files.times: np.array(times)}
