"""The parameters of the classifier."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from flowpipe.errors import ParameterError
from flowpipe.runner.json_files import Json


@dataclass(frozen=True, slots=True)
class Svm:
    """One-vs-rest support vector machines."""

    c: float = 100.0
    """Weight of the errors."""
    tol: float = 1e-3
    """Stop when the optimality conditions hold to this."""

    def __post_init__(self) -> None:
        for name in ("c", "tol"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ParameterError(f"{name} is {value!r}; it must be more than 0, and finite")

    def description(self) -> Json:
        """Everything that determines the scores, besides the vectors and the split."""
        return {"stage": "classify", **asdict(self)}
