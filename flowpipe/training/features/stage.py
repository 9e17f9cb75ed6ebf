"""Which windows of a clip have a feature, as options and as first fields or frames.

Windows begin at 0, stride, 2 stride, ... and lie inside the clip: ``(n - length) // stride + 1`` of
them, as in ActionFormer's, OpenTAD's and video_features' I3D features. A layout with a feature per
frame (MS-TCN) takes the window around each frame, and repeats the first and the last field or frame
where the window leaves the clip. A clip that is shorter than a window has one, in which its last
field or frame is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from tyro.conf import arg

from flowpipe._options import NameIn
from flowpipe.errors import ParameterError, check_range
from flowpipe.runner.json_files import Json
from flowpipe.training.features.layouts import LAYOUTS, FeatureLayout
from flowpipe.training.testing import CROPS, Crops


@dataclass(frozen=True, slots=True)
class FeatureStage:
    """Windows of clips, and how their features are stored."""

    length: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: what the network sees)")
    ] = None
    """Number of flow fields or frames from the first to the last of a window. Trajectories need it:
    they have none of their own. For --maps, of a window of a 3-D network."""
    stride: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: the length; 1 for ms-tcn)")
    ] = None
    """Number of fields or frames from the start of a window to that of the next."""
    layout: Annotated[str, NameIn(LAYOUTS)] = "npy"
    """Names, axes and windows as another program reads them: (T, F) arrays with the clips' folders
    (npy) or without them (actionformer, opentad), with times beside them (video-features), or
    (F, frames), a feature per frame (ms-tcn)."""
    layer: Annotated[
        str | None,
        arg(metavar="NAME", help_behavior_hint="(default: what the last layer sees)"),
    ] = None
    """Layer of a network whose output is the feature: fc6 or fc7 of c3d."""
    maps: Annotated[str | None, arg(metavar="LAYER", help_behavior_hint="(default: features)")] = (
        None
    )
    """Store the maps of a layer in place of features, (T, H, W, C) float16. A 2-D network has one
    of every frame or stack of flow: layer3 of a ResNet, features.14.conv.0 of mobilenet_v2. A 3-D
    network has one of every few frames: Mixed_4f of i3d."""
    tokens: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: features)")] = None
    """Store the tokens of the last N blocks of a vision transformer in place of features, with
    their queries and keys, (T, 3 N, tokens, C) float16: of vit_b_16, clip-vit-b-16 or
    timesformer-space."""
    short_side: Annotated[
        int | None, arg(metavar="PIXELS", help_behavior_hint="(default: the network's input)")
    ] = None
    """Length that the short side of the frame is scaled to, for --maps and --tokens. Networks of a
    fixed size see its centre, others all of it."""
    crops: Crops = 1
    """Crops of a window whose features are averaged: the centre (1), three along the longer side
    (3), or corners, centre and their mirror images (10)."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ParameterError(
                f"layout is {self.layout!r}; it must be one of {', '.join(LAYOUTS)}"
            )
        if self.crops not in CROPS:
            raise ParameterError(f"crops is {self.crops}; it must be 1, 3 or 10")
        if self.length is not None:
            check_range("length", self.length, 1, 10000)
        if self.stride is not None:
            check_range("stride", self.stride, 1)
            if self.entry.per_frame and self.stride != 1:
                raise ParameterError(
                    f"stride is {self.stride}; layout {self.layout} has a feature per frame, and "
                    "stride must be 1"
                )
        if not self.stores_maps and self.short_side is not None:
            raise ParameterError(
                f"short_side is {self.short_side}; it applies to maps and tokens, and none are "
                "asked for"
            )
        if self.stores_maps:
            self._check_maps()

    def _check_maps(self) -> None:
        """Check what is asked for with maps or tokens."""
        if self.maps is not None and self.tokens is not None:
            raise ParameterError(
                f"maps is {self.maps!r} and tokens {self.tokens}; a folder holds one of them"
            )
        for name, usual in (("layout", "npy"), ("layer", None), ("crops", 1)):
            if (value := getattr(self, name)) != usual:
                raise ParameterError(
                    f"{name} is {value!r}; it applies to features, and {self.stored} are asked for"
                )
        if self.tokens is not None:
            check_range("tokens", self.tokens, 1, 1000)
        if self.short_side is not None:
            check_range("short_side", self.short_side, 16, 4096)

    @property
    def stores_maps(self) -> bool:
        """Whether maps or tokens are stored in place of features."""
        return self.maps is not None or self.tokens is not None

    @property
    def stored(self) -> str:
        """What is stored, in the plural, for messages."""
        if self.tokens is not None:
            return f"tokens of {self.tokens} blocks"
        return "features" if self.maps is None else f"maps of {self.maps}"

    @property
    def entry(self) -> FeatureLayout:
        """The entry of the table of layouts."""
        return LAYOUTS[self.layout]

    @property
    def windows(self) -> Windows:
        """The windows; the length is given."""
        assert self.length is not None
        stride = 1 if self.entry.per_frame else self.stride or self.length
        return Windows(self.length, stride, self.entry.per_frame)

    @property
    def map_stride(self) -> int:
        """Number of fields or frames from one map to the next."""
        return self.stride or 1

    def of_length(self, length: int) -> FeatureStage:
        """Return this with a length, where none was given."""
        return self if self.length is not None else replace(self, length=length)

    def description(self) -> Json:
        """Return what ``stage.json`` says of the windows, or of the maps."""
        if self.stores_maps:
            what = {"tokens": self.tokens} if self.maps is None else {"maps": self.maps}
            window = {} if self.length is None else {"length": self.length}
            return {
                "stage": "features",
                **what,
                "short_side": self.short_side,
                **window,
                "stride": self.map_stride,
            }
        windows = self.windows
        layer = {} if self.layer is None else {"layer": self.layer}
        return {
            **layer,
            "stage": "features",
            "length": windows.length,
            "stride": windows.stride,
            "layout": self.layout,
            "crops": self.crops,
        }


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a clip.

    Attributes
    ----------
    length, stride
        In flow fields or frames.
    per_frame
        There is one around each frame; the stride is 1.
    """

    length: int
    stride: int
    per_frame: bool = False

    def starts(self, n: int, frames: int) -> range:
        """Return the first field or frame of each window, counted from 0.

        Parameters
        ----------
        n
            Number of flow fields, frames or differences of the clip, at least 1.
        frames
            Number of its frames.

        Returns
        -------
        range
            Negative where a window begins before the clip.

        Examples
        --------
        >>> list(Windows(length=16, stride=4).starts(30, 30))
        [0, 4, 8, 12]
        >>> list(Windows(length=4, stride=1, per_frame=True).starts(5, 6))
        [-2, -1, 0, 1, 2, 3]
        """
        if self.per_frame:
            before = self.length // 2
            return range(-before, frames - before)
        return range(0, max(n - self.length, 0) + 1, self.stride)
