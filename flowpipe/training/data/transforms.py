"""Crops, flips and normalisation of snippets, with the published networks' choices.

Training, as in TSN (Wang et al., ECCV 2016) and tsn-pytorch: a crop whose sides are each drawn from
1, .875, .75 (RGB also .66) of the short side, one step apart at most, at one of 13 fixed places,
scaled to the network's input; flipped half of the time. Tests, as in TSN: the short side scaled to
8/7 of the input (256 for 224), four corners and the centre, each also flipped; or, as PySlowFast
tests networks on consecutive frames, three squares along the longer side.

**Flipping flow.** A mirrored scene moves the other way, so the x channels are negated wherever
flow is flipped, in training and in tests: ``256 - level``, so that 128 stays 128 and what the
network sees, ``level - 128``, is exactly negated; 0 becomes 255. TSN's ``255 - level`` makes 127 of
still pixels, which tells the network that a picture was flipped. (Among the published loaders, some
flip in training without negating, others negate in training and not in the ten crops.)

**Range.** Flow becomes ``(level - 128) / 128``, from -1 to 1, as in mmaction2. tsn-pytorch's
``(level / 255 - .5) / .226`` is 2.2 times that, and leaves still pixels at 0.009.
Displacements are not rescaled with the picture: no published loader does it.

Randomness comes from the generator that is handed in. All snippets of a clip are treated alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from flowpipe.errors import ParameterError
from flowpipe.models.clip_input import Modality
from flowpipe.training.data.clips import Transform
from flowpipe.training.data.stacks import ZERO, X

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of RGB levels from 0 to 255."""

_SCALES = (1.0, 0.875, 0.75, 0.66)
FLOW_SCALES = _SCALES[:3]


Pairs = list[tuple[int, int]]
"""(height, width), or (y, x)."""


def crop_offsets(height: int, width: int, crop_height: int, crop_width: int) -> Pairs:
    """The 13 places of a crop: (top, left) of corners, centre, middles of edges, and quarters.

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


@dataclass(frozen=True, slots=True)
class ScaledCrop:
    """One of the 13 crops at a drawn scale, scaled to size x size pixels."""

    size: int
    scales: tuple[float, ...]

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Crop all snippets alike."""
        height, width = snippets.shape[-2:]
        high, wide = _drawn(crop_sizes(height, width, self.size, self.scales), generator)
        top, left = _drawn(crop_offsets(height, width, high, wide), generator)
        return _resized(snippets[..., top : top + high, left : left + wide], self.size, self.size)


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirror left and right half of the time; flow is then negated in x."""

    is_flow: bool

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Flip all snippets, or none."""
        return flipped(snippets, self.is_flow) if _uniform(generator) < 0.5 else snippets


def flipped(snippets: Tensor, is_flow: bool) -> Tensor:
    """Return mirrored left and right, the x channels of flow negated."""
    mirrored = tvf.horizontal_flip(snippets)
    return negate_x(mirrored) if is_flow else mirrored


@dataclass(frozen=True, slots=True)
class Jitter:
    """torchvision's ``ColorJitter`` of RGB frames, the same for all frames of a clip.

    Brightness, contrast and saturation change by up to `strength`, hue by a quarter of it.
    """

    strength: float

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Change the colours of (segments, 3 * length, H, W) uint8 frames."""
        change = v2.ColorJitter(*[self.strength] * 3, hue=self.strength / 4)
        frames = snippets.reshape(len(snippets), -1, 3, *snippets.shape[2:])
        seed = int(torch.randint(1 << 62, (), generator=generator))
        # torchvision's transforms know the global generator only; that of a GPU is left alone.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            changed: Tensor = change(frames)
        return changed.flatten(1, 2)


@dataclass(frozen=True, slots=True)
class TestCrops:
    """Four corners and the centre, each as it is and flipped; three along the longer side; or one.

    The short side is scaled first.
    """

    __test__ = False  # no test of pytest's

    size: int
    crops: Literal[1, 3, 10]
    is_flow: bool
    short_side: int

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Return (segments * crops, C, size, size), the crops of the first snippet first."""
        height, width = snippets.shape[-2:]
        scale = self.short_side / min(height, width)
        high, wide = max(self.size, round(height * scale)), max(self.size, round(width * scale))
        scaled = _resized(snippets, high, wide)
        if self.crops == 1:
            centre: Tensor = tvf.center_crop(scaled, [self.size, self.size])
            return centre
        if self.crops == 3:
            places = _along(high, wide, self.size)
        else:
            places = crop_offsets(high, wide, self.size, self.size)[:5]
        crops = [scaled[..., y : y + self.size, x : x + self.size] for y, x in places]
        if self.crops == 10:
            crops += [flipped(crop, self.is_flow) for crop in crops]
        return torch.stack(crops, dim=1).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Normalise:
    """``(level - mean) / std`` as float32; mean and std repeat over the channels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Normalise (N, C, H, W)."""
        repeats = snippets.shape[1] // len(self.mean)
        mean = torch.tensor(self.mean).repeat(repeats)[:, None, None]
        std = torch.tensor(self.std).repeat(repeats)[:, None, None]
        return snippets.to(torch.float32).sub_(mean).div_(std)


@dataclass(frozen=True, slots=True)
class Compose:
    """One transform after the other, all from the same generator."""

    transforms: tuple[Transform, ...]

    def __call__(self, snippets: Tensor, generator: torch.Generator) -> Tensor:
        """Apply them in order."""
        for transform in self.transforms:
            snippets = transform(snippets, generator)
        return snippets


def train_transform(
    modality: Modality,
    size: int,
    *,
    jitter: float = 0.0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    scales: Sequence[float] | None = None,
) -> Compose:
    """Return what training does to the snippets of a clip.

    Parameters
    ----------
    modality
        What the snippets hold.
    size
        Side of the network's input, in pixels.
    jitter
        Strength of random changes of colour, ``rgb`` only, from 0 to 1. TSN has none.
    mean, std
        Normalisation of RGB levels, in red, green, blue; by default ImageNet's.
    scales
        Sides of the crops, as parts of the short side; by default those of the modality.

    Returns
    -------
    Compose
        (segments, C, H, W) to (segments, C, size, size) float32.

    Raises
    ------
    ParameterError
        A parameter is out of its range.

    Examples
    --------
    >>> import flowpipe
    >>> stacks = flowpipe.FlowClips(
    ...     "flow", [("zoom/g01_c01_still", 0)], transform=flowpipe.train_transform("flow", 112)
    ... )
    >>> stacks[0][0].shape
    torch.Size([3, 10, 112, 112])
    """
    _check(modality, size)
    if not 0 <= jitter <= 1 or (jitter and modality != "rgb"):
        raise ParameterError(f"jitter is {jitter}; it must be from 0 to 1, and 0 for {modality}")
    colours = (Jitter(jitter),) if jitter else ()
    if scales is None:
        scales = FLOW_SCALES if _is_flow(modality) else _SCALES
    steps = (ScaledCrop(size, tuple(scales)), Flip(_is_flow(modality)), *colours)
    return Compose((*steps, normalisation(modality, mean, std)))


def test_transform(
    modality: Modality,
    size: int,
    *,
    crops: Literal[1, 3, 10] = 10,  # noqa: PT028
    short_side: int | None = None,  # noqa: PT028
    mean: Sequence[float] = IMAGENET_MEAN,  # noqa: PT028
    std: Sequence[float] = IMAGENET_STD,  # noqa: PT028
) -> Compose:
    """Return what a test does to the snippets of a clip; nothing in it is random.

    Each snippet is treated by itself: 25 snippets of 10 crops are 500 MB at 224 pixels, and may as
    well be given a few at a time.

    Parameters
    ----------
    modality, size, mean, std
        As for :func:`train_transform`.
    crops
        10: corners, centre and their mirror images; 3: squares along the longer side, from left or
        top; 1: the centre.
    short_side
        Length in pixels that the short side is scaled to; by default 8/7 of `size`.

    Returns
    -------
    Compose
        (segments, C, H, W) to (segments * crops, C, size, size) float32, the crops of the first
        snippet first.

    Raises
    ------
    ParameterError
        A parameter is out of its range.

    Examples
    --------
    >>> import flowpipe
    >>> stacks = flowpipe.FlowClips(
    ...     "flow",
    ...     [("zoom/g01_c01_still", 0)],
    ...     segments=2,
    ...     sampling="test",
    ...     transform=flowpipe.test_transform("flow", 112),
    ... )
    >>> stacks[0][0].shape  # 2 snippets of 10 crops
    torch.Size([20, 10, 112, 112])
    """
    _check(modality, size)
    if crops not in (1, 3, 10):
        raise ParameterError(f"crops is {crops}; it must be 1, 3 or 10")
    if short_side is not None and short_side < size:
        raise ParameterError(f"short_side is {short_side}; it must be at least size, {size}")
    crop = TestCrops(size, crops, _is_flow(modality), short_side or round(size * 8 / 7))
    return Compose((crop, normalisation(modality, mean, std)))


def normalisation(
    modality: Modality,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Normalise:
    """Return the normalisation to the range that a network of a modality takes.

    ``rgb``: the mean and deviation given. Flow: see the top of this page. ``rgb-diff``: the
    difference of two frames that were normalised as ``rgb``.
    """
    if _is_flow(modality):
        return Normalise((float(ZERO),), (float(ZERO),))
    if modality == "rgb-diff":
        return Normalise((0.0,) * 3, tuple(std))
    return Normalise(tuple(mean), tuple(std))


def _is_flow(modality: Modality) -> bool:
    return modality in ("flow", "warped-flow")


def _check(modality: Modality, size: int) -> None:
    if modality not in get_args(Modality):
        raise ParameterError(
            f"modality is {modality!r}; it must be one of {', '.join(get_args(Modality))}"
        )
    if not 16 <= size <= 4096:
        raise ParameterError(f"size is {size}; it must be from 16 to 4096 pixels")


def _resized(snippets: Tensor, height: int, width: int) -> Tensor:
    # torchvision takes half as long for images of three channels as for ten; the levels are equal.
    planes = snippets.shape[0] * snippets.shape[1]
    images = snippets.reshape(-1, 1 if planes % 3 else 3, *snippets.shape[2:])
    resized: Tensor = tvf.resize(images, [height, width], antialias=True)
    return resized.reshape(*snippets.shape[:2], height, width)


def _along(height: int, width: int, size: int) -> Pairs:
    """Return (top, left) of three crops along the longer side, as PySlowFast's ``uniform_crop``."""
    down, right = height - size, width - size
    if height > width:
        return [(y, -(-right // 2)) for y in (0, -(-down // 2), down)]
    return [(-(-down // 2), x) for x in (0, -(-right // 2), right)]


def _drawn(choices: Pairs, generator: torch.Generator) -> tuple[int, int]:
    return choices[int(torch.randint(len(choices), (), generator=generator).item())]


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
