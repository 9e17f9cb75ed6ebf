"""Detectors: networks that score the present of a sequence of features, by name.

All map a window of steps (B, steps, F), which ends at the present, to a
:class:`~flowpipe.models.oadtr.Detection`. Nothing after the present is in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowpipe.errors import ParameterError
from flowpipe.models.oadtr import Detection, OadTR


class LinearDetector(nn.Module):
    """Score each step by itself: a linear probe of the features.

    Parameters
    ----------
    n_features, classes
        Size of a step's feature; number of classes, with the background.
    """

    steps = 1

    def __init__(self, n_features: int, classes: int) -> None:
        super().__init__()
        self.now = nn.Linear(n_features, classes)

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, F) to scores of the last step; of no later one."""
        scores = self.now(features[:, -1])
        return Detection(scores, scores[:, None][:, :0])


class LstmDetector(nn.Module):
    """Score the last step by the state of an LSTM that has read the window.

    Parameters
    ----------
    n_features, classes
        Size of a step's feature; number of classes, with the background.
    steps
        Number of steps of a window.
    width, depth
        Size of the state, number of layers.
    dropout
        Probability with which units are dropped, before the first and after the last layer.
    """

    def __init__(
        self,
        n_features: int,
        classes: int,
        *,
        steps: int = 64,
        width: int = 1024,
        depth: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.linear_encoding = nn.Linear(n_features, width)
        self.lstm = nn.LSTM(width, width, depth, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.now = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> Detection:
        """Map (B, steps, F) to scores of the last step; of no later one."""
        encoded = self.dropout(torch.relu(self.linear_encoding(features)))
        states, _ = self.lstm(encoded)
        scores = self.now(self.dropout(states[:, -1]))
        return Detection(scores, scores[:, None][:, :0])


def _oadtr(n_features: int, classes: int, *, width: int, **options: Any) -> OadTR:
    return OadTR(
        n_features, classes, width=width, hidden=width, decoder_hidden=width, **options
    )


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """A kind of detector.

    Attributes
    ----------
    title
        One line for lists.
    published
        Authors, title, venue.
    make
        Builds the network from the size of a feature, the number of classes and its options.
    options
        Options of the network, with the published values.
    """

    title: str
    published: str
    make: Callable[..., nn.Module]
    options: tuple[tuple[str, Any], ...] = ()


DETECTORS: dict[str, DetectorEntry] = {
    "oadtr": DetectorEntry(
        "transformer over the last steps, which also predicts the next ones",
        "X. Wang et al., 'OadTR: Online Action Detection with Transformers', ICCV 2021",
        _oadtr,
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
        LstmDetector,
        (("steps", 64), ("width", 1024), ("depth", 1), ("dropout", 0.1)),
    ),
    "linear": DetectorEntry("linear probe of the present step", "", LinearDetector),
}
"""Detectors by the name that a user types; a new one is an entry here."""


def make_detector(
    model: str, n_features: int, classes: int, options: dict[str, Any] | None = None
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
    return entry.make(n_features, classes, **known | (options or {}))
