"""Check tables of descriptors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import ParameterError

Rows = NDArray[np.floating]


def check_rows(item: Any, name: str = "the clip") -> Rows:
    """Return the rows of a clip as finite float32 or float64.

    Raises
    ------
    ParameterError
        The rows are not a 2-D table of finite numbers.
    """
    rows = np.asarray(item)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ParameterError(
            f"{name} is {rows.dtype} {rows.shape}; it must be a table of numbers, (rows, columns)"
        )
    if rows.dtype != np.float64:
        rows = rows.astype(np.float32, copy=False)
    # A sum is finite where all terms are, unless it overflows.
    if not np.isfinite(rows.sum(dtype=np.float64)) and not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ParameterError(f"{name} contains NaN or infinity in row {bad}; rows must be finite")
    return rows
