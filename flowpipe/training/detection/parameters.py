"""How a detector is trained, as options.

The values of :class:`DetectorTraining` are those of OadTR (X. Wang et al., ICCV 2021): Adam at
1e-4, divided by 10 after each of 5 epochs, weight decay 1e-4, gradients clipped at norm 1, batches
of 128, and half of the loss of the steps that follow added to that of the present. These are for
sets of hundreds of thousands of steps. ``small`` is for sets of a few thousand, on a CPU: narrower
networks, standardised features, more epochs, and a learning rate that falls once.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from tyro.conf import arg

from flowpipe._options import NameIn
from flowpipe.errors import ParameterError, check_range
from flowpipe.models.detectors import DETECTORS
from flowpipe.runner.json_files import Json

DetectorPreset = Literal["small", "published"]

_FUTURE_WEIGHT = 0.5
_HEADS, _MOST = 8, 16384


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """A detector, its optimiser and its loss."""

    model: Annotated[str, NameIn(DETECTORS)] = "oadtr"
    """Detector: a transformer that also predicts the next steps (oadtr), an LSTM (lstm), both over
    a window of the last steps, or a linear probe of the present one (linear)."""
    steps: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: 64; 1 for linear)")
    ] = None
    """Number of feature steps of a window, which ends at the present. Before the start of a video
    its first step is repeated."""
    future: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 8)")] = None
    """Number of steps after the present whose classes oadtr predicts."""
    width: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 1024)")] = None
    """Size of a token, or of the state of the LSTM."""
    depth: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: 3 for oadtr, 1 for lstm)")
    ] = None
    """Number of layers of the encoder, or of the LSTM."""
    decoder_depth: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 5)")] = None
    """Number of layers of the decoder of oadtr, in which the next steps are predicted."""
    dropout: Annotated[float | None, arg(metavar="P", help_behavior_hint="(default: 0.1)")] = None
    """Probability with which units are dropped in training."""
    standardise: bool = False
    """Scale each number of the features to mean 0 and variance 1 over the training videos."""
    future_weight: Annotated[
        float | None, arg(metavar="W", help_behavior_hint="(default: 0.5)")
    ] = None
    """Weight of the loss of the steps after the present, of oadtr."""
    epochs: int = 5
    """Number of times that every step is the present."""
    batch_size: int = 128
    """Number of windows per training step."""
    lr: float = 1e-4
    """Initial learning rate of Adam."""
    drop_every: Annotated[int | None, arg(metavar="EPOCHS|None")] = 1
    """Number of epochs after which the learning rate is divided by 10, again and again; never if
    None."""
    weight_decay: float = 1e-4
    """Weight decay."""
    grad_clip: Annotated[float | None, arg(metavar="NORM|None")] = 1.0
    """Largest norm of the gradient; no limit if None."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        if self.model not in DETECTORS:
            raise ParameterError(
                f"model is {self.model!r}; it must be one of {', '.join(DETECTORS)}"
            )
        known = dict(DETECTORS[self.model].options)
        for name in ("steps", "future", "width", "depth", "decoder_depth", "dropout"):
            if (value := getattr(self, name)) is not None and name not in known:
                able = [each for each, entry in DETECTORS.items() if name in dict(entry.options)]
                raise ParameterError(
                    f"{name} is {value}; it applies to {' and '.join(able)}, and model is "
                    f"{self.model!r}"
                )
        for name in ("steps", "future", "width", "depth", "decoder_depth"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 1, _MOST)
        if self.model == "oadtr" and self.width is not None and self.width % _HEADS:
            raise ParameterError(
                f"width is {self.width}; oadtr divides it among {_HEADS} heads, so it must be a "
                f"multiple of {_HEADS}"
            )
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ParameterError(f"dropout is {self.dropout}; it must be 0 to below 1")
        if self.future_weight is not None:
            if "future" not in known:
                raise ParameterError(
                    f"future_weight is {self.future_weight}; it applies to oadtr, and model is "
                    f"{self.model!r}"
                )
            check_range("future_weight", self.future_weight, 0, 1000)
        for name in ("epochs", "batch_size", "drop_every"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 1)
        for name in ("lr", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ParameterError(f"{name} is {value}; it must be more than 0, and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise ParameterError(
                f"weight_decay is {self.weight_decay}; it must be 0 or more, and finite"
            )
        check_range("seed", self.seed, 0)

    def options(self) -> dict[str, Any]:
        """Return the options of the network, all of them."""
        known = dict(DETECTORS[self.model].options)
        own = {name: getattr(self, name) for name in known}
        return {name: known[name] if own[name] is None else own[name] for name in known}

    @property
    def weight_of_future(self) -> float:
        """Weight of the loss of the steps after the present."""
        return _FUTURE_WEIGHT if self.future_weight is None else self.future_weight

    def lr_of_epoch(self, epoch: int) -> float:
        """Return the learning rate of an epoch, from 0."""
        drops = 0 if self.drop_every is None else epoch // self.drop_every
        return self.lr * 0.1**drops

    def description(self) -> Json:
        """Return everything that determines the detector, besides features and labels."""
        described = {**asdict(self), **self.options()}
        if "future" in self.options():
            described["future_weight"] = self.weight_of_future
        return {"stage": "train-detector", **described}


def detector_preset(name: DetectorPreset, model: str = "oadtr") -> DetectorTraining:
    """Return the parameters of a preset.

    Parameters
    ----------
    name
        ``small``, or ``published``.
    model
        A name of :data:`~flowpipe.models.detectors.DETECTORS`.

    Raises
    ------
    ParameterError
        There is no such preset, or no such model.
    """
    if name == "published":
        return DetectorTraining(model)
    if name != "small":
        raise ParameterError(
            f"preset is {name!r}; it must be one of {', '.join(get_args(DetectorPreset))}"
        )
    given: dict[str, Any] = {
        "steps": 16,
        "width": 128,
        "depth": 1,
        "decoder_depth": 1,
        "dropout": 0.3,
    }
    known = dict(DETECTORS[model].options) if model in DETECTORS else {}
    options = {name: value for name, value in given.items() if name in known}
    return DetectorTraining(
        model, **options, standardise=True, epochs=20, batch_size=64, lr=1e-3, drop_every=14
    )
