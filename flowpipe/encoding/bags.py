"""What the estimators of this package have in common: X is clips, each a bag of rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from flowpipe.encoding.rows import table_of
from flowpipe.encoding.sampling import balanced_counts
from flowpipe.errors import ParameterError

Rows = NDArray[np.floating]


class BagEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An estimator that turns clips into vectors by sums over their rows."""

    @abstractmethod
    def totals(self, rows: Rows) -> NDArray[np.float64]:
        """What a vector is made of; totals of parts of a clip add up to the clip's."""

    @abstractmethod
    def vector(self, totals: NDArray[np.float64]) -> NDArray[np.float64]:
        """The vector of :meth:`totals`."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Length of a vector."""

    def transform(self, X: Any) -> Rows:
        """Vectors of clips.

        Parameters
        ----------
        X
            List of (n_i, D) arrays, or (n, D) for n clips of one row.

        Returns
        -------
        (clips, n_outputs), float32, or float64 where all clips are
            A clip without rows gives zeros.
        """
        check_is_fitted(self)
        vectors = []
        kinds = set()
        for rows in bags(self, X, reset=False):
            kinds.add(rows.dtype)
            vectors.append(self.vector(self.totals(rows)).astype(rows.dtype, copy=False))
        kind = np.float64 if kinds == {np.dtype(np.float64)} else np.float32
        return np.stack(vectors).astype(kind, copy=False)

    def encode(self, rows: Any) -> Rows:
        """The vector of one clip, (n, D) to (n_outputs,) of the rows' type."""
        table = table_of(rows)
        return self.vector(self.totals(table)).astype(table.dtype, copy=False)

    def _check(self, rows: Rows) -> None:
        check_is_fitted(self)
        if rows.shape[1] != self.n_features_in_:
            raise ParameterError(
                f"rows are {rows.shape}; this encoder takes {self.n_features_in_} columns"
            )

    @property
    def _n_features_out(self) -> int:
        return self.n_outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


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
            if hasattr(estimator, "feature_names_in_"):  # of an earlier fit to a data frame
                del estimator.feature_names_in_
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
