"""Fit a homography to matched points by RANSAC.

Fischler and Bolles (1981), in the implementation of ``cv2.findHomography``: the same random
samples, tests of a sample, inliers and stopping criterion, hence the same inliers in the result.
OpenCV solves an eigenvalue problem of a 9x9 matrix for every sample of four points; here it is the
closed form. The homography is the least-squares fit to the inliers, whose minimum OpenCV finds too.

With ``cv2.findHomography`` in its place, improved trajectories take 5 % longer (26.6 instead of
25.1 ms per frame of 320x240), and rows change with OpenCV's version, whose random samples do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe._typing import Plane
from flowpipe._vectors import kernel

Homography = NDArray[np.float64]

_MIN_MATCHES, _MIN_INLIERS = 50, 25
_THRESHOLD, _CONFIDENCE, _ITERATIONS, _ATTEMPTS = 1.0, 0.995, 2000, 10000
_BLOCK = 128
"""Matches that are tested before checking whether a sample can still be the best."""
_STEPS, _SMALLEST_STEP = 10, 1e-9
_EPSILON = float(np.finfo(np.float32).eps)
_LOW = np.uint64(0xFFFFFFFF)


def fit_homography(source: Plane, target: Plane, precise: int = 0) -> Homography:
    """Return a homography by RANSAC (1 pixel), or the identity with too few matches or inliers.

    The random generator starts in the same state in every call, so the result is reproducible.

    Parameters
    ----------
    source, target
        (n, 2) float32 x, y of the matches.
    precise
        Number of matches, from the first, that are more precise than the others: the homography is
        refitted to the inliers among them.

    Returns
    -------
    (3, 3) float64; the identity with at most 50 matches or at most 25 inliers.
    """
    if len(source) <= _MIN_MATCHES:
        return np.eye(3)
    points = np.ascontiguousarray(np.hstack([source, target]).T, np.float32)
    error, inliers = np.empty(len(source), np.float32), np.zeros(len(source), np.bool_)
    sample = np.empty((3, 3))
    if ransac(points, error, inliers, sample) <= _MIN_INLIERS:
        return np.eye(3)
    matrix = least_squares(points, inliers, sample)
    if precise:
        squared_errors(matrix, points[0], points[1], points[2], points[3], error)
        inliers = error <= _THRESHOLD * _THRESHOLD
        inliers[precise:] = False
        if np.count_nonzero(inliers) > _MIN_INLIERS:
            matrix = least_squares(points, inliers, matrix)
    return np.asarray(matrix, np.float64)


@kernel
def least_squares(points, inliers, matrix):  # type: ignore[no-untyped-def]
    """Minimize the distances of the mapped points from their matches by Gauss-Newton.

    Parameters
    ----------
    points
        (4, n): source x, y and target x, y.
    inliers
        (n,) bool; at least four inliers in general position.
    matrix
        (3, 3) initial value, last entry 1, near the solution.
    """
    normal, right = np.empty((8, 8)), np.empty(8)
    matrix = matrix.copy()
    for _ in range(_STEPS):
        # blocks of the normal equations: products of p = (x, y, 1) / depth, which both coordinates
        # share, and of the derivatives by the depth
        normal[:] = 0
        right[:] = 0
        for i in range(points.shape[1]):
            if not inliers[i]:
                continue
            x, y = np.float64(points[0, i]), np.float64(points[1, i])
            depth = 1 / (matrix[2, 0] * x + matrix[2, 1] * y + 1)
            u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) * depth
            v = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) * depth
            du, dv = points[2, i] - u, points[3, i] - v
            p = (x * depth, y * depth, depth)
            for j in range(3):
                for k in range(j + 1):
                    normal[j, k] += p[j] * p[k]
                for k in range(2):
                    normal[6 + k, j] -= p[j] * p[k] * u
                    normal[6 + k, 3 + j] -= p[j] * p[k] * v
                right[j] += p[j] * du
                right[3 + j] += p[j] * dv
            square, along = u * u + v * v, u * du + v * dv
            for j in range(2):
                for k in range(j + 1):
                    normal[6 + j, 6 + k] += p[j] * p[k] * square
                right[6 + j] -= p[j] * along
        normal[3:6, 3:6] = normal[:3, :3]
        if not solve_symmetric(normal, right):
            break
        change = 0.0
        for j in range(8):
            matrix[j // 3, j % 3] += right[j]
            change = max(change, abs(right[j]))
        if change < _SMALLEST_STEP:
            break
    return matrix


@kernel
def solve_symmetric(matrix, right):  # type: ignore[no-untyped-def]
    """Solve in place by Cholesky's method from the lower triangle; return whether it succeeded."""
    size = right.size
    for j in range(size):
        for k in range(j):
            for i in range(j, size):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
        if not matrix[j, j] > 0:
            return False
        root = np.sqrt(matrix[j, j])
        for i in range(j, size):
            matrix[i, j] /= root
    for i in range(size):
        for k in range(i):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= matrix[k, i] * right[k]
        right[i] /= matrix[i, i]
    return True


@kernel
def next_random(state, count):  # type: ignore[no-untyped-def]
    """Return the next state of OpenCV's multiply-with-carry generator, and a number < `count`."""
    state = (state & _LOW) * np.uint64(4164903690) + (state >> np.uint64(32))
    return state, np.int64((state & _LOW) % np.uint64(count))


@kernel
def double_area(p, a, b, c):  # type: ignore[no-untyped-def]
    """Return twice the signed area of a triangle of columns of `p`, (2, n)."""
    return (p[0, b] - p[0, a]) * (p[1, c] - p[1, a]) - (p[1, b] - p[1, a]) * (p[0, c] - p[0, a])


@kernel
def last_is_collinear(p):  # type: ignore[no-untyped-def]
    """Return whether the last of four points is collinear with two others."""
    for j in range(3):
        dx1, dy1 = p[0, j] - p[0, 3], p[1, j] - p[1, 3]
        for k in range(j):
            dx2, dy2 = p[0, k] - p[0, 3], p[1, k] - p[1, 3]
            extent = abs(dx1) + abs(dy1) + abs(dx2) + abs(dy2)
            if abs(dx2 * dy1 - dy2 * dx1) <= _EPSILON * extent:
                return True
    return False


@kernel
def is_valid_sample(sample):  # type: ignore[no-untyped-def]
    """Return whether four matches, (4, 4), are in general position and equally oriented."""
    source, target = sample[:2], sample[2:]
    if last_is_collinear(source) or last_is_collinear(target):
        return False
    turned = 0
    for a, b, c in ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)):
        turned += double_area(source, a, b, c) * double_area(target, a, b, c) < 0
    return turned == 0 or turned == 4


@kernel
def basis_to_points(p, out):  # type: ignore[no-untyped-def]
    """Compute the projective map of the axes and of (1, 1, 1) to four points, up to a factor."""
    weights = (double_area(p, 1, 2, 3), double_area(p, 2, 0, 3), double_area(p, 0, 1, 3))
    for k in range(3):
        out[0, k], out[1, k], out[2, k] = weights[k] * p[0, k], weights[k] * p[1, k], weights[k]


@kernel
def through_four(sample, first, second, out):  # type: ignore[no-untyped-def]
    """Compute the homography of four matches, last entry 1; return whether there is one."""
    basis_to_points(sample[:2], first)
    basis_to_points(sample[2:], second)
    # second @ adjugate(first)
    for i in range(3):
        a, b, c = second[i]
        for j in range(3):
            k, m = (j + 1) % 3, (j + 2) % 3
            out[i, j] = (
                a * (first[k, 1] * first[m, 2] - first[m, 1] * first[k, 2])
                + b * (first[k, 2] * first[m, 0] - first[m, 2] * first[k, 0])
                + c * (first[k, 0] * first[m, 1] - first[m, 0] * first[k, 1])
            )
    if abs(out[2, 2]) < 1e-300:
        return False
    out /= out[2, 2]
    return True


@kernel
def squared_errors(matrix, sx, sy, tx, ty, error):  # type: ignore[no-untyped-def]
    """Compute the squared distances of the mapped points from their matches."""
    h00, h01, h02 = np.float32(matrix[0, 0]), np.float32(matrix[0, 1]), np.float32(matrix[0, 2])
    h10, h11, h12 = np.float32(matrix[1, 0]), np.float32(matrix[1, 1]), np.float32(matrix[1, 2])
    h20, h21, one = np.float32(matrix[2, 0]), np.float32(matrix[2, 1]), np.float32(1)
    for i in range(sx.size):
        depth = one / (h20 * sx[i] + h21 * sy[i] + one)
        dx = (h00 * sx[i] + h01 * sy[i] + h02) * depth - tx[i]
        dy = (h10 * sx[i] + h11 * sy[i] + h12) * depth - ty[i]
        error[i] = dx * dx + dy * dy


@kernel
def count_below(error, limit):  # type: ignore[no-untyped-def]
    """Return the number of errors of at most `limit`."""
    count = np.int32(0)
    for i in range(error.size):
        count += np.int32(1) if error[i] <= limit else np.int32(0)
    return count


@kernel
def samples_needed(share, most):  # type: ignore[no-untyped-def]
    """Return the number of samples that include one without outliers with the confidence."""
    success = share**4
    if 1 - success < 2.3e-308:
        return 0
    wanted, spoilt = np.log(1 - _CONFIDENCE), np.log(1 - success)
    if spoilt >= 0 or -wanted >= most * -spoilt:
        return most
    return int(np.rint(wanted / spoilt))


@kernel
def ransac(points, error, inliers, winner):  # type: ignore[no-untyped-def]
    """Mark the inliers of the best sample; return their number.

    `points` is (4, n): source x, y and target x, y; `error` is a buffer. `winner` becomes the
    homography of the sample.
    """
    count, limit = points.shape[1], np.float32(_THRESHOLD * _THRESHOLD)
    sx, sy, tx, ty = points[0], points[1], points[2], points[3]
    sample, chosen = np.empty((4, 4)), np.empty(4, np.int64)
    first, second, matrix = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    best, needed, done, state = 3, _ITERATIONS, 0, np.uint64(0xFFFFFFFFFFFFFFFF)
    while done < needed:
        done += 1
        valid = False
        for _ in range(_ATTEMPTS):
            k = 0
            while k < 4:
                state, chosen[k] = next_random(state, count)
                new = True
                for j in range(k):
                    new = new and chosen[j] != chosen[k]
                k += new
            for k in range(4):
                for i in range(4):
                    sample[i, k] = points[i, chosen[k]]
            valid = is_valid_sample(sample)
            if valid:
                break
        if not valid:
            break
        if not through_four(sample, first, second, matrix):
            continue
        good = 0
        for begin in range(0, count, _BLOCK):
            end = min(begin + _BLOCK, count)
            squared_errors(
                matrix, sx[begin:end], sy[begin:end], tx[begin:end], ty[begin:end], error
            )
            good += count_below(error[: end - begin], limit)
            if good + count - end <= best:
                break
        if good > best:
            best = good
            winner[:] = matrix
            squared_errors(matrix, sx, sy, tx, ty, error)
            for i in range(count):
                inliers[i] = error[i] <= limit
            needed = samples_needed(good / count, needed)
    return best if best > 3 else 0
