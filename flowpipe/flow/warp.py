"""``warp-flow``: stored flow without the camera's motion.

Wang and Schmid (ICCV 2013) warp the second frame of a pair back by the camera's homography and
compute flow to that; TSN (Wang et al., ECCV 2016) trains a stream on such warped flow. Flow to the
warped frame is ``w`` with ``H (p + w) = p + v`` where ``v`` is the flow to the frame as it was, so
``w = H^-1 (p + v) - p`` follows from stored flow, and nothing is computed twice.
dense_flow's ``extract_warp_gpu`` computes it again, which differs where the solver fails on one of
the two pairs. The homography is that of the improved trajectories (:mod:`.camera`): ORB matches and
the flow at corners, RANSAC, the identity where too little supports one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.camera.corners import CornerStrength
from flowpipe.camera.motion import CameraMotion, remove_motion
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.flow.store import (
    FlowReader,
    FlowWriter,
    StoredClip,
    is_up_to_date,
    layout,
)
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.io import video
from flowpipe.io.source import resized
from flowpipe.runner import provenance
from flowpipe.runner.pool import Advance, Done


class FramesGoneError(FlowpipeError):
    """Stored flow has no frames, and its video is not there any more."""

    kind: ClassVar[str] = "frames-gone"


@dataclass(frozen=True, slots=True)
class WarpFlow:
    """The work of ``warp-flow`` on one clip."""

    stage: WarpStage
    out: Path
    overwrite: bool = False

    def __call__(self, clip: StoredClip, advance: Advance) -> Done:
        """Write the clip's flow without the camera's motion, unless it is there.

        Raises
        ------
        FormatError, FramesGoneError, VideoError
            The flow or its frames cannot be used. Nothing is written then.
        """
        with FlowReader(clip) as reader:
            kind = layout(self.stage.layout)
            if not self.overwrite and is_up_to_date(self.out, kind, reader):
                return Done(skipped=True)
            if reader.meta.step != 1:
                raise FormatError(
                    f"flow of {clip.name!r} has step {reader.meta.step}; "
                    "the camera is followed from frame to frame, step 1"
                )
            self._write(reader, advance)
        return Done()

    def _write(self, reader: FlowReader, advance: Advance) -> None:
        meta = reader.meta
        with FlowWriter(
            self.out,
            reader.clip.name,
            layout(self.stage.layout),
            bound=meta.level_bound(),
            quality=self.stage.quality,
            dtype=self.stage.dtype,
        ) as writer:
            for flow in without_camera(greys_of(reader), fields_of(reader)):
                writer.add_flow(flow)
                advance(1)
            source = dict(meta.source)
            if reader.video is not None:
                source["path"] = Path(os.path.relpath(reader.video, self.out)).as_posix()
            writer.commit(
                width=meta.width,
                height=meta.height,
                n_frames=meta.n_frames,
                step=meta.step,
                source=source,
                method=f"warped-{meta.method or 'unknown'}",
                parameters=meta.parameters,
                solver=meta.solver,
                solver_version=meta.solver_version,
                fps=meta.fps,
                times=meta.times,
                truncated=meta.truncated,
            )


def without_camera(
    greys: Iterator[NDArray[np.uint8]], flows: Iterator[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Take the camera's motion out of the flow of consecutive frames.

    Parameters
    ----------
    greys
        (H, W) uint8 frames, one more than there are flow fields.
    flows
        (2, H, W) float32 in pixels, from each frame to the next.

    Yields
    ------
    (2, H, W) float32
        What moves by itself, in pixels of the first frame of each pair.
    """
    first = next(greys)
    height, width = first.shape
    camera = CameraMotion(height, width)
    before, now = CornerStrength(height, width), CornerStrength(height, width)
    now.measure(first)
    camera.start(first, now, None)
    for grey, flow in zip(greys, flows, strict=True):
        before, now = now, before
        now.measure(grey)
        homography = camera.estimate(before, grey, now, flow, None)
        own = np.empty_like(flow)
        remove_motion(flow, np.linalg.inv(homography), own)
        yield own


def fields_of(reader: FlowReader) -> Iterator[NDArray[np.float32]]:
    """Return the flow fields of a clip, 8 bit decoded without bias."""
    for index in range(len(reader)):
        yield reader.flow(index, zero=127.5)


def greys_of(reader: FlowReader) -> Iterator[NDArray[np.uint8]]:
    """The frames of a clip in grey, at the size of its flow: stored with it, or of its video.

    Raises
    ------
    FramesGoneError
        There are neither.
    FormatError
        The video is not the one that the flow was made from, or has fewer frames.
    """
    meta, path = reader.meta, reader.video
    if meta.n_images == meta.n_frames:
        for index in range(meta.n_images):
            yield _grey(reader.image(index))
        return
    if path is None or not path.exists():
        where = f"its video {str(path)!r} is gone" if path else "its video is not known"
        raise FramesGoneError(f"{reader.clip.name!r} holds no frames, and {where}")
    if any(meta.source.get(key) != value for key, value in provenance.fingerprint(path).items()):
        raise FormatError(f"{str(path)!r} is not the video that the flow was made from")
    count = 0
    for frame in video.frames(path, max_frames=meta.n_frames, keep_damaged=True):
        yield _grey(resized(frame.image, (meta.width, meta.height)))
        count += 1
    if count < meta.n_frames:
        raise FormatError(f"{str(path)!r} has {count} frames; its flow is of {meta.n_frames}")


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
