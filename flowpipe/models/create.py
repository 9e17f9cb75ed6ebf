"""Networks by name, for Python."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Any

from torch import nn

from flowpipe.errors import ParameterError
from flowpipe.models import build, table
from flowpipe.models.clip_input import ClipInput, Modality
from flowpipe.models.network import BatchNorm, Consensus, Network
from flowpipe.models.stream import StreamNetwork


def create_model(
    name: str | nn.Module,
    modality: Modality = "flow",
    num_classes: int = 101,
    *,
    backbone: str | None = None,
    segments: int | None = None,
    length: int | None = None,
    input_size: int | None = None,
    dropout: float = 0.5,
    consensus: Consensus = "average",
    batch_norm: BatchNorm = "train",
    weights: str | PathLike[str] = "none",
) -> StreamNetwork:
    """Return a network that scores clips.

    Parameters
    ----------
    name
        A model of :func:`list_models`; a classification network of torchvision, such as
        ``resnet18``, which becomes the backbone of a temporal segment network; or a network of your
        own that maps (N, C, H, W) to scores, whose last layer is replaced and whose first
        convolution is given the input's channels.
    modality
        What it sees: ``rgb``, ``flow``, ``rgb-diff`` or ``warped-flow``; networks of two inputs see
        ``rgb+flow``, whatever is given.
    num_classes
        Number of classes.
    backbone
        The 2-D network inside tsn, tsm, trn, lrcn, stm, non-local and two-stream-fusion; by default
        resnet50.
    segments, length, input_size
        Segments of a clip, consecutive frames of a snippet, and height and width in pixels; by
        default those of the paper.
    dropout
        Probability with which a feature is dropped before the last layer, 0 to below 1.
    consensus
        How tsn combines the scores of the segments: ``average``, ``max`` or ``attention``.
    batch_norm
        Batch normalisations that are trained: ``train`` (all), ``partial`` (the first) or
        ``frozen``.
    weights
        ``none``; a name of torchvision's weights for the network, or ``default`` for the best; or
        a file (.safetensors, .pth).

    Returns
    -------
    StreamNetwork
        A torch module that maps clips (B, C, T, H, W) float32 to scores (B, num_classes). C is 3
        for RGB and 2 for flow, or as many for all frames of a snippet together where T are
        segments; :attr:`channels` has the number. Networks of two inputs take ``{"rgb": (B, 3, T,
        H, W), "flow": (B, 2 length, T, H, W)}``.

    Raises
    ------
    ParameterError
        There is no such network, or a parameter does not apply to it.
    FormatError
        The file holds weights of another network.

    Examples
    --------
    >>> import flowpipe, torch
    >>> network = flowpipe.create_model("resnet18", modality="flow", num_classes=6).eval()
    >>> network(torch.zeros(1, network.channels, 3, 112, 112)).shape
    torch.Size([1, 6])
    """
    from flowpipe.models.weights import initialise

    module = name if isinstance(name, nn.Module) else None
    if module is not None:
        model, part = "tsn", None
    elif name in table.MODELS:
        model, part = str(name), backbone
    elif name in build.backbones():
        model, part = "tsn", str(name)
    else:
        raise ParameterError(
            f"name is {name!r}; it must be one of {', '.join(table.MODELS)}, or a classification "
            "network of torchvision, such as resnet18"
        )
    if backbone is not None and part != backbone:
        raise ParameterError(f"backbone is {backbone!r}; name is a backbone itself")
    is_flow = modality in ("flow", "warped-flow")
    clip = table.model(model).suited(
        ClipInput(modality, length=5 if is_flow or modality == "rgb-diff" else 1)
    )
    given: dict[str, Any] = {"segments": segments, "length": length, "input_size": input_size}
    clip = replace(clip, **{key: value for key, value in given.items() if value is not None})
    network = Network(model, part or "resnet50", dropout, consensus, batch_norm)
    created = StreamNetwork(network, clip, [num_classes], module)
    initialise(created, str(weights))
    return created


def list_models() -> list[str]:
    """Return the names of the networks, without those of torchvision's backbones.

    Examples
    --------
    >>> import flowpipe
    >>> "tsn" in flowpipe.list_models()
    True
    """
    return list(table.MODELS)
