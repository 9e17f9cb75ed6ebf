import numpy as np

from flowpipe.camera.corners import CornerStrength
from flowpipe.camera.keypoints import KeypointFinder, Keypoints, nearest_keypoints
from tests.trajectories.test_extract import texture

HEIGHT, WIDTH = 120, 160


def found(grey: np.ndarray, mask: np.ndarray | None = None) -> Keypoints:
    corners = CornerStrength(*grey.shape)
    corners.measure(grey)
    return KeypointFinder(*grey.shape, 200, 0.001).find(grey, corners, mask)


def test_keypoints_are_found_again_where_the_pattern_went():
    big = texture(HEIGHT + 20, WIDTH + 20, 3)
    last = found(np.ascontiguousarray(big[:HEIGHT, :WIDTH]))
    now = found(np.ascontiguousarray(big[6 : HEIGHT + 6, 9 : WIDTH + 9]))
    nearest = np.empty(len(now[0]), np.int64)
    nearest_keypoints(*last, *now, nearest)
    assert len(nearest) > 20
    moved = now[0][nearest >= 0] - last[0][nearest[nearest >= 0]]
    assert np.mean(np.abs(moved - [-9, -6]).max(axis=1) < 0.01) > 0.7


def test_a_match_beyond_the_search_range_is_none():
    places, bits = found(texture(HEIGHT, WIDTH, 3))
    nearest = np.empty(len(places), np.int64)
    nearest_keypoints(places + np.float32(200), bits, places, bits, nearest)
    assert (nearest == -1).all()


def test_the_mask_keeps_keypoints_out():
    mask = np.ones((HEIGHT, WIDTH), np.uint8)
    mask[:, 80:] = 0
    places, _ = found(texture(HEIGHT, WIDTH, 3), mask)
    assert len(places)
    assert (places[:, 0] < 80.5).all()


def test_a_flat_frame_has_none():
    places, bits = found(np.zeros((HEIGHT, WIDTH), np.uint8))
    assert places.shape == (0, 2)
    assert bits.shape == (0, 4)
