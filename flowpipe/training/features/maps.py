"""Maps of a layer of a network, or tokens of a vision transformer, of all frames of a clip.

Stored once as (T, H, W, C) float16, in place of features of windows. Map t of a 2-D network is of
the frame t, or of the stack of flow that begins with field t; past the end of a clip its last field
is repeated. A 3-D network sees windows of frames, whose maps are joined
(:mod:`flowpipe.training.features.map_windows`). Tokens of the last blocks of a vision transformer
are (T, 3 blocks, tokens, C): output, queries and keys of each block, the class token first.

The network sees the whole frame, its short side scaled, or its centre if the network takes a fixed
size only. It is computed up to the layer. A few maps are in memory: they are written as they come.
The network itself is kept with the maps, so that others can be computed as these were.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import FormatError
from flowpipe.flow.store import StoredClip
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.tokens import check_tokens
from flowpipe.models.weights import load_model, read_about, save_model
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.distributed import pick_device
from flowpipe.training.features.frames import ClipFrames, open_clip
from flowpipe.training.features.layouts import ClipFiles, files_of, is_current, write_record
from flowpipe.training.features.map_files import MapWriter
from flowpipe.training.features.map_layers import (
    frame_transform,
    is_cropped,
    map_windows,
    maps_of_images,
    maps_of_window,
    scaled_size,
)
from flowpipe.training.features.network import NetworkWork, exact
from flowpipe.training.features.stage import FeatureStage

NETWORK = f"{provenance.RECORDS}/network.safetensors"
"""The network, in a folder of its maps."""
_BATCH = 32
"""Maps of 2-D networks that a GPU computes at a time."""


class MapFeatures(NetworkWork):
    """The work of ``features --maps`` and ``--tokens`` on one clip."""

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
            network = self._loaded()
            with MapWriter(files.features, self.out) as writer:
                for maps in clip_maps(network, frames, self.stage, device=pick_device(self.device)):
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
                **self._of_maps(network, (meta.height, meta.width), shape),
                "shape": list(shape),
                "stride": self.stage.map_stride,
                "frames": frames.n_frames,
                "fps": meta.fps,
                "width": meta.width,
                "height": meta.height,
                "weights": self.weights,
                "key": key,
            }
        write_record(files, about, self.out)
        return Done()

    def _of_maps(
        self, network: StreamNetwork, frame: tuple[int, int], shape: Sequence[int]
    ) -> Json:
        """Return what the record says of maps alone, or of tokens alone."""
        stage = self.stage
        if stage.maps is None:
            tokens = check_tokens(network, stage.tokens or 0)
            return {"tokens": stage.tokens, "heads": tokens.heads, "grid": list(tokens.grid)}
        said: Json = {"maps": stage.maps}
        if stage.length is not None:
            said["frames_per_map"] = map_windows(network, stage).frames_per_map
        if not is_cropped(network):
            fed = scaled_size(*frame, stage.short_side or self.seen.input_size)
            said["pixels_per_cell"] = pixels_per_cell(frame, fed, shape[1:3])
        return said


def clip_maps(
    network: StreamNetwork,
    frames: ClipFrames,
    stage: FeatureStage,
    *,
    wanted: Collection[int] | None = None,
    device: torch.device | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Yield the maps of a layer, (n, H, W, C) float32, or tokens, a few at a time.

    Parameters
    ----------
    network
        See :func:`~flowpipe.training.features.map_layers.resolved`.
    frames
        The clip.
    stage
        The layer or the blocks, the short side, the stride, and the windows of a 3-D network.
    wanted
        Numbers of the maps that are computed; by default all.
    device
        Where the network computes.
    """
    device = device or torch.device("cpu")
    network = network.to(device).eval()
    transform = frame_transform(network, stage)
    nothing_random = torch.Generator()
    seen = network.clip

    def image(start: int, span: int) -> Tensor:
        frames.forget(start)
        indices = range(start, start + span, seen.frame_stride)
        levels = torch.from_numpy(frames.snippet(indices))[None]
        scaled: Tensor = transform(levels, nothing_random)
        return scaled.to(device)

    if stage.length is not None:
        windows = map_windows(network, stage)
        chosen = [
            (start, [i for i in range(windows.maps)[kept] if _is_in(windows.at(start) + i, wanted)])
            for start, kept in windows.of(len(frames))
        ]
        chosen = [(start, kept) for start, kept in chosen if kept]
        frames.expect([start for start, _ in chosen], windows.length)
        for start, kept in chosen:
            with torch.inference_mode(), exact(device):
                maps = maps_of_window(network, image(start, windows.length), stage)[kept]
            yield maps.float().cpu().numpy()
        return
    starts = [
        number * stage.map_stride
        for number in range(map_count(network, stage, len(frames)))
        if _is_in(number, wanted)
    ]
    frames.expect(starts, seen.span)
    at_once = 1 if device.type == "cpu" else _BATCH
    for first in range(0, len(starts), at_once):
        images = torch.cat([image(start, seen.span) for start in starts[first : first + at_once]])
        with torch.inference_mode(), exact(device):
            maps = maps_of_images(network, images, stage)
        yield maps.float().cpu().numpy()


def map_count(network: StreamNetwork, stage: FeatureStage, n: int) -> int:
    """Return the number of maps of a clip of n flow fields or frames."""
    if stage.length is not None:
        return map_windows(network, stage).count(n)
    return -(-n // stage.map_stride)


def keep_network(out: Path, network: StreamNetwork, described: Json) -> None:
    """Keep a network with its maps, unless it is there.

    Parameters
    ----------
    out
        Folder of the maps.
    network
        The network.
    described
        Its description, which the record of the maps has.
    """
    path = out / NETWORK
    if not path.is_file() or provenance.differences(read_about(path), described):
        save_model(path, network, described, out)


def kept_network(folder: Path) -> tuple[StreamNetwork, Json]:
    """Return the network that is kept with maps, and its description.

    Raises
    ------
    FormatError
        It is missing, damaged or another.
    """
    network, described = load_model(folder / NETWORK)
    recorded = (provenance.read_stage(folder) or {}).get("network")
    if recorded != described:
        raise FormatError(
            f"{str(folder / NETWORK)!r} is not the network of the maps in {str(folder)!r}"
        )
    return network.eval(), described


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


def _is_in(number: int, wanted: Collection[int] | None) -> bool:
    return wanted is None or number in wanted
