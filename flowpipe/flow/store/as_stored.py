"""What flow and frames are once they have been stored and read again, without a disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.flow import quantize
from flowpipe.flow.store import codecs
from flowpipe.flow.store.layouts import QUALITY, FloatType, layout


@dataclass(frozen=True, slots=True)
class AsStored:
    """Change flow as storing and reading it does.

    Attributes
    ----------
    layout
        How it would be stored.
    bound
        Displacement in pixels that saturates the levels.
    quality
        JPEG quality; None for the default.
    dtype
        Number type of the layouts npy and h5; None for float32.

    Examples
    --------
    >>> flow = np.full((2, 16, 16), 0.1, np.float32)
    >>> int(AsStored("zip", 20.0).levels(flow)[0, 0, 0])
    128
    """

    layout: str
    bound: float
    quality: int | None = None
    dtype: FloatType | None = None

    def levels(self, flow: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return (2, H, W) grey levels of a (2, H, W) flow field in pixels."""
        coding = layout(self.layout).coding
        if coding == "float":
            flow = flow.astype(self.dtype or "float32").astype(np.float32)
        elif coding == "kitti":
            flow = codecs.decode_kitti(codecs.encode_kitti(flow), "flow")
        levels = quantize.to_uint8(flow, self.bound)
        return levels if coding != "jpeg" else self._through_jpeg(levels)

    def flow(self, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (2, H, W) pixels of a (2, H, W) flow field in pixels, decoded without bias."""
        kind = layout(self.layout)
        if kind.eight_bit:
            decoded = quantize.from_uint8(self.levels(flow), self.bound)
            decoded += np.float32(self.bound / 255.0)  # in two steps, as a FlowReader does
            return decoded
        if kind.coding == "kitti":
            return codecs.decode_kitti(codecs.encode_kitti(flow), "flow")
        return flow.astype(self.dtype or "float32").astype(np.float32)

    def _through_jpeg(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        coded = [codecs.encode_jpeg(plane, self.quality or QUALITY) for plane in levels]
        return np.stack([codecs.decode_grey(data, "flow") for data in coded])


def image_as_stored(image: NDArray[np.uint8], quality: int | None = None) -> NDArray[np.uint8]:
    """Return a (H, W, 3) BGR frame as it is after it was stored as a JPEG."""
    return codecs.decode_bgr(codecs.encode_jpeg(image, quality or QUALITY), "frame")
