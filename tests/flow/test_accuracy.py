"""The accurate setting of TV-L1 against OpenCV's solver with its defaults."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import flowpipe
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Tvl1
from tests.helpers.clips import shared_data


def errors(first, second, truth) -> tuple[float, float]:
    """Mean end-point errors in pixels of ours and of OpenCV's; flow is NaN where not known."""
    ours = flowpipe.optical_flow(first, second, preset="accurate")
    theirs = cv2.optflow.DualTVL1OpticalFlow_create().calc(first, second, None).transpose(2, 0, 1)
    ours_off, theirs_off = (np.nanmean(np.hypot(*(flow - truth))) for flow in (ours, theirs))
    return float(ours_off), float(theirs_off)


def grey(path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)


def natural(height: int, width: int, seed: int) -> np.ndarray:
    """Return a texture with detail at every scale, as photographs have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for scale in (1, 2, 4, 8, 16, 32):
        noise = rng.standard_normal((height, width)).astype(np.float32)
        total += scale**2 * cv2.GaussianBlur(noise, (0, 0), scale)
    return np.asarray(cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_large_motion_of_a_made_up_pair(seed):
    """The camera pans by 39 pixels, turns by two degrees, and comes 6 % nearer."""
    height, width, margin = 240, 320, 64
    whole = natural(height + 2 * margin, width + 2 * margin, seed)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 2, 1.06)
    turn[:, 2] += (36, -14)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    truth = np.stack([row[0] * x + row[1] * y + row[2] for row in turn]).astype(np.float32)
    first = cv2.remap(whole, truth[0] + margin, truth[1] + margin, cv2.INTER_CUBIC)
    second = whole[margin:-margin, margin:-margin]
    # What leaves the frame has no place in the second one.
    inside = (truth >= 0).all(axis=0) & (truth[0] < width) & (truth[1] < height)
    truth = np.where(inside, truth - np.stack([x, y]), np.nan)
    ours, theirs = errors(np.asarray(first, np.uint8), second, truth)
    assert ours < theirs / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Dimetrodon", "Grove2", "Hydrangea", "RubberWhale"])
def test_middlebury(name):
    folder = shared_data("middlebury", name)
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo")).transpose(2, 0, 1)
    truth = np.where(np.abs(truth) < 1e9, truth, np.nan)
    ours, theirs = errors(grey(folder / "frame10.png"), grey(folder / "frame11.png"), truth)
    assert ours < theirs


@pytest.mark.slow
@pytest.mark.parametrize("number", ["000027", "000151"])
def test_kitti(number):
    folder = shared_data("kitti")
    coded = cv2.imread(str(folder / f"flow_occ_{number}_10.png"), cv2.IMREAD_UNCHANGED)
    truth = (coded[..., :0:-1].astype(np.float32).transpose(2, 0, 1) - 2**15) / 64
    truth[:, coded[..., 0] == 0] = np.nan
    frames = (grey(folder / f"image_0_{number}_{frame}.png") for frame in (10, 11))
    ours, theirs = errors(*frames, truth)
    assert ours < theirs


def test_opencv_refuses_what_it_does_not_have():
    for runtime in ("opencv-cpu", "opencv-cuda", "opencv-opencl"):
        reason = solvers.opencv.why_unsupported(Tvl1.accurate(), runtime.removeprefix("opencv-"))
        assert reason is not None
        assert "take" in reason
