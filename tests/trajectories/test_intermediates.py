"""Every intermediate of one frame against the released iDT program's."""

from pathlib import Path

import numpy as np
import pytest

from flowpipe.camera.corners import CornerStrength
from flowpipe.camera.homography import fit_homography
from flowpipe.camera.motion import warp_back
from flowpipe.trajectories.farneback import FarnebackFlow
from flowpipe.trajectories.parameters import TrajectoryParameters
from flowpipe.trajectories.pyramid import grey_pyramid, pyramid_levels
from flowpipe.trajectories.sampling import Sampler

STAGES = ("person01_boxing_d1_uncomp_f1", "person01_boxing_d1_uncomp_f50", "v_Bowling_g01_c01_f20")


@pytest.fixture(params=STAGES)
def stage(request, test_data: Path) -> dict[str, np.ndarray]:
    with np.load(test_data / "golden" / f"stages_{request.param}.npz") as file:
        return dict(file)


@pytest.fixture
def levels(stage):
    return pyramid_levels(*stage["grey"].shape, 32, 8)


def test_grey_pyramid(stage, levels):
    pyramid = [np.empty((v.height, v.width), np.uint8) for v in levels]
    grey_pyramid(stage["prev_grey"], pyramid)
    for k, level in enumerate(pyramid):
        np.testing.assert_array_equal(level, stage[f"prev_grey_pyr_{k}"])
    assert f"prev_grey_pyr_{len(levels)}" not in stage


def test_expansion(stage, levels):
    solver = FarnebackFlow(levels, TrajectoryParameters())
    for grey, golden in (("grey", "poly_pyr"), ("grey_warp", "poly_warp_pyr")):
        expansion = solver.new_expansion()
        solver.expand(stage[grey], expansion)
        for k, level in enumerate(expansion):
            golden_level = stage[f"{golden}_{k}"]
            height, width = golden_level.shape[:2]
            np.testing.assert_allclose(level[:height, :width, :5], golden_level, rtol=0, atol=5e-5)


def test_flow(stage, levels):
    solver = FarnebackFlow(levels, TrajectoryParameters())
    first, second = solver.new_expansion(), solver.new_expansion()
    solver.expand(stage["prev_grey"], first)
    for grey, golden in (("grey", "flow_pyr"), ("grey_warp", "flow_warp_pyr")):
        solver.expand(stage[grey], second)
        flow = solver.new_flow()
        solver.flow(first, second, flow)
        for k, level in enumerate(flow):
            error = np.abs(level - stage[f"{golden}_{k}"].transpose(2, 0, 1))
            assert np.quantile(error, 0.99) < 5e-4
            # rounding grows where the equations are nearly singular
            assert error.max() < 0.1


def test_sampling(stage, levels):
    for k, level in enumerate(levels):
        sampler = Sampler(level, 5, 0.001)
        corners = CornerStrength(level.height, level.width)
        corners.measure(stage[f"prev_grey_pyr_{k}"])
        points = sampler.sample(corners, np.empty((0, 2), np.float32))
        np.testing.assert_array_equal(points, stage[f"fresh_points_{k}"][:, 0])


def test_corners_and_homography(stage):
    corners = CornerStrength(*stage["prev_grey"].shape)
    corners.measure(stage["prev_grey"])
    found = corners.strongest(None, 1000, 0.001)
    np.testing.assert_array_equal(found, stage["prev_pts_flow"][:, 0])
    homography = fit_homography(stage["prev_pts_all"][:, 0], stage["pts_all"][:, 0])
    np.testing.assert_allclose(homography, stage["H"], rtol=0, atol=1e-4)


def test_warped_frame(stage):
    warped = np.empty_like(stage["grey"])
    warp_back(stage["prev_grey"], stage["grey"], stage["H"], warped)
    np.testing.assert_array_equal(warped, stage["grey_warp"])
