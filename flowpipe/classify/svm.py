"""Train one-vs-rest support vector machines on a Gram matrix.

As in the papers on (improved) dense trajectories: C = 100, an SVM for each class against all
others, and the class of the largest decision value. The SVMs are scikit-learn's ``SVC`` (LIBSVM) on
a precomputed kernel. LIBSVM releases the interpreter lock, so joblib trains the classes in threads
that share the matrix; the scores are the same bits whatever the number of threads.
"""

from __future__ import annotations

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.svm import SVC

from flowpipe.classify.parameters import Svm
from flowpipe.classify.scores import ClassScores
from flowpipe.errors import ParameterError

Gram = NDArray[np.floating]
Indices = NDArray[np.integer]

_CACHE_MB = 300


def one_vs_rest(
    gram: Gram,
    y_train: Indices,
    train: Indices,
    test: Indices,
    n_classes: int,
    parameters: Svm | None = None,
    *,
    jobs: int = 1,
) -> ClassScores:
    """Train an SVM for each class and score the test clips.

    Parameters
    ----------
    gram
        (n, n) kernel of all clips.
    y_train
        (train,) class indices of the training clips. Labels of test clips are not an argument,
        so that they cannot take part.
    train, test
        Indices of the training and test clips.
    n_classes
        Number of classes, the columns of the scores.
    parameters
        Parameters of the SVMs.
    jobs
        Number of threads.

    Returns
    -------
    (test, n_classes) float32
        Values of the decision functions. A class without a training clip scores below every
        other, so that it is never predicted.

    Raises
    ------
    ParameterError
        The training clips are of one class, or of none, or indices or labels are out of range.
    """
    parameters = parameters or Svm()
    count = len(gram)
    if gram.shape != (count, count) or y_train.shape != train.shape:
        raise ParameterError(
            f"the Gram matrix is {gram.shape} and y_train is {y_train.shape}; (n, n) and "
            f"{train.shape}, a label per training clip, are expected"
        )
    if y_train.size and not 0 <= y_train.min() <= y_train.max() < n_classes:
        raise ParameterError(
            f"training labels reach from {y_train.min()} to {y_train.max()}; "
            f"they must be 0 to {n_classes - 1}"
        )
    present = np.unique(y_train)
    if len(present) < 2:
        raise ParameterError(
            f"the {len(train)} training clips are of {len(present)} class"
            f"{'es' * (len(present) != 1)}; at least two are needed"
        )
    # LIBSVM's own layout, so that no SVM makes a copy.
    within = np.ascontiguousarray(gram[np.ix_(train, train)], np.float64)
    across = np.ascontiguousarray(gram[np.ix_(test, train)], np.float64)
    columns = Parallel(n_jobs=jobs, prefer="threads")(
        delayed(_decision)(within, across, y_train == label, parameters) for label in present
    )
    scores = np.empty((len(test), n_classes), np.float32)
    lowest = min((float(column.min()) for column in columns if column.size), default=0.0)
    scores[:] = lowest - 1
    for label, column in zip(present, columns, strict=True):
        scores[:, label] = column
    return scores


def _decision(
    within: NDArray[np.float64],
    across: NDArray[np.float64],
    positive: NDArray[np.bool_],
    parameters: Svm,
) -> NDArray[np.float64]:
    svm = SVC(kernel="precomputed", C=parameters.c, tol=parameters.tol, cache_size=_CACHE_MB)
    svm.fit(within, positive)
    if not len(across):
        return np.empty(0)
    # The same as decision_function, but without the columns of the other clips, which are zero.
    support = across[:, svm.support_]
    return np.asarray(support @ svm.dual_coef_[0] + svm.intercept_[0])
