"""Encode videos without loss, the same bytes on every machine.

FFV1 in AVI: compression does not reveal motion in single frames, every machine decodes the same
bits, and FFmpeg encodes it without another library.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import BinaryIO

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flowpipe.errors import ParameterError


def encode_lossless(
    target: BinaryIO, frames: Iterable[NDArray[np.uint8]], frame_rate: Fraction | int
) -> int:
    """Encode frames as FFV1 in AVI, and return their number.

    Parameters
    ----------
    target
        A file open for writing; it has to be seekable.
    frames
        (H, W, 3) uint8 BGR, all of the size of the first, which is even.
    frame_rate
        Frames per second.

    Raises
    ------
    ParameterError
        The size is odd, or changes.
    """
    count = 0
    size: tuple[int, ...] | None = None
    # bitexact: no date, program version or random number goes into the file
    with av.open(target, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        options = {"level": "3", "context": "1", "slices": "4"}
        stream = container.add_stream("ffv1", rate=frame_rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for image in frames:
            if size is None:
                size = image.shape
                stream.height, stream.width = size[:2]
            if image.shape != size or size[0] % 2 or size[1] % 2:
                raise ParameterError(
                    f"a frame has the shape {image.shape}; all should be {size}, of even size"
                )
            planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
            count += 1
        container.mux(stream.encode(None))
    return count
