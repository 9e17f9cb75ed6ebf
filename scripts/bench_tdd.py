"""Time the pooling of maps along trajectories against numpy's indexing, in one run.

Both give both normalisations of 4096 trajectories on maps of 60 frames, 15 x 20 cells of 512
channels, as of VGG at 240 x 320 pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from flowpipe.trajectories.tdd import EPSILON, cells_of, channel_maxima, pool_maps

FRAMES, TRACKS, LENGTH, RUNS = 60, 4096, 15, 5


def main() -> None:
    """Print the best time of each, and how far their sums are apart."""
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(FRAMES, 15, 20, 512)), 0).astype(np.float16)
    points = rng.uniform((0, 0), (320, 240), (TRACKS, LENGTH, 2))
    ends = np.sort(rng.integers(LENGTH - 1, FRAMES, TRACKS))
    highest = channel_maxima(maps)

    def plain() -> dict[str, np.ndarray]:
        floats = maps.astype(np.float32)
        cells = cells_of(points, (16, 16), (15, 20))
        times = ends[:, None] + np.arange(1 - LENGTH, 1)
        by_cell = floats / (floats.max(axis=3, keepdims=True) + np.float32(EPSILON))
        return {
            "spatiotemporal": floats[times, cells[..., 1], cells[..., 0]].sum(axis=1) / highest,
            "channel": by_cell[times, cells[..., 1], cells[..., 0]].sum(axis=1),
        }

    def compiled() -> dict[str, np.ndarray]:
        return pool_maps(maps, points, ends, (16, 16), highest)

    apart = max(float(np.abs(plain()[name] - values).max()) for name, values in compiled().items())
    loop, indexing = _best(compiled), _best(plain)
    print(f"flowpipe {1000 * loop:.0f} ms, numpy {1000 * indexing:.0f} ms, {indexing / loop:.1f}x")
    print(f"largest difference of a sum: {apart:.1e}")


def _best(compute: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        compute()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
