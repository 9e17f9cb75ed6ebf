"""Initial weights of the systems: files that were named, or torchvision's by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flowpipe.errors import ParameterError
from flowpipe.models import MODELS
from flowpipe.models.weight_names import is_file_name
from flowpipe.pipelines.compare.system import Comparison, NotAvailableError

ALL = "all"


def parse_weights(given: Sequence[str]) -> dict[str, str]:
    """Return the weights by name, of texts such as ``mobilenet_v2=FILE``.

    Raises
    ------
    ParameterError
        A text has no name and no value, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ParameterError(
                f"weights are {text!r}; they must be NAME=FILE, NAME=default or NAME=none, such as "
                "i3d=i3d_rgb.safetensors"
            )
        if name in found:
            raise ParameterError(f"weights of {name} are given twice")
        found[name] = value
    return found


def check_weights(weights: Mapping[str, str], systems: Collection[str]) -> None:
    """Check the names of weights, and that their files exist.

    Parameters
    ----------
    weights
        By the name of a system, network or backbone, or ``all``.
    systems
        Names of systems.

    Raises
    ------
    ParameterError
        A name is unknown, or a file does not exist.
    """
    known = {ALL, *systems, *MODELS}
    for name, value in weights.items():
        if name not in known and name not in _backbones():
            raise ParameterError(
                f"weights of {name!r} are given; that must be a system, a network of 'flowpipe "
                f"models', a backbone of torchvision, or {ALL}"
            )
        if is_file_name(value) and not Path(value).is_file():
            raise ParameterError(f"weights of {name} are {value!r}, which does not exist")


def _backbones() -> list[str]:
    """Return the names of torchvision's networks; importing it takes seconds."""
    import torchvision

    found: list[str] = torchvision.models.list_models()
    return found


def initial_weights(on: Comparison, *names: str, torchvision_name: str) -> str:
    """Return the initial weights of a network that is trained.

    Parameters
    ----------
    on
        The comparison.
    names
        Names that weights may be given for, the first one first.
    torchvision_name
        The network of torchvision whose weights it takes; empty if it takes a file only.

    Raises
    ------
    NotAvailableError
        None are given, and torchvision has none.
    """
    given = on.weights_for(*names)
    if given is not None:
        return given
    if torchvision_name:
        return "default"
    raise NotAvailableError(f"it has no initial weights; name a file: --weights {names[0]}=FILE")


def trained_weights(on: Comparison, *names: str, torchvision_name: str) -> str:
    """Return weights of a network that is not trained further; as :func:`initial_weights`.

    Raises
    ------
    NotAvailableError
        There are none, or they are random.
    """
    found = initial_weights(on, *names, torchvision_name=torchvision_name)
    if found == "none":
        raise NotAvailableError(
            "its network is not trained here, and was given no weights; name a file: --weights "
            f"{names[0]}=FILE"
        )
    return found
