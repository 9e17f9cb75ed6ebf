"""Detectors: networks that score the present of a sequence of features, by name.

All map a window of steps (B, steps, F), which ends at the present, to a
:class:`~flowpipe.models.oadtr.Detection`. Nothing after the present is in a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowpipe.errors import ParameterError

if TYPE_CHECKING:
    from torch import nn

# torch is imported by the networks' modules: the command line reads the table.

DETECTOR_NAME = "detector.safetensors"
"""File of a trained detector."""


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """A kind of detector.

    Attributes
    ----------
    title
        One line for lists.
    published
        Authors, title, venue.
    home
        What builds the network from the size of a feature, the number of classes and its options,
        as ``module:function``.
    options
        Options of the network, with the published values.
    """

    title: str
    published: str
    home: str
    options: tuple[tuple[str, Any], ...] = ()


DETECTORS: dict[str, DetectorEntry] = {
    "oadtr": DetectorEntry(
        "transformer over the last steps, which also predicts the next ones",
        "X. Wang et al., 'OadTR: Online Action Detection with Transformers', ICCV 2021",
        "flowpipe.models.detector_networks:oadtr",
        (
            ("steps", 64),
            ("future", 8),
            ("width", 1024),
            ("depth", 3),
            ("decoder_depth", 5),
            ("dropout", 0.1),
        ),
    ),
    "lstm": DetectorEntry(
        "LSTM over the last steps",
        "R. De Geest et al., 'Online Action Detection', ECCV 2016",
        "flowpipe.models.detector_networks:LstmDetector",
        (("steps", 64), ("width", 1024), ("depth", 1), ("dropout", 0.1)),
    ),
    "linear": DetectorEntry(
        "linear probe of the present step", "", "flowpipe.models.detector_networks:LinearDetector"
    ),
}
"""Detectors by the name that a user types; a new one is an entry here."""


def make_detector(
    model: str,
    n_features: int,
    classes: int,
    options: dict[str, Any] | None = None,
    *,
    standardise: bool = False,
) -> nn.Module:
    """Return a detector with random weights.

    Parameters
    ----------
    model
        A name of :data:`DETECTORS`.
    n_features
        Size of a step's feature.
    classes
        Number of classes, with the background.
    options
        Changes of the entry's options.
    standardise
        Whether it has the mean and deviation of the features of training, by which those that it
        is given are scaled; see :class:`flowpipe.models.detector_networks.Standardised`.

    Raises
    ------
    ParameterError
        There is no such detector, or it lacks an option.

    Examples
    --------
    >>> import torch
    >>> network = make_detector("lstm", 24, 5, {"steps": 8, "width": 16})
    >>> now, future = network(torch.zeros(2, 8, 24))
    >>> now.shape, future.shape
    (torch.Size([2, 5]), torch.Size([2, 0, 5]))
    """
    entry = DETECTORS.get(model)
    if entry is None:
        raise ParameterError(f"model is {model!r}; it must be one of {', '.join(DETECTORS)}")
    known = dict(entry.options)
    for name, value in (options or {}).items():
        if name not in known:
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ParameterError(f"{name} is {value!r}; {model} has no such option: {has}")
    module, _, name = entry.home.partition(":")
    network: nn.Module = getattr(import_module(module), name)(
        n_features, classes, **known | (options or {})
    )
    if not standardise:
        return network
    from flowpipe.models.detector_networks import Standardised

    return Standardised(network, n_features)
