"""What the encoders have in common: scikit-learn's interface, with clips as samples.

A clip is a table of descriptors, (n, D). Its vector is a function of sums over its rows, so that a
clip can be encoded in parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from flowpipe.encoding.sampling import balanced_counts
from flowpipe.encoding.validation import Rows, check_rows
from flowpipe.errors import ParameterError

Take = Callable[[str, tuple[int | None, ...]], NDArray[Any]]
"""Return a stored array by its name, checked for its shape (None where any length is right)."""


class ClipEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turn clips into vectors by sums over their rows."""

    n_features_in_: int

    @abstractmethod
    def sufficient_statistics(self, rows: Rows) -> NDArray[np.float64]:
        """Return the sums that a vector is made of; those of parts of a clip add up."""

    @abstractmethod
    def finalize(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vector of :meth:`sufficient_statistics`."""

    def linearize(
        self, statistics: NDArray[np.float64], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return weights of the sums, of their shape, that divide a score among the rows.

        Parameters
        ----------
        statistics
            The sums of a clip.
        weights
            (n_outputs,) weights of its vector.

        Returns
        -------
        array
            Its product with the sums is that of the weights with the vector. The sums are those of
            the rows, so that each row has its share of the score: :meth:`shares`.
        """
        raise ParameterError(f"{type(self).__name__} cannot divide a score among rows")

    def shares(self, rows: Rows, linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n,) shares of rows in a score, of :meth:`linearize`."""
        raise ParameterError(f"{type(self).__name__} cannot divide a score among rows")

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what has been fitted, by name, to be stored."""

    @abstractmethod
    def from_arrays(self, take: Take) -> None:
        """Restore what has been fitted from the arrays of :meth:`to_arrays`."""

    def transform(self, X: Any) -> Rows:
        """Return the vectors of clips.

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
        vectors = [self._vector(rows) for rows in iterate_clips(self, X, reset=False)]
        wide = all(vector.dtype == np.float64 for vector in vectors)
        return np.stack(vectors).astype(np.float64 if wide else np.float32, copy=False)

    def encode(self, rows: Any) -> Rows:
        """Return the vector of one clip, (n, D) to (n_outputs,) of the rows' type."""
        return self._vector(check_rows(rows))

    def _vector(self, rows: Rows) -> Rows:
        return self.finalize(self.sufficient_statistics(rows)).astype(rows.dtype, copy=False)

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


def is_clip_list(X: Any) -> bool:
    """Return whether X is a list or an object array of 2-D arrays, not one 2-D array itself."""
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and all(np.ndim(each) == 2 for each in X)
    return (
        isinstance(X, list | tuple)
        and len(X) > 0
        and all(isinstance(each, np.ndarray) and each.ndim == 2 for each in X)
    )


def iterate_clips(estimator: Any, X: Any, *, reset: bool) -> Iterator[Rows]:
    """Yield the clips of X, checked: float32 or float64 rows, finite, of one width.

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
    if not is_clip_list(X):
        table = validate_data(estimator, X, reset=reset, dtype=[np.float32, np.float64])
        yield from table[:, None, :]
        return
    for position, item in enumerate(X):
        rows = check_rows(item, f"clip {position}")
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


def sample_clips(clips: Sequence[Rows], total: int, rng: np.random.Generator) -> Rows:
    """Return rows to fit to, balanced over the clips; see :mod:`flowpipe.encoding.sampling`."""
    counts = balanced_counts([len(rows) for rows in clips], total)
    samples = []
    for rows, count in zip(clips, counts.tolist(), strict=True):
        if count == len(rows):
            samples.append(rows)
        else:
            samples.append(rows[np.sort(rng.choice(len(rows), count, replace=False))])
    return np.concatenate(samples)
