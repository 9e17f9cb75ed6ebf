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
from flowpipe.training.data.stacks import ZERO
from flowpipe.training.data.views import (
    Compose,
    Pairs,
    RandomView,
    crop_offsets,
    flipped,
    resized,
)

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of RGB levels from 0 to 255."""

_SCALES = (1.0, 0.875, 0.75, 0.66)
FLOW_SCALES = _SCALES[:3]


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
        scaled = resized(snippets, high, wide)
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
        """Normalise (..., C, H, W), where it lies."""
        repeats = snippets.shape[-3] // len(self.mean)
        mean, std = (
            torch.tensor(values, device=snippets.device).repeat(repeats)[:, None, None]
            for values in (self.mean, self.std)
        )
        return snippets.to(torch.float32).sub_(mean).div_(std)


def train_transform(
    modality: Modality,
    size: int,
    *,
    jitter: float = 0.0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    scales: Sequence[float] | None = None,
    normalise: bool = True,
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
    normalise
        False leaves the levels as they are, a quarter of the bytes, for :func:`normalisation` on
        the network's device.

    Returns
    -------
    Compose
        (segments, C, H, W) to (segments, C, size, size) float32; without `normalise` of the type
        that comes in.

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
    last = (normalisation(modality, mean, std),) if normalise else ()
    return Compose((RandomView(size, tuple(scales), _is_flow(modality)), *colours, *last))


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


def _along(height: int, width: int, size: int) -> Pairs:
    """Return (top, left) of three crops along the longer side, as PySlowFast's ``uniform_crop``."""
    down, right = height - size, width - size
    if height > width:
        return [(y, -(-right // 2)) for y in (0, -(-down // 2), down)]
    return [(-(-down // 2), x) for x in (0, -(-right // 2), right)]
