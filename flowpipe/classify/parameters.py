"""The parameters of the SVMs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json


@dataclass(frozen=True, slots=True)
class Svm:
    """Parameters of the one-vs-rest support vector machines."""

    c: float = 100.0
    """Penalty C of training errors in the SVMs."""
    tol: float = 1e-3
    """Tolerance of the SVMs' stopping criterion."""

    def __post_init__(self) -> None:
        for name in ("c", "tol"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ParameterError(f"{name} is {value!r}; it must be more than 0, and finite")

    def description(self) -> Json:
        """Return everything that determines the scores, besides the vectors and the split."""
        return {"stage": "classify", **asdict(self)}
