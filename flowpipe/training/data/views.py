"""The part of a picture that a network sees: drawn first, so that only this part is read.

What is drawn for training is TSN's (Wang et al., ECCV 2016): a crop of one of few sizes at one of
13 places, scaled to the network's input, and flipped half of the time. A data set that knows the
view of a sample decodes no more of its JPEGs than the view shows, and scales all planes at once, in
8 bit. The levels are those of torchvision's antialiased resize of whole pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from flowpipe.errors import ParameterError
from flowpipe.training.data.stacks import ZERO, X

Transform = Callable[[Tensor, torch.Generator], Tensor]
"""Maps (segments, channels, H, W) to a network's input, with the generator's randomness."""

Pairs = list[tuple[int, int]]
"""(height, width), or (y, x)."""

SMALLEST = 16
"""Pixels of the side of an input: as many are computed at a time."""


def crop_offsets(height: int, width: int, crop_height: int, crop_width: int) -> Pairs:
    """Return the 13 places of a crop: (top, left) of corners, centre, edges' middles, quarters.

    TSN's and tsn-pytorch's, whose corners are multiples of a quarter of the margin rounded down:
    up to 3 pixels short of the right and lower edge.

    Raises
    ------
    ParameterError
        The crop is larger than the image.
    """
    if crop_height > height or crop_width > width:
        raise ParameterError(
            f"a crop of {crop_width}x{crop_height} does not fit into {width}x{height} pixels"
        )
    down, right = (height - crop_height) // 4, (width - crop_width) // 4
    steps = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]  # the test's five
    steps += [(2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    return [(y * down, x * right) for y, x in steps]


def crop_sizes(height: int, width: int, size: int, scales: Sequence[float]) -> Pairs:
    """Return (height, width) of the crops to draw from.

    Sides are the scales times the short side, within 3 pixels of `size` that itself; height and
    width are at most one scale apart (``max_distort=1``).
    """
    base = min(height, width)
    sides = [int(base * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 and size <= base else side for side in sides]
    return [
        (high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= 1
    ]


def negate_x(snippets: Tensor) -> Tensor:
    """Negate the x channels of (..., 2 L, H, W) uint8 flow about 128; 0 becomes 255."""
    snippets = snippets.clone()
    x = snippets[..., X, :, :]
    snippets[..., X, :, :] = (2 * ZERO - x.to(torch.int16)).clamp_(max=255).to(torch.uint8)
    return snippets


def flipped(snippets: Tensor, is_flow: bool) -> Tensor:
    """Return mirrored left and right, the x channels of flow negated."""
    mirrored = tvf.horizontal_flip(snippets)
    return negate_x(mirrored) if is_flow else mirrored


@dataclass(frozen=True, slots=True)
class View:
    """A crop that is scaled to a square, and perhaps mirrored.

    Attributes
    ----------
    top, left, height, width
        The crop, in pixels.
    size
        Side of what comes out, in pixels.
    flip
        Whether it is mirrored left and right.
    is_flow
        Whether the first of every two planes is negated about 128 when it is mirrored.
    """

    top: int
    left: int
    height: int
    width: int
    size: int
    flip: bool = False
    is_flow: bool = False

    def __post_init__(self) -> None:
        if self.size < SMALLEST:
            raise ParameterError(f"size is {self.size}; it must be {SMALLEST} pixels or more")
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1:
            raise ParameterError(f"a crop of {self._crop} has no pixels, or some outside")

    def cut(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return (N, size, size) of (N, H, W) planes of levels.

        Raises
        ------
        ParameterError
            The crop goes beyond them.
        """
        from flowpipe.training.data import view_loops

        out = np.empty((len(planes), self.size, self.size), np.uint8)
        self._check(planes.shape[1:])
        memory = view_loops.new_memory(self.height, self.width, self.size)
        view_loops.cut_planes(  # type: ignore[call-arg]
            planes, *self._arguments(), memory, out
        )
        return out

    def cut_snippets(self, snippets: Tensor) -> Tensor:
        """Return (..., C, size, size) of (..., C, H, W), of any type and on any device."""
        if snippets.dtype == torch.uint8 and snippets.device.type == "cpu":
            planes = snippets.reshape(-1, *snippets.shape[-2:])
            out = torch.from_numpy(self.cut(planes.numpy()))
            return out.reshape(*snippets.shape[:-2], self.size, self.size)
        rows = slice(self.top, self.top + self.height)
        crop = snippets[..., rows, self.left : self.left + self.width]
        scaled = resized(crop, self.size, self.size)
        return flipped(scaled, self.is_flow) if self.flip else scaled

    @property
    def _crop(self) -> str:
        return f"{self.width}x{self.height} pixels from ({self.left}, {self.top})"

    def _check(self, shape: tuple[int, ...]) -> None:
        height, width = shape
        if self.top + self.height > height or self.left + self.width > width:
            raise ParameterError(
                f"a crop of {self._crop} goes beyond a picture of {width}x{height} pixels"
            )

    def _arguments(self) -> tuple[Any, ...]:
        from flowpipe.training.data.view_loops import taps

        crop = (self.top, self.left, self.height, self.width)
        across, down = taps(self.width, self.size), taps(self.height, self.size)
        return crop, across, down, self.flip, self.is_flow


class Cutter:
    """Cuts views out of grey JPEGs without decoding the rest of them.

    Keeps the tables of the last picture, and memory, for each thread that uses it.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[Cutter], tuple[()]]:
        return Cutter, ()

    def cut(
        self, jpegs: Sequence[bytes], shape: tuple[int, int], view: View
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Cut a view out of pictures.

        Parameters
        ----------
        jpegs
            Of N grey pictures.
        shape
            Height and width that they should have.
        view
            What of them.

        Returns
        -------
        planes : (N, size, size) uint8
            The views.
        done : (N,) bool
            False for what is no plain grey JPEG of this size, or damaged; its plane is undefined.

        Raises
        ------
        ParameterError
            The crop goes beyond the pictures.
        """
        from flowpipe.flow.store.jpeg_loops import MARGIN
        from flowpipe.flow.store.jpeg_tables import new_tables
        from flowpipe.training.data import view_loops

        view._check(shape)
        own = self._own.__dict__
        longest = max(map(len, jpegs), default=0) + MARGIN
        if len(own.get("scan", ())) < longest:
            own["scan"] = np.empty(2 * longest, np.uint8)
        if "tables" not in own:
            own["tables"] = new_tables()
        if own.get("sizes") != (*shape, view.size):
            own["sizes"] = (*shape, view.size)
            own["memory"] = view_loops.new_memory(*shape, view.size)
        out = np.empty((len(jpegs), view.size, view.size), np.uint8)
        done = np.zeros(len(jpegs), np.bool_)
        data = np.frombuffer(b"".join(jpegs), np.uint8)
        ends = np.cumsum([len(jpeg) for jpeg in jpegs], dtype=np.int64)
        own_memory = own["scan"], own["tables"], own["memory"]
        view_loops.cut_jpegs(  # type: ignore[call-arg]
            data, ends, shape, *view._arguments(), *own_memory, out, done
        )
        return out, done


@dataclass(frozen=True, slots=True)
class RandomView:
    """One of the 13 crops at a drawn scale, scaled to size x size pixels, flipped half of the time.

    Attributes
    ----------
    size
        Side of the network's input, in pixels.
    scales
        Of the sides of crops, relative to the short side of the picture.
    is_flow
        Whether flipped snippets are negated in x.
    """

    size: int
    scales: tuple[float, ...]
    is_flow: bool

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Cut all snippets alike: (segments, C, H, W) to (segments, C, size, size)."""
        height, width = snippets.shape[-2:]
        return self.draw(height, width, generator).cut_snippets(snippets)

    def draw(self, height: int, width: int, generator: torch.Generator) -> View:
        """Draw a view of a picture."""
        high, wide = _drawn(crop_sizes(height, width, self.size, self.scales), generator)
        top, left = _drawn(crop_offsets(height, width, high, wide), generator)
        flip = float(torch.rand((), generator=generator)) < 0.5
        return View(top, left, high, wide, self.size, flip, self.is_flow)


@dataclass(frozen=True, slots=True)
class Compose:
    """One transform after the other, all from the same generator.

    A data set draws the view of a transform that begins with one before it reads.
    """

    transforms: tuple[Transform, ...]

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Apply them in order."""
        for transform in self.transforms:
            snippets = transform(snippets, generator)
        return snippets


def resized(snippets: Tensor, height: int, width: int) -> Tensor:
    """Return (..., C, H, W) scaled to height x width pixels, antialiased."""
    # torchvision takes half as long for images of three channels as for ten; the levels are equal.
    planes = snippets.shape[:-2].numel()
    images = snippets.reshape(-1, 1 if planes % 3 else 3, *snippets.shape[-2:])
    scaled: Tensor = tvf.resize(images, [height, width], antialias=True)
    return scaled.reshape(*snippets.shape[:-2], height, width)


def _drawn(choices: Pairs, generator: torch.Generator) -> tuple[int, int]:
    return choices[int(torch.randint(len(choices), (), generator=generator).item())]
