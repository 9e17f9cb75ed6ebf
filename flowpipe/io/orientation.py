"""The display matrix of a video: how its frames are turned and mirrored before they are shown.

ISO base media, Matroska and H.264 say by a 3x3 matrix where a stored pixel (p, q) is displayed:
x = a p + c q, y = b p + d q. Cameras write quarter turns and mirrors; the matrix is applied as the
ffmpeg program does, with other angles rounded to the nearest quarter turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

# A worker has one thread. PyAV that lacks the option converts in one anyway.
_ONE_THREAD: dict[str, int] = (
    {"threads": 1} if "threads" in (VideoFrame.reformat.__doc__ or "") else {}
)


@dataclass(frozen=True, slots=True)
class Orientation:
    """What is done to the stored frames: first transposed, then flipped.

    Attributes
    ----------
    transpose
        Rows become columns.
    flip_x, flip_y
        Left and right, top and bottom change places.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether the displayed frames are mirror images of the stored ones."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees, counter-clockwise, by which frames are turned, after mirroring left to right."""
        if self.transpose:
            return 90 if self.flip_y != self.mirrored else 270
        return 180 if self.flip_y else 0

    def upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an (H, W, 3) image as it is displayed."""
        if self == _AS_STORED:
            return image
        if self.transpose:
            image = image.swapaxes(0, 1)
        return np.ascontiguousarray(image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


_AS_STORED = Orientation()


def orientation(picture: VideoFrame) -> Orientation:
    """Return the orientation that the display matrix of a decoded frame asks for."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData) or data.buffer_size < 36:
        return _AS_STORED
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(int).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(False, flip_x=a < 0, flip_y=d < 0)


class UprightImages:
    """Convert the decoded frames of one stream to BGR images, as they are displayed."""

    def __init__(self) -> None:
        self._turned = _AS_STORED
        self._angle: int | None = None

    def __call__(self, picture: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
        """Return a (height, width, 3) uint8 image, turned as the display matrix asks for.

        Raises
        ------
        av.error.FFmpegError
            The frame is damaged, so that its colours cannot be converted.
        """
        if picture.rotation != self._angle:  # the matrix itself is slow to read
            self._turned, self._angle = orientation(picture), picture.rotation
        coloured = picture.reformat(
            width, height, "bgr24", interpolation=Interpolation.BICUBIC, **_ONE_THREAD
        )
        return self._turned.upright(np.asarray(coloured.to_ndarray(), np.uint8))
