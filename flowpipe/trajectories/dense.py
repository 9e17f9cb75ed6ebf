"""Dense and improved dense trajectories of one clip, as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError
from flowpipe.io import video
from flowpipe.trajectories.extract import Trajectories, extract, set_times
from flowpipe.trajectories.parameters import TrajectoryParameters

_NAMES = [f.name for f in fields(TrajectoryParameters)]


def dense_trajectories(
    video_or_frames: str | os.PathLike[str] | NDArray[np.uint8],
    kind: Literal["idt", "dt"] = "idt",
    **parameters: Any,
) -> Trajectories:
    """Extract the dense trajectories of a clip and their descriptors.

    Dense trajectories are those of Wang et al. (CVPR 2011), improved ones those of Wang and Schmid
    (ICCV 2013), with the rows, the order and the numbers of the programs released with the papers.

    Parameters
    ----------
    video_or_frames
        A video file, or its frames: (T, H, W, 3) uint8 RGB, as :func:`flowpipe.read_video` reads
        them, or (T, H, W) uint8 grey levels.
    kind
        ``idt`` removes the camera's motion from tracks and motion descriptors; ``dt`` does not.
    **parameters
        Fields of :class:`~flowpipe.trajectories.parameters.TrajectoryParameters`, such as
        ``track_length=10``. The defaults are the released programs'.

    Returns
    -------
    Trajectories
        One row per track, in the order in which the tracks end. Without any track it has 0 rows,
        as for a clip of at most ``track_length`` frames.

    Raises
    ------
    ParameterError
        A parameter is unknown or out of range, or the frames have another shape or type, or are
        smaller than the patch.
    VideoError
        The file cannot be decoded, or is truncated.

    Examples
    --------
    A texture that moves by 1 pixel per frame to the right is tracked as such:

    >>> import numpy as np
    >>> import flowpipe
    >>> texture = np.kron(np.random.default_rng(0).integers(0, 255, (12, 16)), np.ones((8, 8)))
    >>> frames = np.stack([np.roll(texture, t, axis=1) for t in range(18)]).astype(np.uint8)
    >>> rows = flowpipe.dense_trajectories(frames, kind="dt", scale_num=1)
    >>> rows.hog.shape[1], rows.hof.shape[1], rows.mbhx.shape[1]
    (96, 108, 96)
    >>> steps = rows.trajectory.reshape(len(rows), 15, 2)  # over the length of the track
    >>> bool(np.allclose(np.median(steps, axis=0), [1 / 15, 0], atol=0.01))
    True
    """
    unknown = [name for name in parameters if name not in _NAMES]
    if unknown:
        raise ParameterError(
            f"{unknown[0]!r} is no parameter of trajectories; they are {', '.join(_NAMES)}"
        )
    chosen = TrajectoryParameters(kind=kind, **parameters)
    n_frames = 0

    def counted() -> Iterator[NDArray[np.uint8]]:
        nonlocal n_frames
        for frame in _frames(video_or_frames):
            n_frames += 1
            yield frame

    batches = [_empty(chosen), *extract(counted(), chosen)]
    rows = Trajectories(
        **{
            field.name: np.concatenate([getattr(batch, field.name) for batch in batches])
            for field in fields(Trajectories)
        }
    )
    set_times(rows.info, chosen, n_frames)
    return rows


def _frames(
    video_or_frames: str | os.PathLike[str] | NDArray[np.uint8],
) -> Iterator[NDArray[np.uint8]]:
    """Yield (H, W, 3) uint8 BGR frames."""
    if isinstance(video_or_frames, str | os.PathLike):
        video.require_whole(video_or_frames)
        for frame in video.frames(video_or_frames):
            yield frame.image
        return
    array = np.asarray(video_or_frames)
    grey = array.ndim == 3
    if array.dtype != np.uint8 or not (grey or (array.ndim == 4 and array.shape[3] == 3)):
        raise ParameterError(
            f"frames are {array.dtype} {array.shape}; they must be uint8 (T, H, W, 3) or (T, H, W)"
        )
    for image in array:
        # The weights of grey levels add up to 1 exactly, so that these come back unchanged.
        order = cv2.COLOR_GRAY2BGR if grey else cv2.COLOR_RGB2BGR
        yield np.asarray(cv2.cvtColor(image, order), np.uint8)


def _empty(parameters: TrajectoryParameters) -> Trajectories:
    """Return no rows, of the right widths."""
    widths = parameters.widths.items()
    return Trajectories(
        **{name: np.empty((0, width), np.float32) for name, width in widths},
        points=np.empty((0, parameters.track_length + 1, 2), np.float32),
    )
