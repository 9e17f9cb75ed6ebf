import cv2
import numpy as np
import pytest

from flowpipe.trajectories.median import MedianFilter


@pytest.mark.parametrize("shape", [(240, 320), (42, 57), (9, 13), (8, 8), (3, 8), (32, 5)])
@pytest.mark.parametrize("levels", [None, 3])
def test_it_is_the_median_of_25_pixels(shape, levels):
    rng = np.random.default_rng(0)
    plane = rng.standard_normal(shape).astype(np.float32)
    if levels is not None:
        plane = np.round(plane * levels) / np.float32(levels)
    out = np.full_like(plane, np.nan)
    MedianFilter(*shape).apply(plane, out)
    np.testing.assert_array_equal(out, cv2.medianBlur(plane, 5))
