"""One-vs-rest support vector machines on a Gram matrix.

As in the papers on (improved) dense trajectories: C = 100, a machine for each class against all the
others, and the class whose machine is surest. The machines are scikit-learn's ``SVC`` (LIBSVM) on
a precomputed kernel, which release the interpreter and so run side by side as threads that share
the matrix.
"""

from __future__ import annotations

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.svm import SVC

from flowpipe.classify.parameters import Svm
from flowpipe.errors import ParameterError

Gram = NDArray[np.floating]
Indices = NDArray[np.integer]
Scores = NDArray[np.float32]

_CACHE_MB = 300


def one_vs_rest(
    gram: Gram,
    labels: Indices,
    train: Indices,
    test: Indices,
    n_classes: int,
    parameters: Svm | None = None,
    *,
    jobs: int = 1,
) -> Scores:
    """Train on some clips and score others.

    Parameters
    ----------
    gram
        (n, n) kernel of all clips.
    labels
        (n,) class indices; those of the test clips are not looked at.
    train, test
        Indices of clips.
    n_classes
        Columns of the scores.
    parameters
        Of the machines.
    jobs
        Threads.

    Returns
    -------
    (test, n_classes) float32
        Signed distances from the machines' planes; larger is surer. A class without a training
        clip scores below every other, so that it is never chosen.

    Raises
    ------
    ParameterError
        The training clips are of one class, or of none, or indices or labels are out of range.
    """
    parameters = parameters or Svm()
    count = len(gram)
    if gram.shape != (count, count) or labels.shape != (count,):
        raise ParameterError(
            f"the Gram matrix is {gram.shape} and the labels are {labels.shape}; "
            "(n, n) and (n,) are expected"
        )
    known = labels[train]
    if known.size and not 0 <= known.min() <= known.max() < n_classes:
        raise ParameterError(
            f"training labels reach from {known.min()} to {known.max()}; "
            f"they must be 0 to {n_classes - 1}"
        )
    present = np.unique(known)
    if len(present) < 2:
        raise ParameterError(
            f"the {len(train)} training clips are of {len(present)} class"
            f"{'es' * (len(present) != 1)}; at least two are needed"
        )
    # The layout that LIBSVM works on, so that no machine makes a copy.
    within = np.ascontiguousarray(gram[np.ix_(train, train)], np.float64)
    across = np.ascontiguousarray(gram[np.ix_(test, train)], np.float64)
    columns = Parallel(n_jobs=jobs, prefer="threads")(
        delayed(_machine)(within, across, known == label, parameters) for label in present
    )
    scores = np.empty((len(test), n_classes), np.float32)
    lowest = min((float(column.min()) for column in columns if column.size), default=0.0)
    scores[:] = lowest - 1
    for label, column in zip(present, columns, strict=True):
        scores[:, label] = column
    return scores


def _machine(
    within: NDArray[np.float64],
    across: NDArray[np.float64],
    positive: NDArray[np.bool_],
    parameters: Svm,
) -> NDArray[np.float64]:
    machine = SVC(kernel="precomputed", C=parameters.c, tol=parameters.tol, cache_size=_CACHE_MB)
    machine.fit(within, positive)
    if not len(across):
        return np.empty(0)
    # The same as decision_function, which would go over all columns for the zeros too.
    support = across[:, machine.support_]
    return np.asarray(support @ machine.dual_coef_[0] + machine.intercept_[0])
