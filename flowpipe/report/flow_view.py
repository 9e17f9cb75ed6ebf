"""Stored flow as pictures: a contact sheet and a video of frames beside flow colours.

Colours are Middlebury's, as ``torchvision.utils.flow_to_image`` draws them: hue is the direction,
saturation the speed. One scale holds for a whole clip, so that a still frame is white.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError
from flowpipe.flow.store import FlowReader, StoredClip
from flowpipe.io import video
from flowpipe.io.source import resized
from flowpipe.io.video_writer import VideoWriter
from flowpipe.runner.atomic import discard, place, temporary_file

Image = NDArray[np.uint8]

_SAMPLED = 32
_BAR = 22


def colour(flow: NDArray[np.float32], largest: float) -> Image:
    """Colours of flow.

    Parameters
    ----------
    flow
        (2, H, W) in pixels.
    largest
        Speed of full saturation, in pixels; faster motion is drawn as this.

    Returns
    -------
    (H, W, 3) uint8 BGR
    """
    import torch
    from torchvision.utils import flow_to_image

    flow = np.nan_to_num(flow, posinf=0, neginf=0)
    speed = np.hypot(*flow)
    flow = flow * np.minimum(1, largest / np.maximum(speed, 1e-9))
    # torchvision scales a batch by its fastest pixel: one such is put beside the flow.
    scale = np.zeros((2, flow.shape[1], 1), np.float32)
    scale[0, 0] = largest
    image = flow_to_image(torch.from_numpy(np.concatenate([flow, scale], 2).astype(np.float32)))
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :-1, ::-1])


def typical_speed(reader: FlowReader) -> float:
    """Speed in pixels that 99 % of the pixels stay below, over flow fields spread over a clip."""
    indices = np.unique(np.linspace(0, len(reader) - 1, _SAMPLED).astype(int))
    speeds = [
        np.hypot(*np.nan_to_num(reader.flow(int(index), allow_unknown=True))) for index in indices
    ]
    return max(float(np.percentile(np.stack(speeds), 99)), 1.0)


def contact_sheet(clip: StoredClip, *, columns: int = 4, rows: int = 3) -> Image:
    """Return the frames above their flow, spread over a clip.

    Parameters
    ----------
    clip
        The clip as it lies.
    columns, rows
        Number of flow fields shown.

    Returns
    -------
    (H, W, 3) uint8 BGR
    """
    with FlowReader(clip) as reader:
        largest = typical_speed(reader)
        wanted = np.unique(np.linspace(0, len(reader) - 1, columns * rows).astype(int))
        frames = dict(zip(wanted.tolist(), _frames_at(reader, wanted.tolist()), strict=False))
        tiles = []
        for index in wanted.tolist():
            flow = colour(reader.flow(index, allow_unknown=True), largest)
            frame = frames.get(index)
            picture = np.vstack([_or_blank(frame, flow), flow]) if frames else flow
            tiles.append(_labelled(picture, f"{index + reader.layout.base}"))
        title = f"{clip.name}   {len(reader)} fields, full colour at {largest:.1f} px"
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    grid = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    return np.vstack([_text_bar(title, grid.shape[1]), grid])


def write_video(clip: StoredClip, path: Path, root: Path) -> None:
    """Write an mp4 of a clip: each frame beside its flow, at the clip's own rate.

    Parameters
    ----------
    clip
        The clip as it lies.
    path
        The mp4.
    root
        Output folder, for the atomic write.
    """
    temporary = temporary_file(root)
    try:
        with FlowReader(clip) as reader, VideoWriter(temporary, reader.meta.fps) as film:
            largest = typical_speed(reader)
            frames = chain(_frames_at(reader, range(len(reader))), _endless_none())
            for index, frame in zip(range(len(reader)), frames, strict=False):
                flow = colour(reader.flow(index, allow_unknown=True), largest)
                if index == 0:
                    beside = frame is not None
                film.add(np.hstack([_or_blank(frame, flow), flow]) if beside else flow)
        place(temporary, path)
    finally:
        discard(temporary)


def _frames_at(reader: FlowReader, indices: list[int] | range) -> Iterator[Image]:
    """Frames of flow fields, in order: the stored ones, else from the video if it is there."""
    size = (reader.meta.width, reader.meta.height)
    if reader.meta.n_images:
        offset = 0 if reader.meta.step > 0 else -reader.meta.step
        for index in indices:
            yield reader.image(min(index + offset, reader.meta.n_images - 1))
        return
    source = reader.video
    if source is None or not source.exists():
        return
    wanted = set(indices)
    offset = 0 if reader.meta.step > 0 else -reader.meta.step
    try:
        for number, frame in enumerate(video.frames(source, keep_damaged=True)):
            if number - offset in wanted:
                yield resized(frame.image, size)
    except FlowpipeError:
        return


def _or_blank(frame: Image | None, flow: Image) -> Image:
    """Return the frame, or white where the video has ended before its flow."""
    return np.full_like(flow, 255) if frame is None else frame


def _endless_none() -> Iterator[None]:
    while True:
        yield None


def _labelled(picture: Image, text: str) -> Image:
    framed = cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.rectangle(framed, (2, 2), (14 + 10 * len(text), 24), (40, 40, 40), cv2.FILLED)
    cv2.putText(framed, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return np.asarray(framed)


def _text_bar(text: str, width: int) -> Image:
    bar = np.full((_BAR, width, 3), 255, np.uint8)
    printable = text.encode("ascii", "replace").decode()
    cv2.putText(bar, printable, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1)
    return bar
