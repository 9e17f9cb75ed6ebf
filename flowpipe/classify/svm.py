"""Train one-vs-rest support vector machines on a Gram matrix.

As in the papers on (improved) dense trajectories: C = 100, an SVM for each class against all
others, and the class of the largest decision value. The SVMs are scikit-learn's ``SVC`` (LIBSVM) on
a precomputed kernel. LIBSVM releases the interpreter lock, so joblib trains the classes in threads
that share the matrix; the scores are the same bits whatever the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        other class of the clip, so that it is never predicted.

    Raises
    ------
    ParameterError
        The training clips are of one class, or of none, or indices or labels are out of range.
    """
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
    within = gram[np.ix_(train, train)]
    machines = fit_one_vs_rest(within, y_train, n_classes, parameters, jobs=jobs)
    return machines.scores(gram[np.ix_(test, train)])


@dataclass(frozen=True, eq=False)
class OneVsRest:
    """Trained support vector machines, one for each class.

    Attributes
    ----------
    n_classes
        Number of classes.
    present
        (P,) int64 classes with training clips.
    dual
        (P, train) float64 coefficients of the training clips, zero for those that are no support
        vectors.
    intercept
        (P,) float64.
    """

    n_classes: int
    present: NDArray[np.int64]
    dual: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def scores(self, across: Gram) -> ClassScores:
        """Return the (n, n_classes) values of the decision functions.

        Parameters
        ----------
        across
            (n, train) kernel between clips and the training clips.
        """
        across = np.ascontiguousarray(across, np.float64)
        columns = []
        for dual, intercept in zip(self.dual, self.intercept, strict=True):
            support = np.flatnonzero(dual)
            columns.append(across[:, support] @ dual[support] + intercept)
        return filled(np.stack(columns, 1), self.present, self.n_classes)


def filled(
    decisions: NDArray[np.floating], present: NDArray[np.integer], n_classes: int
) -> ClassScores:
    """Put the scores of classes with training clips beside lower ones of classes without.

    What a clip is given depends on that clip alone.
    """
    lowest = decisions.min(axis=1, keepdims=True) - 1
    scores = np.repeat(lowest, n_classes, axis=1).astype(np.float32)
    scores[:, present] = decisions
    return scores


def fit_one_vs_rest(
    within: Gram,
    y_train: Indices,
    n_classes: int,
    parameters: Svm | None = None,
    *,
    jobs: int = 1,
) -> OneVsRest:
    """Train an SVM for each class.

    Parameters
    ----------
    within
        (train, train) kernel of the training clips.
    y_train, n_classes, parameters, jobs
        As for :func:`one_vs_rest`.

    Raises
    ------
    ParameterError
        The training clips are of one class, or of none.
    """
    present = np.unique(y_train)
    if len(present) < 2:
        raise ParameterError(
            f"the {len(y_train)} training clips are of {len(present)} class"
            f"{'es' * (len(present) != 1)}; at least two are needed"
        )
    # LIBSVM's own layout, so that no SVM makes a copy.
    within = np.ascontiguousarray(within, np.float64)
    fitted = Parallel(n_jobs=jobs, prefer="threads")(
        delayed(_fit)(within, y_train == label, parameters or Svm()) for label in present
    )
    dual, intercept = zip(*fitted, strict=True)
    return OneVsRest(n_classes, present.astype(np.int64), np.stack(dual), np.array(intercept))


def _fit(
    within: NDArray[np.float64], positive: NDArray[np.bool_], parameters: Svm
) -> tuple[NDArray[np.float64], float]:
    """Return the coefficient of every training clip, and the intercept."""
    svm = SVC(kernel="precomputed", C=parameters.c, tol=parameters.tol, cache_size=_CACHE_MB)
    svm.fit(within, positive)
    dual = np.zeros(len(within))
    dual[svm.support_] = svm.dual_coef_[0]
    return dual, float(svm.intercept_[0])
