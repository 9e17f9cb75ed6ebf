"""Describe networks: what they take and cost, how they were trained, where weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowpipe.errors import ParameterError
from flowpipe.models import table
from flowpipe.models.clip_input import ClipInput, Modality
from flowpipe.models.cost import network_cost
from flowpipe.models.entry import Views
from flowpipe.models.network import Network


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What there is to know of a network before it is built.

    Attributes
    ----------
    name, title, published, accuracy
        Its name, what it is, its paper, and the accuracy in percent that the paper or its
        release gives.
    shape
        Of a clip: C, T, H, W; C of both inputs together, where there are two.
    parameters, multiply_adds
        Number of its weights, and of multiplications with an addition for one clip.
    recipe
        Options with which the authors trained it, which differ from TSN's; None if unknown.
    trained_on
        The data set of the recipe, and what the training began with.
    views
        How the authors test it; None if unknown.
    weights
        Where weights come from.
    """

    name: str
    title: str
    published: str
    accuracy: str
    shape: tuple[int, int, int, int]
    parameters: int
    multiply_adds: int
    recipe: dict[str, Any] | None
    trained_on: str
    views: Views | None
    weights: str


def describe_model(
    name: str, modality: Modality = "rgb", num_classes: int = 400, *, backbone: str = "resnet50"
) -> ModelDescription:
    """Return what a network takes and costs, how it was trained, and where weights come from.

    Parameters
    ----------
    name
        A name of :func:`flowpipe.list_models`.
    modality
        What it sees, unless it takes rgb+flow; the numbers are those of its default clip.
    num_classes
        Number of classes.
    backbone
        The 2-D network inside those that have one.

    Returns
    -------
    ModelDescription
        Parameters and multiply-adds are counted on shapes; nothing is computed or downloaded.

    Raises
    ------
    ParameterError
        There is no such network, it does not take the modality or the backbone, or `num_classes`
        is less than 1.

    Examples
    --------
    >>> import flowpipe
    >>> r3d = flowpipe.describe_model("r3d-18")
    >>> r3d.shape, f"{r3d.parameters / 1e6:.2f} M", f"{r3d.multiply_adds / 1e9:.1f} G"
    ((3, 16, 112, 112), '33.37 M', '40.7 G')
    """
    if num_classes < 1:
        raise ParameterError(f"num_classes is {num_classes}; it must be 1 or more")
    entry = table.model(name)
    cost = network_cost(*usual_input(name, modality, backbone), num_classes)
    return ModelDescription(
        name=name,
        title=entry.title,
        published=entry.published,
        accuracy=entry.accuracy,
        shape=cost.shape,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        recipe=None if entry.recipe is None else dict(entry.recipe.options),
        trained_on="" if entry.recipe is None else entry.recipe.on,
        views=entry.views,
        weights=entry.weights,
    )


def usual_input(
    name: str, modality: Modality = "rgb", backbone: str = "resnet50"
) -> tuple[Network, ClipInput]:
    """Return the parts of a network of the table, and the clip that it takes by default.

    Parameters
    ----------
    name, modality, backbone
        As for :func:`describe_model`.
    """
    entry = table.model(name)
    length = 1 if modality == "rgb" else 5
    clip = entry.suited(ClipInput(modality, segments=3, length=length))
    return Network(name, backbone if entry.has_backbone else "resnet50"), clip
