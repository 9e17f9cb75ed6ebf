"""Stacks of fields, and fields followed along their motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowpipe.errors import FormatError
from flowpipe.flow import quantize
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.training import FlowClips
from flowpipe.training.data.stacks import ZERO, X, Y, follow, read_stack
from tests.helpers.clips import store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")


def travelling(n: int, dx: float, dy: float, size=(40, 30)) -> np.ndarray:
    """Flow (dx, dy) everywhere, and in x a pattern on top that travels along with it."""
    width, height = size
    y, x = np.indices((height, width), np.float32)
    fields = []
    for k in range(n):
        # small and slow, so that the pattern hardly moves itself
        pattern = 0.01 * np.sin((x - k * dx) / 3) * np.cos((y - k * dy) / 4)
        fields.append(np.stack([np.full_like(x, dx) + pattern, np.full_like(y, dy)]))
    return np.stack(fields).astype(np.float32)


def test_a_travelling_pattern_stands_still_on_its_trajectories():
    flow = travelling(6, 2.0, 1.0)
    stack = follow(flow)
    assert stack.shape == flow.shape
    assert np.array_equal(stack[0], flow[0])
    inside = (slice(None), slice(2, 20), slice(2, 24))  # what stays in the frame for 5 steps
    for k in range(1, 6):
        along, fixed = stack[k][inside] - flow[0][inside], flow[k][inside] - flow[0][inside]
        assert np.abs(along).max() < 5e-4  # bilinear interpolation and the pattern's own motion
        assert np.abs(fixed).max() > 5e-3


def test_following_uses_the_displacement_at_the_point_and_not_at_the_pixel():
    """Two steps by hand: p2 = p1 + d1(p1), p3 = p2 + d2(p2)."""
    rng = np.random.default_rng(0)
    flow = rng.integers(-2, 3, (3, 2, 9, 11)).astype(np.float32)
    stack = follow(flow)
    for y in range(9):
        for x in range(11):
            px, py = x, y
            for k in range(3):
                dx, dy = flow[k, :, py, px]
                assert stack[k, :, y, x].tolist() == [dx, dy]
                px, py = int(np.clip(px + dx, 0, 10)), int(np.clip(py + dy, 0, 8))


def test_still_flow_is_left_as_it_is():
    flow = np.zeros((4, 2, 8, 8), np.float32)
    assert np.array_equal(follow(flow), flow)


def test_points_that_leave_stay_at_the_border():
    flow = np.zeros((3, 2, 4, 6), np.float32)
    flow[0, 0] = 100
    flow[1:, 0, :, -1] = 7
    assert (follow(flow)[1:, 0] == 7).all()


def test_trajectory_stacks_of_stored_flow(tmp_path):
    flow = travelling(6, 2.0, 1.0)
    flow[:, 0] += 300 * (flow[:, 0] - 2.0)  # some pixels, so that 8 bit shows it
    store_clip(tmp_path / "npy", "npy", flow, clip="a")
    store_clip(tmp_path / "zip", "zip", flow, clip="a", quality=100)
    expected = quantize.to_uint8(follow(flow)).reshape(12, 30, 40)
    with FlowReader(next(stored_clips(tmp_path / "npy"))) as reader:
        assert np.array_equal(read_stack(reader, range(6), stacking="trajectory"), expected)
        plain = read_stack(reader, range(6))
    assert np.array_equal(plain, quantize.to_uint8(flow).reshape(12, 30, 40))
    data = FlowClips(
        tmp_path / "zip", [("a", 0)], segments=1, length=6, sampling="test", stacking="trajectory"
    )
    off = np.abs(data[0][0][0].numpy().astype(int) - expected)
    assert np.median(off) <= 1
    assert off.mean() < np.abs(plain.astype(int) - expected).mean() / 4


def test_still_pixels_are_128_on_trajectories_too(tmp_path):
    store_clip(tmp_path, "zip", np.zeros((5, 2, 16, 16), np.float32))
    data = FlowClips(tmp_path, [("a", 0)], stacking="trajectory")
    assert (data[0][0] == ZERO).all()


def test_channels_of_a_stack(tmp_path):
    store_clip(tmp_path, "zip", np.full((3, 2, 16, 16), [[[5.0]], [[-5.0]]], np.float32))
    with FlowReader(next(stored_clips(tmp_path))) as reader:
        stack = torch.from_numpy(read_stack(reader, range(3)))
    assert (stack[X] > ZERO + 20).all()
    assert (stack[Y] < ZERO - 20).all()
    assert len(stack[X]) == len(stack[Y]) == 3


def test_the_bound_of_stored_floats(tmp_path):
    store_clip(tmp_path, "npy", np.full((1, 2, 16, 16), 5, np.float32))
    for bound in (20.0, 10.0):
        with FlowReader(next(stored_clips(tmp_path)), bound=bound) as reader:
            expected = quantize.to_uint8(np.array(5.0), bound)
            assert (read_stack(reader, range(1)) == expected).all()


def test_fields_of_different_sizes_are_an_error(tmp_path):
    import cv2

    (tmp_path / "a").mkdir()
    for index, size in ((1, (16, 16)), (2, (12, 16))):
        for axis in "xy":
            path = tmp_path / f"a/flow_{axis}_{index:05d}.jpg"
            cv2.imwrite(str(path), np.zeros(size, np.uint8))
    with (
        FlowReader(next(stored_clips(tmp_path))) as reader,
        pytest.raises(FormatError, match=r"flow field 1 of .* is 16x12; field 0 is 16x16"),
    ):
        read_stack(reader, range(2))
