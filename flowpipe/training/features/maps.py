"""Maps of a layer of a 2-D network, of every frame or stack of flow of a clip.

Stored once as (T, H, W, C) float16, in place of features of windows. Map t is of the frame t, or of
the stack of flow that begins with field t; past the end of a clip its last field is repeated. The
network sees the whole frame, its short side scaled, and is computed up to the layer only. A few
maps are in memory: they are written as they come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import StoredClip
from flowpipe.models import table
from flowpipe.models.stream import StreamNetwork
from flowpipe.runner import provenance
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.data.datasets import testing_transform
from flowpipe.training.data.transforms import TestCrops
from flowpipe.training.data.views import Compose, resized
from flowpipe.training.distributed import pick_device
from flowpipe.training.features.frames import ClipFrames, open_clip
from flowpipe.training.features.layouts import ClipFiles, files_of, is_current, write_record
from flowpipe.training.features.map_files import MapWriter
from flowpipe.training.features.network import NetworkWork, exact
from flowpipe.training.features.stage import FeatureStage
from flowpipe.training.testing import Testing

_BATCH = 32
"""Maps that a GPU computes at a time."""


class MapFeatures(NetworkWork):
    """The work of ``features --maps`` on one clip."""

    def files(self, clip: StoredClip) -> ClipFiles:
        """Return the files of a clip."""
        return files_of("npy", self.out, clip.name, self.seen.modality)

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        """Write the maps of a clip, unless they are up to date.

        Raises
        ------
        FormatError, OSError
            The clip is damaged, or a map has values that are not finite or too large.
        """
        files = self.files(clip)
        with open_clip(clip, self.seen) as frames:
            key = provenance.digest([self.key, frames.identity])
            if not self.overwrite and is_current(files, key):
                return Done(skipped=True)
            meta = frames.reader.meta
            with MapWriter(files.features, self.out) as writer:
                for maps in clip_maps(
                    self._loaded(), frames, self.stage, device=pick_device(self.device)
                ):
                    try:
                        writer.append(maps)
                    except FormatError as error:
                        raise FormatError(f"maps of {clip.name!r}: {error}") from None
                    advance(len(maps))
                files.record.unlink(missing_ok=True)
                shape = writer.finish()
            about = {
                "clip": clip.name,
                "modality": self.seen.modality,
                "maps": self.stage.maps,
                "shape": list(shape),
                "stride": self.stage.map_stride,
                "frames": frames.n_frames,
                "fps": meta.fps,
                "width": meta.width,
                "height": meta.height,
                "pixels_per_cell": pixels_per_cell(
                    (meta.height, meta.width), self._input_size(meta.height, meta.width), shape[1:3]
                ),
                "weights": self.weights,
                "key": key,
            }
        write_record(files, about, self.out)
        return Done()

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        return scaled_size(height, width, self.stage.short_side or self.seen.input_size)


def clip_maps(
    network: StreamNetwork,
    frames: ClipFrames,
    stage: FeatureStage,
    *,
    device: torch.device | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the maps of a layer, (n, H, W, C) float32, a few at a time.

    Parameters
    ----------
    network
        A 2-D network; see :func:`check_maps`.
    frames
        The clip.
    stage
        The layer, the short side and the stride.
    device
        Where the network computes.
    """
    device = device or torch.device("cpu")
    network = network.to(device).eval()
    seen = network.clip
    transform = _whole_frames(network, stage.short_side or seen.input_size)
    offsets = range(0, seen.span, seen.frame_stride)
    starts = range(0, len(frames), stage.map_stride)
    frames.expect(starts, seen.span)
    at_once = 1 if device.type == "cpu" else _BATCH
    nothing_random = torch.Generator()
    assert stage.maps is not None
    for first in range(0, len(starts), at_once):
        images = []
        for start in starts[first : first + at_once]:
            frames.forget(start)
            levels = frames.snippet([start + offset for offset in offsets])
            images.append(transform(torch.from_numpy(levels)[None], nothing_random))
        with torch.inference_mode(), exact(device):
            maps = layer_maps(network, torch.cat(images).to(device), stage.maps)
        yield maps.permute(0, 2, 3, 1).float().cpu().numpy()


def layer_maps(network: StreamNetwork, images: Tensor, layer: str) -> Tensor:
    """Return the output of a layer: (N, C, H, W) -> (N, F, H', W'). Later layers do not run.

    Raises
    ------
    ParameterError
        The layer does not run, or gives no maps.
    """
    found: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output)
        raise _ReachedError

    handle = network.backbone.get_submodule(layer).register_forward_hook(keep)
    try:
        network.backbone(images)
    except _ReachedError:
        pass
    finally:
        handle.remove()
    if not found or not isinstance(found[0], Tensor) or found[0].ndim != 4:
        raise ParameterError(
            f"maps is {layer!r}, which gives no maps of an image; name a convolution or a block of "
            "them"
        )
    return found[0]


def check_maps(network: StreamNetwork, layer: str) -> None:
    """Check that a network has maps of single frames or stacks, and such a layer.

    Raises
    ------
    ParameterError
        It has not; the message names layers.
    """
    name = network.network.model
    if network.takes != "snippets" or table.model(name).relates_segments:
        raise ParameterError(
            f"maps is {layer!r}; it applies to 2-D networks, each frame or stack by itself, such "
            f"as tsn, and the network is {name}"
        )
    layers = [each for each, _ in network.backbone.named_modules() if each]
    if layer not in layers:
        shown = [each for each in layers if each.count(".") < 2 and not each.startswith("classif")]
        raise ParameterError(
            f"maps is {layer!r}, which is no layer of {network.network.backbone}; it has "
            f"{', '.join(shown[:40])}"
        )
    size = network.clip.input_size
    with torch.inference_mode():
        layer_maps(network.eval(), torch.zeros(1, network.channels, size, size), layer)


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the height and width of frames whose short side is scaled."""
    scale = short_side / min(height, width)
    return round(height * scale), round(width * scale)


def pixels_per_cell(
    frame: Sequence[int], network_input: Sequence[int], maps: Sequence[int]
) -> list[float]:
    """Return the distance of two cells in pixels of the frames, along x and along y.

    Strides of padded layers are powers of two, and a map has a cell for the rest at the border;
    where that does not fit, the cells divide the frame.

    Parameters
    ----------
    frame, network_input, maps
        Heights and widths.

    Examples
    --------
    >>> pixels_per_cell((256, 340), (256, 340), (16, 22))
    [16.0, 16.0]
    """
    found = []
    for before, fed, cells in zip(frame, network_input, maps, strict=True):
        stride: float = 2 ** round(math.log2(fed / cells))
        if -(-fed // stride) != cells:
            stride = fed / cells
        found.append(stride * before / fed)
    return found[::-1]


class _ReachedError(Exception):
    """The layer has been computed."""


@dataclass(frozen=True, slots=True)
class _WholeFrames:
    """Scale the short side of frames; nothing is cut off."""

    short_side: int

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        height, width = snippets.shape[-2:]
        scaled: Tensor = resized(snippets, *scaled_size(height, width, self.short_side))
        return scaled


def _whole_frames(network: StreamNetwork, short_side: int) -> Any:
    """Return what a test does to snippets, without its crop."""
    size = network.clip.input_size
    views = Testing(1, 1, size, size, "scores").of(network)
    cropped: Any = testing_transform(network.clip, network.network, views)
    whole = _WholeFrames(short_side)
    return Compose(
        tuple(whole if isinstance(each, TestCrops) else each for each in cropped.transforms)
    )
