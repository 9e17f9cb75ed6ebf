from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from flowpipe.errors import BackendUnavailableError, ParameterError
from flowpipe.flow.opencv import OpencvSolver, why_unavailable
from flowpipe.flow.parameters import Brox, Dis, Farneback, Tvl1
from tests.helpers import media

METHODS = [Tvl1(), Farneback(), Dis()]
NAMES = [parameters.method for parameters in METHODS]
BORDER = 12


def _pair(dx: int, dy: int, height: int = 64, width: int = 80, seed: int = 0):
    return media.moving(2, height, width, dx=dx, dy=dy, seed=seed)


def _solve(parameters, pair, runtime="cpu"):
    solver = OpencvSolver(parameters, runtime, *pair[0].shape)
    return solver(pair[0][None], pair[1][None])[0]


def _end_point_error(flow, dx, dy):
    inner = flow[:, BORDER:-BORDER, BORDER:-BORDER]
    return float(np.hypot(inner[0] - dx, inner[1] - dy).mean())


@pytest.mark.parametrize("parameters", METHODS, ids=NAMES)
@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (0, 2), (-2, 1), (3, -3)])
def test_known_motion_x_then_y(parameters, dx, dy):
    flow = _solve(parameters, _pair(dx, dy))
    assert flow.shape == (2, 64, 80)
    assert flow.dtype == np.float32
    assert _end_point_error(flow, dx, dy) < 0.15


@pytest.mark.parametrize("parameters", METHODS, ids=NAMES)
def test_a_batch_equals_its_pairs_alone(parameters):
    pairs = [_pair(2, 0, seed=1), _pair(-1, 2, seed=2), _pair(0, -2, seed=3)]
    first, second = (np.stack(images) for images in zip(*pairs, strict=True))
    solver = OpencvSolver(parameters, "cpu", 64, 80)
    batch = solver(first, second)
    assert batch.shape == (3, 2, 64, 80)
    for index, pair in enumerate(pairs):
        np.testing.assert_array_equal(batch[index], _solve(parameters, pair))
    np.testing.assert_array_equal(solver(first[:1], second[:1])[0], batch[0])
    assert solver(first[:0], second[:0]).shape == (0, 2, 64, 80)


@pytest.mark.parametrize("parameters", METHODS, ids=NAMES)
def test_identical_frames_give_zero(parameters):
    still = media.texture(64, 80)
    flow = np.abs(_solve(parameters, (still, still)))
    if parameters.method == "farneback":  # which drifts at the border, by up to 0.3 px here
        flow = flow[:, BORDER:-BORDER, BORDER:-BORDER]
        assert np.median(flow) < 1e-3
        assert flow.max() < 0.1
    else:
        assert flow.max() < 1e-3


@pytest.mark.parametrize("parameters", METHODS, ids=NAMES)
def test_frames_need_not_be_contiguous(parameters):
    one, other = _pair(2, 1)
    spread = np.zeros((2, 64, 160), np.uint8)
    spread[0, :, ::2], spread[1, :, ::2] = one, other
    solver = OpencvSolver(parameters, "cpu", 64, 80)
    flow = solver(spread[:1, :, ::2], spread[1:, :, ::2])
    np.testing.assert_array_equal(flow[0], _solve(parameters, (one, other)))


def test_tvl1_is_set_to_the_scheme_of_the_cuda_solver():
    pair = _pair(2, 1)
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setMedianFiltering(1)
    theirs.setInnerIterations(1)
    theirs.setOuterIterations(300)
    expected = theirs.calc(*pair, None).transpose(2, 0, 1)
    np.testing.assert_array_equal(_solve(Tvl1(), pair), expected)
    defaults = cv2.optflow.DualTVL1OpticalFlow_create().calc(*pair, None).transpose(2, 0, 1)
    assert np.abs(defaults - expected).max() > 0


def test_every_tvl1_parameter_reaches_the_solver():
    parameters = Tvl1(
        tau=0.2,
        lambda_=0.1,
        theta=0.4,
        n_scales=3,
        scale_step=0.7,
        warps=2,
        epsilon=0.02,
        iterations=20,
        median=5,
        gamma=0.5,
    )
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setTau(0.2)
    theirs.setLambda(0.1)
    theirs.setTheta(0.4)
    theirs.setScalesNumber(3)
    theirs.setScaleStep(0.7)
    theirs.setWarpingsNumber(2)
    theirs.setEpsilon(0.02)
    theirs.setInnerIterations(1)
    theirs.setOuterIterations(20)
    theirs.setMedianFiltering(5)
    theirs.setGamma(0.5)
    pair = _pair(2, 1)
    expected = theirs.calc(*pair, None).transpose(2, 0, 1)
    np.testing.assert_array_equal(_solve(parameters, pair), expected)


def test_every_farneback_parameter_reaches_the_solver():
    parameters = Farneback(
        levels=3,
        pyr_scale=0.6,
        window=9,
        iterations=4,
        poly_n=7,
        poly_sigma=1.5,
        gaussian_window=True,
    )
    pair = _pair(2, 1)
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    # The function's last level is counted beside the full size, as in the class.
    expected = cv2.calcOpticalFlowFarneback(*pair, None, 0.6, 3, 9, 4, 7, 1.5, flags)
    np.testing.assert_array_equal(_solve(parameters, pair), expected.transpose(2, 0, 1))


def test_every_dis_parameter_reaches_the_solver():
    parameters = Dis(
        preset="fast",
        finest_scale=1,
        patch_size=10,
        patch_stride=5,
        gradient_descent_iterations=20,
        variational_refinement_iterations=3,
        variational_refinement_alpha=15.0,
        variational_refinement_delta=4.0,
        variational_refinement_gamma=8.0,
        use_mean_normalization=False,
        use_spatial_propagation=False,
    )
    theirs = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    theirs.setFinestScale(1)
    theirs.setPatchSize(10)
    theirs.setPatchStride(5)
    theirs.setGradientDescentIterations(20)
    theirs.setVariationalRefinementIterations(3)
    theirs.setVariationalRefinementAlpha(15)
    theirs.setVariationalRefinementDelta(4)
    theirs.setVariationalRefinementGamma(8)
    theirs.setUseMeanNormalization(False)
    theirs.setUseSpatialPropagation(False)
    pair = _pair(2, 1)
    expected = theirs.calc(*pair, None).transpose(2, 0, 1)
    np.testing.assert_array_equal(_solve(parameters, pair), expected)


def test_a_small_image_does_not_spoil_a_large_one_after_it():
    small, large = _pair(1, 0, 24, 24), _pair(6, 0, 96, 128)
    # This is the trap: OpenCV's object keeps the scales of the smallest image it ever met.
    theirs = cv2.optflow.DualTVL1OpticalFlow_create(
        medianFiltering=1, innnerIterations=1, outerIterations=300
    )
    fresh = theirs.calc(*large, None)
    theirs.calc(*small, None)
    assert np.abs(theirs.calc(*large, None) - fresh).max() > 0.01
    _solve(Tvl1(), small)
    np.testing.assert_array_equal(_solve(Tvl1(), large), fresh.transpose(2, 0, 1))


def test_as_many_scales_as_fit():
    pair = _pair(12, 0, 96, 128)
    errors = [_end_point_error(_solve(Tvl1(n_scales=n), pair), 12, 0) for n in (1, "auto")]
    assert errors[1] < 0.2 < errors[0]


def test_frames_too_small_for_the_method():
    with pytest.raises(ParameterError, match="frames are 80x11; dis needs at least 12x12"):
        OpencvSolver(Dis(), "cpu", 11, 80)
    _solve(Dis(), _pair(1, 0, 12, 12))
    _solve(Tvl1(), _pair(1, 0, 2, 2))
    _solve(Farneback(), _pair(1, 0, 2, 2))


def test_names_and_version():
    solver = OpencvSolver(Dis(), "cpu", 64, 80)
    assert (solver.name, solver.version) == ("opencv-cpu", cv2.__version__)


# --- what is missing, and the way out ----------------------------------------------------------


def test_a_missing_contrib_module(monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(BackendUnavailableError) as caught:
        OpencvSolver(Tvl1(), "cpu", 64, 80)
    assert "tvl1 with opencv-cpu: this cv2 has no 'optflow' module" in str(caught.value)
    assert "pip install --force-reinstall opencv-contrib-python" in str(caught.value)
    assert why_unavailable("cpu", "farneback") is None


def test_a_build_without_cuda(monkeypatch):
    monkeypatch.setattr(cv2, "cuda", SimpleNamespace(getCudaEnabledDeviceCount=lambda: 0))
    for parameters in (Tvl1(), Farneback(), Brox()):
        with pytest.raises(BackendUnavailableError, match="built without the CUDA flow modules"):
            OpencvSolver(parameters, "cuda", 64, 80)
    assert "scripts/build_opencv_cuda.sh" in why_unavailable("cuda", "tvl1")
    monkeypatch.delattr(cv2, "cuda")
    assert "built without the CUDA flow modules" in why_unavailable("cuda", "tvl1")


def test_no_opencl_library(monkeypatch):
    monkeypatch.setattr(cv2.ocl, "haveOpenCL", lambda: False)
    with pytest.raises(BackendUnavailableError, match="apt install ocl-icd-libopencl1"):
        OpencvSolver(Farneback(), "opencl", 64, 80)


def test_methods_that_a_runtime_does_not_have():
    for runtime, parameters in (("cpu", Brox()), ("opencl", Brox()), ("cuda", Dis())):
        with pytest.raises(
            BackendUnavailableError, match=f"OpenCV has no {parameters.method} on {runtime}, only"
        ):
            OpencvSolver(parameters, runtime, 64, 80)


# --- the calls of cv2.cuda, against a recorded double ------------------------------------------


class _GpuMat:
    def __init__(self) -> None:
        self.held: Any = None

    def upload(self, array: Any) -> None:
        self.held = array.copy()

    def download(self) -> Any:
        return self.held.copy()


class _Cuda:
    """What the code calls of ``cv2.cuda``; its flow is x = first, y = second."""

    GpuMat = _GpuMat

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.created: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.solved: list[tuple[Any, Any]] = []
        for name in ("OpticalFlowDual_TVL1", "FarnebackOpticalFlow", "BroxOpticalFlow"):
            setattr(self, f"{name}_create", self._factory(name))

    def getCudaEnabledDeviceCount(self) -> int:
        return self.devices

    def _factory(self, name: str) -> Any:
        def create(*args: Any, **named: Any) -> Any:
            self.created.append((name, args, named))
            return SimpleNamespace(calc=self._calc)

        return create

    def _calc(self, first: _GpuMat, second: _GpuMat, flow: None) -> _GpuMat:
        assert flow is None
        self.solved.append((first.held, second.held))
        result = _GpuMat()
        result.upload(np.dstack([first.held, second.held]).astype(np.float32))
        return result


@pytest.fixture
def cuda(monkeypatch):
    double = _Cuda()
    monkeypatch.setattr(cv2, "cuda", double)
    return double


def test_tvl1_on_cuda(cuda):
    first, second = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 1, 6, 8)
    solver = OpencvSolver(Tvl1(), "cuda", 6, 8)
    flow = solver(np.concatenate([first] * 3), np.concatenate([second] * 3))
    # tau, lambda, theta, scales, warps, epsilon, iterations, scale step, gamma, initial flow
    arguments = (0.25, 0.15, 0.3, 5, 5, 0.01, 300, 0.8, 0.0, False)
    assert cuda.created == [("OpticalFlowDual_TVL1", arguments, {})]
    assert len(cuda.solved) == 3
    assert cuda.solved[0][0].dtype == np.uint8
    np.testing.assert_array_equal(flow[2], [first[0], second[0]])
    assert flow.dtype == np.float32
    assert solver.name == "opencv-cuda"


def test_all_scales_of_tvl1_on_cuda(cuda):
    OpencvSolver(Tvl1(n_scales="auto", tau=0.1, lambda_=0.2, gamma=0.5), "cuda", 64, 80)
    assert cuda.created[0][1] == (0.1, 0.2, 0.3, 100, 5, 0.01, 300, 0.8, 0.5, False)


def test_farneback_on_cuda(cuda):
    OpencvSolver(Farneback(gaussian_window=True), "cuda", 64, 80)
    expected = {
        "numLevels": 5,
        "pyrScale": 0.5,
        "winSize": 13,
        "numIters": 10,
        "polyN": 5,
        "polySigma": 1.1,
        "flags": cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    }
    assert cuda.created == [("FarnebackOpticalFlow", (), expected)]


def test_brox_on_cuda_takes_floats_from_0_to_1(cuda):
    solver = OpencvSolver(Brox(), "cuda", 2, 2)
    image = np.array([[[0, 51], [102, 255]]], np.uint8)
    solver(image, image)
    assert cuda.created == [("BroxOpticalFlow", (0.197, 50.0, 0.8, 10, 77, 10), {})]
    assert cuda.solved[0][0].dtype == np.float32
    np.testing.assert_allclose(cuda.solved[0][0], [[0, 0.2], [0.4, 1]], rtol=1e-6)


def test_the_median_filter_is_refused_on_cuda(cuda):
    with pytest.raises(
        ParameterError, match="median is 5; opencv-cuda has no median filter, set it to 1"
    ):
        OpencvSolver(Tvl1(median=5), "cuda", 64, 80)
    assert not cuda.created


@pytest.mark.parametrize("devices", [0, -1])
def test_cuda_without_a_device(cuda, devices):
    cuda.devices = devices
    with pytest.raises(BackendUnavailableError, match="sees no device; check the driver with: nvi"):
        OpencvSolver(Tvl1(), "cuda", 64, 80)


def test_cuda_that_does_not_start(cuda, monkeypatch):
    def fail():
        error = cv2.error()
        error.err = "initialization error"
        raise error

    monkeypatch.setattr(cuda, "getCudaEnabledDeviceCount", fail)
    with pytest.raises(BackendUnavailableError, match=r"does not start \(initialization error\)"):
        OpencvSolver(Tvl1(), "cuda", 64, 80)


@pytest.mark.gpu
@pytest.mark.parametrize("parameters", [Tvl1(), Farneback(), Brox()], ids=lambda one: one.method)
def test_known_motion_on_cuda(parameters):
    if reason := why_unavailable("cuda", parameters.method):
        pytest.skip(reason)
    assert _end_point_error(_solve(parameters, _pair(2, -1), "cuda"), 2, -1) < 0.3


# --- OpenCL ------------------------------------------------------------------------------------

_OPENCL = """
import sys
import cv2, numpy as np
from tests.helpers import media
from flowpipe.errors import ParameterError
from flowpipe.flow.opencv import OpencvSolver, why_unavailable
from flowpipe.flow.parameters import Dis, Farneback, Tvl1

if reason := why_unavailable("opencl", "farneback"):
    print("unavailable:", reason)
    sys.exit()
pair = media.moving(2, 64, 80, dx=2, dy=-1)
for parameters in (Tvl1(iterations=60), Farneback(), Dis()):
    flows = [
        OpencvSolver(parameters, runtime, 64, 80)(pair[0][None], pair[1][None])[0]
        for runtime in ("opencl", "cpu")
    ]
    inner = flows[0][:, 12:-12, 12:-12]
    error = np.hypot(inner[0] - 2, inner[1] + 1).mean()
    print(parameters.method, error, np.abs(flows[0] - flows[1]).mean())
try:
    OpencvSolver(Tvl1(gamma=0.5), "opencl", 64, 80)
except ParameterError as error:
    print(error)
"""


def test_opencl_on_a_cpu_device():
    """In a process of its own: OpenCL's device is chosen once, by the environment."""
    output = subprocess.run(
        [sys.executable, "-c", _OPENCL],
        env={
            **os.environ,
            "OPENCV_OPENCL_DEVICE": ":CPU:",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if output[0].startswith("unavailable:"):
        pytest.skip(output[0])
    results = {line.split()[0]: [float(part) for part in line.split()[1:]] for line in output[:3]}
    assert set(results) == {"tvl1", "farneback", "dis"}
    for method, (error, difference) in results.items():
        assert error < 0.15, method
        assert difference < 0.1, method
    assert output[3].startswith("gamma is 0.5; opencv-opencl has no illumination term")
