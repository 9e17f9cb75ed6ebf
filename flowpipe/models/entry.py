"""What the table of networks has for each: how it is built, trained and tested, and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from flowpipe.models.clip_input import BOTH, ClipInput, Modality

if TYPE_CHECKING:
    from torch import nn

    from flowpipe.models.names import State

Takes = Literal["snippets", "segments", "frames", "both"]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
Options = tuple[tuple[str, Any], ...]

IMAGENET: Normalisation = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
PYSLOWFAST: Normalisation = ((114.75,) * 3, (57.375,) * 3)


def frames_of(length: int, size: int = 224, stride: int = 1, short: str = "refuse") -> Options:
    """Return the input of a network on consecutive frames."""
    return (
        ("segments", 1), ("length", length), ("input_size", size), ("frame_stride", stride),
        ("short_clips", short),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a published network was trained.

    Attributes
    ----------
    options
        Options of training and of the network that differ from TSN's, by name.
    on
        The data set, and what the training began with.
    """

    options: Options
    on: str


@dataclass(frozen=True, slots=True)
class Views:
    """Views of a test clip whose scores are averaged.

    Attributes
    ----------
    clips
        Number of snippets or clips at equal steps; ``all``: every frame, once.
    crops
        Number of crops of each.
    short_side
        Length that the short side of frames is scaled to, in sides of the network's input.
    crop
        Side of a crop, in sides of the network's input.
    average
        What is averaged: scores before the softmax, or probabilities.
    """

    clips: int | Literal["all"]
    crops: Literal[1, 3, 10]
    short_side: float = 8 / 7
    crop: float = 1.0
    average: Literal["scores", "probabilities"] = "scores"


@dataclass(frozen=True, slots=True)
class Model:
    """A network that a user can ask for by name.

    Attributes
    ----------
    build
        Return the network for a :class:`~flowpipe.models.clip_input.ClipInput`. With ``snippets``
        it takes a backbone's name too, and maps (N, C, H, W) to (N, classes) with a linear layer at
        the end; with ``both`` it takes the name of the backbone of both streams. Others have
        ``features(clips)``, (B, C, T, H, W) -> (B, T', F), ``n_features``, and the name of their
        last layer in ``head_name``.
    takes
        ``snippets``: a 2-D network that scores each snippet, or relates the segments of a clip;
        ``segments``: a clip whose T are the segments; ``frames``: a clip whose T are the
        consecutive frames of a snippet; ``both``: a frame and the flow around it of each segment.
    title
        One line for lists.
    published
        Authors, title, venue.
    accuracy
        Published accuracy, with the data set.
    head
        Return the module that maps the features of the segments, (B, K, F), to scores; None for a
        linear layer on each and a consensus.
    input
        Changes of the input that the preset gives: those that the paper has.
    recipe
        How the authors trained it, if they say so.
    views
        How the authors test it, if they say so.
    weights
        Where weights come from, besides files that ``train`` has written.
    torchvision
        The network of torchvision whose weights it takes by their names. Where there is a backbone,
        those of the backbone are taken.
    finetune
        Changes of the options of training that the preset ``finetune`` gives.
    normalisation
        Mean and standard deviation of RGB levels of 0 to 255, per channel.
    names
        Return published weights under the names of the network; None where they have them.
    any_length
        It takes clips of more frames than it is trained on.
    fixed_size
        It takes no other size of frames than it is trained on.
    bgr
        It takes the channels of frames in the order blue, green, red, as networks from Caffe do.
    layers
        Names of layers whose output can be the feature of a clip, besides what the last layer sees.
        The network then has ``layer_features(clips, layer)``, (B, C, T, H, W) -> (B, 1, F).
    maskable
        A masked autoencoder can be made of it: it has ``visible_tokens(clips, places)``, which
        encodes some places of a clip as if there were no others, and its ``tubelet`` and
        ``token_grid``, the extents of a token and the number of them along T, H and W.
    paired
        It also takes RGB frames with the flow around them, each for a part of its own.
    alpha
        Frames of its fast pathway for each of its slow one, where it has two; of a pair, the first
        takes flow and the second RGB frames.
    """

    build: Callable[..., nn.Module]
    takes: Takes
    title: str
    published: str
    accuracy: str = ""
    head: Callable[[int, int, int], nn.Module] | None = None
    relates_segments: bool = False
    input: Options = ()
    recipe: Recipe | None = None
    views: Views | None = None
    weights: str = ""
    torchvision: str = ""
    finetune: Options = ()
    normalisation: Normalisation = IMAGENET
    names: Callable[[State], State] | None = None
    any_length: bool = False
    fixed_size: bool = False
    bgr: bool = False
    layers: tuple[str, ...] = ()
    maskable: bool = False
    paired: bool = False
    alpha: int | None = None

    @property
    def has_backbone(self) -> bool:
        """Whether any 2-D network can be inside it."""
        return self.takes in ("snippets", "both")

    def suited(self, clip: ClipInput) -> ClipInput:
        """Return the input of a preset with the changes that this network needs."""
        return replace(clip, **self.changes(clip.modality))

    def changes(self, modality: Modality) -> dict[str, Any]:
        """Return the changes of the input of a preset that this network needs."""
        changes = dict(self.input)
        if modality == BOTH and self.alpha is not None:
            changes["fields_per_frame"] = self.alpha
        return changes
