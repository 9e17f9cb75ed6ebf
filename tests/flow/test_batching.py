from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from flowpipe.flow.batching import BatchedSolver, SerialSolver


class Sum:
    """A solver whose flow says which pair it is of, and that notes the batches it is given."""

    name = version = "sum"

    def __init__(self, batches: list[tuple[int, ...]], gate: threading.Event | None = None) -> None:
        self.batches = batches
        self.gate = gate

    def __call__(self, first, second):
        if self.gate:
            self.gate.wait()
        self.batches.append(first.shape)
        if (first == 255).any():
            raise RuntimeError("white frame")
        return np.stack([first, second], 1).astype(np.float32)


def frame(value: int, height: int = 4, width: int = 5) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def test_direct_computes_at_once_with_one_solver_a_size():
    made = []

    def create(height, width):
        made.append((height, width))
        return Sum([])

    direct = SerialSolver(create)
    for _ in range(2):
        for size in ((4, 5), (6, 7)):
            future = direct.submit(frame(1, *size), frame(2, *size))
            assert future.done()
            np.testing.assert_array_equal(future.result()[:, 0, 0], [1, 2])
    assert made == [(4, 5), (6, 7)]


def test_pairs_of_several_clips_share_batches_and_come_back_to_their_own():
    batches: list[tuple[int, ...]] = []
    gate = threading.Event()
    with BatchedSolver(lambda h, w: Sum(batches, gate), batch=8, clips=3) as engine:
        futures = {}

        def clip(number: int) -> None:
            for pair in range(5):
                futures[number, pair] = engine.submit(frame(10 * number), frame(pair))

        threads = [threading.Thread(target=clip, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gate.set()
        for (number, pair), future in futures.items():
            np.testing.assert_array_equal(future.result(10)[:, 0, 0], [10 * number, pair])
    assert sum(shape[0] for shape in batches) == 15
    # Whatever came before the gate opened was one batch at most; the rest fills the others.
    assert len(batches) <= 3
    assert max(shape[0] for shape in batches) == 8


def test_sizes_are_not_mixed():
    batches: list[tuple[int, ...]] = []
    with BatchedSolver(lambda h, w: Sum(batches), batch=4, clips=2) as engine:
        futures = [engine.submit(frame(i, 4 + i % 2), frame(0, 4 + i % 2)) for i in range(12)]
        shapes = [future.result(10).shape for future in futures]
    assert shapes == [(2, 4 + i % 2, 5) for i in range(12)]
    assert {shape[1:] for shape in batches} == {(4, 5), (5, 5)}


def test_a_pair_alone_is_not_kept_waiting():
    with BatchedSolver(lambda h, w: Sum([]), batch=64, clips=1) as engine:
        assert engine.submit(frame(1), frame(2)).result(5).shape == (2, 4, 5)


def test_what_a_solver_raises_reaches_its_batch_and_no_later_one():
    with BatchedSolver(lambda h, w: Sum([]), batch=1, clips=1) as engine:
        with pytest.raises(RuntimeError, match="white frame"):
            engine.submit(frame(255), frame(0)).result(10)
        assert engine.submit(frame(1), frame(0)).result(10)[0, 0, 0] == 1


def test_leaving_after_an_error_does_not_wait_for_what_is_left():
    gate = threading.Event()
    start = time.monotonic()

    def interrupted():
        with BatchedSolver(lambda h, w: Sum([], gate), batch=1, clips=1) as engine:
            engine.submit(frame(1), frame(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - start < 5
    gate.set()


@pytest.mark.parametrize(("batch", "clips", "ahead"), [(64, 1, 128), (64, 16, 8), (1, 8, 1)])
def test_clips_together_hand_in_two_batches(batch, clips, ahead):
    assert BatchedSolver(lambda h, w: Sum([]), batch, clips).ahead == ahead
