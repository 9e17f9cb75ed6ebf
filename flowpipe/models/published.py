"""Networks that know a published set of classes, by the names of both: ``i3d-kinetics400``.

The weights are those that the authors trained, with their last layer; nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flowpipe.errors import FormatError, ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import Modality
from flowpipe.models.table_torchvision import VIDEO_NETWORKS

if TYPE_CHECKING:
    from flowpipe.models.stream import StreamNetwork

_MODALITIES: dict[int, Modality] = {3: "rgb", 2: "flow"}


def kinetics400() -> tuple[str, ...]:
    """Return the names of the classes of Kinetics-400 in the order of published networks."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])


CLASSES: dict[str, Callable[[], tuple[str, ...]]] = {"kinetics400": kinetics400}
"""Classes of data sets, by the end of a network's name."""


def models() -> list[str]:
    """Return the networks of the table that there are published last layers for."""
    return [
        name
        for name, entry in table.MODELS.items()
        if entry.takes in ("frames", "segments") and entry.weights and entry.head is None
    ]


def split_name(name: str) -> tuple[str, str] | None:
    """Return the network and the data set of a name; None if it is not such a name.

    Examples
    --------
    >>> split_name("r2plus1d-18-kinetics400")
    ('r2plus1d-18', 'kinetics400')
    """
    model, _, classes = name.rpartition("-")
    return (model, classes) if classes in CLASSES and model in models() else None


def published_network(name: str, weights: str | None) -> tuple[StreamNetwork, tuple[str, ...]]:
    """Return a network with published weights, and the names of its classes.

    Parameters
    ----------
    name
        A network and a data set, such as ``i3d-kinetics400``.
    weights
        A file (.safetensors, .pth), or the name of torchvision's weights. Whether the network sees
        RGB or flow follows from the channels of its first layer.

    Raises
    ------
    ParameterError
        There is no such network, or no weights are given.
    FormatError
        The file holds weights of another network, without a last layer, or for other classes.
    BackendUnavailableError
        The weights cannot be downloaded.
    """
    from flowpipe.models.create import create_model
    from flowpipe.models.names import matching
    from flowpipe.models.weight_names import is_file_name
    from flowpipe.models.weights import find_weights

    found = split_name(name)
    if found is None:
        raise ParameterError(
            f"{name!r} is no network with published weights; it must be NAME-{'|'.join(CLASSES)}, "
            f"and NAME one of {', '.join(models())}"
        )
    model, data_set = found
    if weights in (None, "none"):
        raise ParameterError(
            f"weights is {weights!r}; {name} needs {table.model(model).weights} (--weights)"
        )
    if not is_file_name(str(weights)) and model not in VIDEO_NETWORKS:
        # torchvision's for these are of images, with other classes.
        raise ParameterError(
            f"weights is {str(weights)!r}; for {name} it must be a file that ends in .pth, "
            ".pyth, .pt or .safetensors"
        )
    classes = CLASSES[data_set]()
    network = create_model(model, "rgb", len(classes))
    state, origin = find_weights(network, str(weights))
    renamed = table.model(model).names
    named = matching(renamed(state) if renamed else state, set(network.backbone.state_dict()))
    first = next(n for n, module in network.backbone.named_modules() if module is network.first)
    if (kernel := named.get(f"{first}.weight")) is not None and kernel.ndim > 1:
        channels = kernel.shape[1]
        if channels not in _MODALITIES:
            raise FormatError(
                f"{origin} sees {channels} channels; {name} sees 3 of RGB or 2 of flow"
            )
        if channels == 2:
            network = create_model(model, "flow", len(classes))
    network.load_backbone(state, origin, whole=True)
    head = {n: value for n, value in named.items() if n.startswith(f"{network.head_name}.")}
    last = {n.rpartition(".")[2]: value for n, value in head.items()}
    if last.keys() != {"weight", "bias"}:
        raise FormatError(
            f"{origin} has no last layer {network.head_name!r}, so that it scores no classes; "
            "a network of train is named by its folder, without weights"
        )
    if len(last["bias"]) != len(classes):
        raise FormatError(
            f"{origin} scores {len(last['bias'])} classes; {data_set} has {len(classes)}"
        )
    assert network.last is not None
    weight = last["weight"].flatten(1)
    if weight.shape != network.last.weight.shape:
        raise FormatError(
            f"{origin} has a last layer of {tuple(weight.shape)}; that of {name} is "
            f"{tuple(network.last.weight.shape)}"
        )
    network.last.load_state_dict({"weight": weight, "bias": last["bias"]})
    return network.eval(), classes
