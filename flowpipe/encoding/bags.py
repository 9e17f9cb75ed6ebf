"""What the estimators of this package take for X: clips, each a bag of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from flowpipe.encoding.rows import table_of
from flowpipe.encoding.sampling import balanced_counts
from flowpipe.errors import ParameterError

Rows = NDArray[np.floating]


def is_bags(X: Any) -> bool:
    """Whether X is a list or an object array of 2-D arrays, and not one 2-D array itself."""
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and all(np.ndim(each) == 2 for each in X)
    return isinstance(X, list | tuple) and len(X) > 0 and all(_is_table(each) for each in X)


def bags(estimator: Any, X: Any, *, reset: bool) -> Iterator[Rows]:
    """The clips of X, checked: float32 or float64 rows, finite, of one width.

    A list of 2-D arrays is a list of clips. A 2-D array is what it is for every estimator of
    scikit-learn, a row for each sample, so each of its rows is a clip of one row.

    Parameters
    ----------
    estimator
        Its ``n_features_in_`` is set, or compared with.
    X
        As above.
    reset
        Set rather than compare.

    Raises
    ------
    ParameterError
        A clip is not a finite table of the right width; it is named by its position.
    ValueError
        scikit-learn's own, for a 2-D array.
    """
    if not is_bags(X):
        table = validate_data(estimator, X, reset=reset, dtype=[np.float32, np.float64])
        yield from table[:, None, :]
        return
    for position, item in enumerate(X):
        rows = table_of(item, f"clip {position}")
        if reset and position == 0:
            estimator.n_features_in_ = rows.shape[1]
            for name in ("feature_names_in_",):
                if hasattr(estimator, name):
                    delattr(estimator, name)
        if rows.shape[1] != estimator.n_features_in_:
            raise ParameterError(
                f"clip {position} has rows of {rows.shape[1]} numbers; "
                f"{estimator.n_features_in_} are expected"
            )
        yield rows


def sampled(clips: Sequence[Rows], total: int, rng: np.random.Generator) -> Rows:
    """Rows for fitting, balanced over the clips; see :mod:`flowpipe.encoding.sampling`."""
    counts = balanced_counts([len(rows) for rows in clips], total)
    parts = []
    for rows, count in zip(clips, counts.tolist(), strict=True):
        if count == len(rows):
            parts.append(rows)
        else:
            parts.append(rows[np.sort(rng.choice(len(rows), count, replace=False))])
    return np.concatenate(parts)


def _is_table(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.ndim == 2
