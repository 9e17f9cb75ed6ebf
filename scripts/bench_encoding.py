"""Measure the encoding of clips, and the classification of a set of UCF101's size.

    python scripts/bench_encoding.py fisher [--rows ROWS.npy]
    python scripts/bench_encoding.py em
    python scripts/bench_encoding.py ucf101 [--clips 13320] [--jobs 2]

`fisher` compares Fisher vectors with ``skimage.feature.fisher_vector`` on the same mixture
(K = 256; 14 385 rows of 54, or yours, to the first half of which the mixture is fitted), one core
each: the ratio of the best times, the memory at the highest, and the
largest differences. scikit-image's gradient for the variances has the opposite sign and its vector
begins with the gradient for the weights, which Fisher vectors of the papers have not; both are
undone before anything is compared. It needs scikit-image.

`em` compares the likelihood and the time of fitting the mixture with scikit-learn's.

`ucf101` makes random unit vectors of five descriptors for as many clips and classes as UCF101 has
and takes them through Gram matrices and one-vs-rest machines on one split, timing each.
"""

from __future__ import annotations

import argparse
import resource
import time
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from flowpipe.classify.kernels import linear_gram
from flowpipe.classify.metrics import evaluate
from flowpipe.classify.scores import Scores, SplitScores
from flowpipe.classify.svm import one_vs_rest
from flowpipe.encoding.fisher import fisher_gradients, improved
from flowpipe.encoding.gmm import DiagonalGmm, e_step, fit_gmm

ROWS, WIDTH, COMPONENTS = 14385, 54, 256
WIDTHS = (15, 48, 54, 48, 48)
"""Of the five descriptors after PCA; 2 K d numbers each, 109 056 in all."""


def made_up_rows(count: int, clusters: slice = slice(None), seed: int = 0) -> NDArray[np.float32]:
    """Rows in clusters of unlike shape, their dimensions falling in size as after PCA."""
    rng = np.random.default_rng(seed)
    fall = np.linspace(1, 0.15, WIDTH) * 0.3
    centres = rng.normal(size=(400, WIDTH)) * fall
    spread = rng.uniform(0.3, 1.2, (400, WIDTH)) * fall
    member = rng.choice(np.arange(400)[clusters], count)
    rows = centres[member] + rng.normal(size=(count, WIDTH)) * spread[member]
    return np.asarray(rows, np.float32)


def best_of(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Least seconds of each, taken in turn so that a busy machine is busy for all."""
    times: dict[str, float] = {}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name] = min(times.get(name, np.inf), time.perf_counter() - start)
    return times


def highest(call: Callable[[], Any]) -> float:
    """MiB that numpy allocates at most within a call."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def differences(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    difference = np.abs(ours - theirs)
    norm = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    return f"largest / largest {difference.max() / np.abs(theirs).max():.1e}, L2 / L2 {norm:.1e}"


def bench_fisher(path: Path | None, repeats: int) -> None:
    import skimage.feature
    from sklearn.mixture import GaussianMixture

    fisher_vector: Callable[..., Any] = skimage.feature.fisher_vector
    # A clip is not what the mixture was fitted to: there, the gradients would all but vanish.
    if path is None:
        others, rows = made_up_rows(4 * ROWS), made_up_rows(ROWS, slice(0, 150))
    else:
        table = np.load(path).astype(np.float32)
        others, rows = np.split(table, [len(table) // 2])
    fitted, _ = fit_gmm(others.astype(np.float64), COMPONENTS, max_iter=10)
    mixture = GaussianMixture(COMPONENTS, covariance_type="diag")
    mixture.weights_, mixture.means_ = fitted.weights, fitted.means
    mixture.covariances_ = fitted.variances
    mixture.precisions_cholesky_ = 1 / np.sqrt(fitted.variances)
    gmm = fitted
    wide = rows.astype(np.float64)
    calls: dict[str, Callable[[], Any]] = {
        "scikit-image, float32 rows": lambda: fisher_vector(rows, mixture),
        "scikit-image, float64 rows": lambda: fisher_vector(wide, mixture),
        "flowpipe, float32 rows": lambda: fisher_gradients(e_step(rows, gmm), gmm),
        "flowpipe, float64 rows": lambda: fisher_gradients(e_step(wide, gmm), gmm),
    }
    calls["flowpipe, float32 rows"]()
    calls["flowpipe, float64 rows"]()
    times = best_of(calls, repeats)
    print(f"{rows.shape[0]} rows of {rows.shape[1]}, K = {COMPONENTS}, one core")
    for name, seconds in times.items():
        print(f"  {name:28s} {1e3 * seconds:7.1f} ms   {highest(calls[name]):7.1f} MiB")
    for kind in ("float32", "float64"):
        ratio = times[f"scikit-image, {kind} rows"] / times[f"flowpipe, {kind} rows"]
        print(f"  {kind}: {ratio:.2f} times as fast")
    theirs = fisher_vector(wide, mixture)[COMPONENTS:]
    theirs[gmm.means.size :] *= -1
    for kind, table in (("float32", rows), ("float64", wide)):
        ours = fisher_gradients(e_step(table, gmm), gmm)
        print(f"  {kind}, gradients:        {differences(ours, theirs)}")
        print(f"  {kind}, root and L2 norm: {differences(improved(ours), improved(theirs))}")
    once, twice = (
        highest(lambda: e_step(rows, gmm)),
        highest(lambda: e_step(np.tile(rows, (4, 1)), gmm)),
    )
    extra = 4 * rows.nbytes / 2**20
    print(f"  memory at 1 x and 4 x the rows: {once:.1f} and {twice - extra:.1f} MiB")


def bench_em(count: int) -> None:
    from sklearn.mixture import GaussianMixture

    rows = made_up_rows(count)
    begun, _ = fit_gmm(rows, COMPONENTS, max_iter=0)
    fit_gmm(rows[: 2 * COMPONENTS], COMPONENTS, max_iter=1)
    start = time.process_time()
    ours, passes = fit_gmm(rows, COMPONENTS)
    took = time.process_time() - start
    mean = e_step(rows, ours).log_likelihood / count
    print(f"{count} rows of {WIDTH}, K = {COMPONENTS}; processor time, k-means apart where said")
    print(f"  flowpipe, {passes} passes, with k-means: {took:.1f} s, log-likelihood {mean:.4f}")
    for steps in (passes, 2 * passes):
        mixture = GaussianMixture(
            COMPONENTS,
            covariance_type="diag",
            tol=0,
            max_iter=steps,
            reg_covar=0,
            weights_init=begun.weights,
            means_init=begun.means,
            precisions_init=1 / begun.variances,
        )
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(rows.astype(np.float64))
        took = time.process_time() - start
        theirs = DiagonalGmm(mixture.weights_, mixture.means_, mixture.covariances_)
        mean = e_step(rows, theirs).log_likelihood / count
        print(
            f"  scikit-learn, {steps} steps, without k-means: {took:.1f} s, "
            f"log-likelihood {mean:.4f}"
        )


def bench_ucf101(count: int, n_classes: int, jobs: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(count) % n_classes)
    train = np.flatnonzero(rng.random(count) < 9537 / 13320)
    test = np.setdiff1d(np.arange(count), train)
    total: NDArray[np.float32] | None = None
    start = time.perf_counter()
    for width in WIDTHS:
        vectors = random_vectors(rng, labels, 2 * COMPONENTS * width)
        begun, used = time.perf_counter(), time.process_time()
        gram = linear_gram(vectors)
        print(
            f"  Gram of {count} x {vectors.shape[1]}: {time.perf_counter() - begun:.0f} s, "
            f"{time.process_time() - used:.0f} s of processors",
            flush=True,
        )
        del vectors
        if total is None:
            total = gram
        else:
            total += gram
    assert total is not None
    total /= len(WIDTHS)
    begun, used = time.perf_counter(), time.process_time()
    found = one_vs_rest(total, labels[train], train, test, n_classes, jobs=jobs)
    print(
        f"  {n_classes} machines of {len(train)} clips: {time.perf_counter() - begun:.0f} s, "
        f"{time.process_time() - used:.0f} s of processors"
    )
    part = SplitScores("1", tuple(map(str, test)), labels[test], found)
    accuracy = evaluate(Scores(tuple(map(str, range(n_classes))), (part,))).accuracy.value
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  accuracy {100 * accuracy:.1f} %, {time.perf_counter() - start:.0f} s in all")
    print(f"  memory at the highest {peak:.1f} GiB")


def random_vectors(
    rng: np.random.Generator, labels: NDArray[np.int64], width: int
) -> NDArray[np.float32]:
    """Unit vectors that share a little with those of their class."""
    classes = rng.standard_normal((labels.max() + 1, width), np.float32)
    vectors = np.empty((len(labels), width), np.float32)
    for first in range(0, len(labels), 256):
        part = slice(first, first + 256)
        block = rng.standard_normal((len(labels[part]), width), np.float32)
        block += 0.15 * classes[labels[part]]
        vectors[part] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    fisher = commands.add_parser("fisher", help="against scikit-image")
    fisher.add_argument("--rows", type=Path, help="npy of (n, 54) rows; made up by default")
    fisher.add_argument("--repeats", type=int, default=15)
    em = commands.add_parser("em", help="against scikit-learn")
    em.add_argument("--count", type=int, default=ROWS, help="rows")
    ucf101 = commands.add_parser("ucf101", help="a set of UCF101's size")
    ucf101.add_argument("--clips", type=int, default=13320)
    ucf101.add_argument("--classes", type=int, default=101)
    ucf101.add_argument("--jobs", type=int, default=2, help="threads")
    given = parser.parse_args(arguments)
    if given.command == "ucf101":
        with threadpool_limits(given.jobs):
            bench_ucf101(given.clips, given.classes, given.jobs)
        return
    with threadpool_limits(1):
        if given.command == "fisher":
            bench_fisher(given.rows, given.repeats)
        else:
            bench_em(given.count)


if __name__ == "__main__":
    main()
