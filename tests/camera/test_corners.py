import cv2
import numpy as np
import pytest

from flowpipe.camera.corners import CornerStrength
from tests.trajectories.test_extract import texture


def measured(grey: np.ndarray) -> CornerStrength:
    corners = CornerStrength(*grey.shape)
    corners.measure(grey)
    return corners


@pytest.mark.parametrize("shape", [(60, 80), (33, 47), (7, 32), (3, 3)])
@pytest.mark.parametrize("kind", ["texture", "noise"])
def test_strength_is_that_of_opencv(shape, kind):
    grey = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    if kind == "texture":
        grey = texture(*shape)
    corners, expected = measured(grey), cv2.cornerMinEigenVal(grey, 3, ksize=3)
    np.testing.assert_allclose(corners.strength, expected, rtol=0, atol=1e-6 * expected.max())
    assert corners.largest == corners.strength.max()


@pytest.mark.parametrize(("most", "quality"), [(1000, 0.001), (40, 0.001), (1000, 0.2)])
@pytest.mark.parametrize("masked", [False, True])
def test_corners_are_those_of_opencv(most, quality, masked):
    grey, mask = texture(90, 120, 2), None
    if masked:
        mask = np.ones(grey.shape, np.uint8)
        mask[20:70, 30:100] = 0
    found = measured(grey).strongest(mask, most, quality)
    expected = cv2.goodFeaturesToTrack(grey, most, quality, 3, mask=mask, blockSize=3)
    np.testing.assert_array_equal(found, expected[:, 0])


def test_nothing_in_a_flat_frame():
    corners = measured(np.full((40, 50), 9, np.uint8))
    assert corners.largest == 0
    assert len(corners.strongest(None, 100, 0.001)) == 0
    assert len(corners.strongest(np.zeros((40, 50), np.uint8), 100, 0.001)) == 0
