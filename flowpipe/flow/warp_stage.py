"""Parameters of ``warp-flow``."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from flowpipe.flow.store import QUALITY, DtypeOption, LayoutName, QualityOption, layout
from flowpipe.runner.json_files import Json


@dataclass(frozen=True, slots=True)
class WarpStage:
    """Everything that determines the warped flow of a folder, beside the flow."""

    layout: LayoutName = "zip"
    """How it is stored; see docs/formats.md."""
    dtype: DtypeOption = None
    """Number type of the layouts npy and h5."""
    quality: QualityOption = None
    """JPEG quality, 1 to 100."""

    def __post_init__(self) -> None:
        layout(self.layout).check_options(dtype=self.dtype, quality=self.quality)

    def description(self, upstream: Json | None) -> Json:
        """What ``stage.json`` says, with that of the flow's own folder where there is one."""
        coding = layout(self.layout).coding
        return {
            "stage": "warped-flow",
            "layout": self.layout,
            "dtype": self.dtype or "float32" if coding == "float" else None,
            "quality": self.quality or QUALITY if coding == "jpeg" else None,
            "opencv_version": cv2.__version__,
            "flow": upstream,
        }
