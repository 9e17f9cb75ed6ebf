"""Inflate the weights of networks on images into networks on clips.

J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017: a 2-D kernel is repeated
along time and divided by the number of repeats, so that the network answers to a clip of one
repeated picture as the 2-D network does to the picture, except near the ends of the clip, where
its convolutions see the padding. With the kernel in the middle and zeros around it (R. Girdhar et
al., "Detect-and-Track", CVPR 2018), it answers so to every frame of any clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from flowpipe.errors import FormatError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flowpipe.models.names import State

How = Literal["mean", "centre"]


def inflate(network2d: nn.Module, network3d: nn.Module, how: How = "mean") -> None:
    """Start a network on clips from the weights of one on images.

    Parameters
    ----------
    network2d
        Its weights have the names of those of `network3d`, or such names as
        ``network3d.from_images`` maps to them, as torchvision's ResNet does for
        :class:`~flowpipe.models.resnet3d.ResNet3D` and its GoogLeNet for
        :class:`~flowpipe.models.i3d.I3D`.
    network3d
        Any, or a network of :func:`flowpipe.create_model`. Its last layer stays as it is, and so do
        blocks that no network on images has, such as non-local ones.
    how
        ``mean``: each kernel is repeated along time and divided by the number of repeats;
        ``centre``: it is in the middle, between zeros.

    Raises
    ------
    FormatError
        The networks differ in a layer; the message names it.
    ParameterError
        There is no such way.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> images, clips = nn.Conv2d(1, 1, 3), nn.Conv3d(1, 1, (5, 3, 3))
    >>> inflate(images, clips)
    >>> picture = torch.randn(1, 1, 4, 4)
    >>> scores = clips(picture[:, :, None].expand(-1, -1, 5, -1, -1))
    >>> torch.allclose(scores[:, :, 0], images(picture), atol=1e-5)
    True
    """
    network3d = getattr(network3d, "backbone", network3d)
    state: State = dict(network2d.state_dict())
    renamed: Callable[[State], State] | None = getattr(network3d, "from_images", None)
    if renamed is not None:
        state = renamed(state)
    own = network3d.state_dict()
    plain: Mapping[str, str] = getattr(network3d, "plain_names", {name: name for name in own})
    head = f"{network3d.head_name}." if hasattr(network3d, "head_name") else None
    taken = {}
    for name, value in own.items():
        if (head and name.startswith(head)) or name not in plain:
            continue
        if name not in state:
            raise FormatError(f"network2d has no {name}, which network3d has")
        taken[name] = inflated(state[name], value, how)
        if taken[name].shape != value.shape:
            raise FormatError(
                f"{name} of network2d is {tuple(state[name].shape)}; for network3d, where it is "
                f"{tuple(value.shape)}, all but the time must be equal"
            )
    network3d.load_state_dict(taken, strict=False)


def inflated(weight: Tensor, like: Tensor, how: How = "mean") -> Tensor:
    """Return a 2-D kernel with the extent in time of a 3-D one; other weights as they are.

    Parameters
    ----------
    weight : (outputs, inputs, H, W)
        Kernel.
    like : (outputs, inputs, T, H, W)
        Of the network on clips.
    how
        As for :func:`inflate`.

    Returns
    -------
    (outputs, inputs, T, H, W)
    """
    if how not in get_args(How):
        raise ParameterError(f"how is {how!r}; it must be one of {', '.join(get_args(How))}")
    if weight.ndim != 4 or like.ndim != 5:
        return weight
    length = like.shape[2]
    if how == "mean":
        return (weight / length)[:, :, None].repeat(1, 1, length, 1, 1)
    kernel = weight.new_zeros(*weight.shape[:2], length, *weight.shape[2:])
    kernel[:, :, length // 2] = weight
    return kernel
