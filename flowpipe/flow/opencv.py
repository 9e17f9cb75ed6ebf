"""OpenCV's flow solvers behind one call: on the CPU, through OpenCL, and in a build with CUDA.

TV-L1 runs in the scheme of OpenCV's CUDA solver on all three: no median filter and one loop of
iterations, as OpenCV's own tests set its CPU solver to compare the two. What stays different by
design are the cubic coefficient, the border rule and the 1/32-pixel interpolation of the warp.

An object here serves one frame size and one worker. OpenCV's TV-L1 object lowers its own number
of scales when it meets a small image and keeps it low, and none of its objects is thread-safe.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendUnavailableError, ParameterError
from flowpipe.flow.parameters import Brox, Dis, Farneback, FlowParameters, Tvl1

Runtime = Literal["cpu", "opencl", "cuda"]

VERSION: str = cv2.__version__
METHODS: dict[Runtime, tuple[str, ...]] = {
    "cpu": ("tvl1", "farneback", "dis"),
    "opencl": ("tvl1", "farneback", "dis"),
    "cuda": ("tvl1", "farneback", "brox"),
}

_ALL_SCALES = 100  # OpenCV stops by itself at 16 pixels
_SMALLEST = {"dis": 12}
_CONTRIB = (
    "this cv2 has no 'optflow' module: it is not opencv-contrib-python, or another OpenCV package "
    "has overwritten it; run: pip uninstall -y opencv-python opencv-python-headless && "
    "pip install --force-reinstall opencv-contrib-python"
)
_CUDA = (
    "this cv2 is built without the CUDA flow modules; "
    "scripts/build_opencv_cuda.sh builds one that has them (docs/opencv_cuda.md)"
)
_CUDA_FACTORIES = {
    "tvl1": "OpticalFlowDual_TVL1_create",
    "farneback": "FarnebackOpticalFlow_create",
    "brox": "BroxOpticalFlow_create",
}


def why_unavailable(runtime: Runtime, method: str) -> str | None:
    """Return None where the solver can run here, else the reason and the way out.

    Parameters
    ----------
    runtime
        Where OpenCV computes.
    method
        Name of the flow method.
    """
    if method not in METHODS[runtime]:
        return f"OpenCV has no {method} on {runtime}, only {', '.join(METHODS[runtime])}"
    if runtime == "cuda":
        if not hasattr(getattr(cv2, "cuda", None), _CUDA_FACTORIES[method]):
            return _CUDA
        return why_no_cuda_device()
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        return _CONTRIB
    if runtime == "opencl":
        return _why_no_opencl()
    return None


def why_no_cuda_device() -> str | None:
    """Return None where an OpenCV with CUDA sees a device, else the reason."""
    try:
        devices = cv2.cuda.getCudaEnabledDeviceCount()  # -1: no driver at all
    except cv2.error as error:
        return f"CUDA does not start ({error.err}); check the driver with: nvidia-smi"
    if devices < 1:
        return "cv2 is built with CUDA and sees no device; check the driver with: nvidia-smi"
    return None


def _why_no_opencl() -> str | None:
    if not cv2.ocl.haveOpenCL():
        return "no OpenCL library; on Debian and Ubuntu run: apt install ocl-icd-libopencl1"
    enabled = cv2.ocl.useOpenCL()
    cv2.ocl.setUseOpenCL(True)
    available = bool(cv2.ocl.Device.getDefault().available())
    cv2.ocl.setUseOpenCL(enabled)
    if not available:
        return (
            "no OpenCL GPU; install the card's OpenCL driver, or for the CPU run: "
            "apt install pocl-opencl-icd && export OPENCV_OPENCL_DEVICE=:CPU:"
        )
    return None


class OpencvSolver:
    """One of OpenCV's flow solvers, for frames of one size.

    Parameters
    ----------
    parameters
        Method and its parameters.
    runtime
        Where OpenCV computes.
    height, width
        Size of the frames, in pixels.

    Attributes
    ----------
    name, version
        What is recorded beside the flow: ``opencv-cpu`` and OpenCV's version.

    Raises
    ------
    BackendUnavailableError
        The solver cannot run here.
    ParameterError
        The runtime lacks what a parameter asks for, or the frames are too small for the method.
    """

    def __init__(
        self, parameters: FlowParameters, runtime: Runtime, height: int, width: int
    ) -> None:
        self.name = f"opencv-{runtime}"
        self.version = VERSION
        method = parameters.method
        if reason := why_unavailable(runtime, method):
            raise BackendUnavailableError(f"{method} with {self.name}: {reason}")
        smallest = _SMALLEST.get(method, 2)
        if min(height, width) < smallest:
            raise ParameterError(
                f"frames are {width}x{height}; {method} needs at least {smallest}x{smallest}"
            )
        if runtime == "cuda":
            self._flow: _CpuFlow | _CudaFlow = _CudaFlow(parameters)
        else:
            _check_supported(parameters, runtime)
            solver = _cpu_solver(parameters)
            self._flow = _OpenclFlow(solver) if runtime == "opencl" else _CpuFlow(solver)

    def __call__(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the flow of a batch of frame pairs.

        Parameters
        ----------
        first, second
            (B, H, W) uint8 grey.

        Returns
        -------
        (B, 2, H, W) float32
            Where each pixel of ``first`` is found in ``second``: displacement in x, then y,
            in pixels.
        """
        flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
        for one, other, out in zip(first, second, flow, strict=True):
            out[...] = self._flow(np.ascontiguousarray(one), np.ascontiguousarray(other)).transpose(
                2, 0, 1
            )
        return flow


class _CpuFlow:
    def __init__(self, solver: Any) -> None:
        self._solver = solver

    def __call__(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
        flow: NDArray[np.float32] = self._solver.calc(one, other, None)
        return flow


class _OpenclFlow(_CpuFlow):
    def __call__(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
        cv2.ocl.setUseOpenCL(True)
        flow: NDArray[np.float32] = self._solver.calc(
            cv2.UMat(one), cv2.UMat(other), cv2.UMat()
        ).get()
        return flow


class _CudaFlow:
    def __init__(self, parameters: FlowParameters) -> None:
        _check_supported(parameters, "cuda")
        self._unit_range = isinstance(parameters, Brox)
        self._solver = _cuda_solver(parameters)

    def __call__(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
        flow = self._solver.calc(self._upload(one), self._upload(other), None)
        downloaded: NDArray[np.float32] = flow.download()
        return downloaded

    def _upload(self, image: NDArray[np.uint8]) -> Any:
        on_device = cv2.cuda.GpuMat()
        # Brox takes float images of 0..1 where the others take bytes.
        on_device.upload(np.float32(image) / np.float32(255) if self._unit_range else image)
        return on_device


def why_unsupported(parameters: FlowParameters, runtime: Runtime) -> str | None:
    """Return None where OpenCV has all that the parameters ask for, else what it lacks."""
    if not isinstance(parameters, Tvl1):
        return None
    if runtime == "cuda" and parameters.median != 1:
        return (
            f"median is {parameters.median}; opencv-cuda has no median filter, set it to 1 "
            "or take another backend"
        )
    if parameters.cubic != Tvl1().cubic:
        return (
            f"cubic is {parameters.cubic:g}; OpenCV's solvers have their own interpolation, "
            f"leave it at {Tvl1().cubic:g} or take flowpipe's solver"
        )
    if parameters.steps != Tvl1().steps:
        return (
            f"steps is {parameters.steps!r}; OpenCV's solvers have the {Tvl1().steps} ones only, "
            "take flowpipe's solver (--backend cpu, cuda or torch)"
        )
    if runtime == "opencl" and parameters.gamma:
        return (
            f"gamma is {parameters.gamma:g}; opencv-opencl has no illumination term, set it to 0 "
            "or take another backend"
        )
    return None


def _check_supported(parameters: FlowParameters, runtime: Runtime) -> None:
    if reason := why_unsupported(parameters, runtime):
        raise ParameterError(reason)


def _cpu_solver(parameters: FlowParameters) -> Any:
    match parameters:
        case Tvl1():
            return cv2.optflow.DualTVL1OpticalFlow_create(
                tau=parameters.tau,
                lambda_=parameters.lambda_,
                theta=parameters.theta,
                nscales=_n_scales(parameters),
                warps=parameters.warps,
                epsilon=parameters.epsilon,
                innnerIterations=1,
                outerIterations=parameters.iterations,
                scaleStep=parameters.scale_step,
                gamma=parameters.gamma,
                medianFiltering=parameters.median,
            )
        case Farneback():
            return cv2.FarnebackOpticalFlow_create(**_farneback(parameters))
        case Dis():
            return _dis_solver(parameters)
        case Brox():
            raise BackendUnavailableError("OpenCV has brox on cuda only")
    raise BackendUnavailableError(f"OpenCV has no {parameters.method}")


def _n_scales(parameters: Tvl1) -> int:
    return _ALL_SCALES if parameters.n_scales == "auto" else parameters.n_scales


def _farneback(parameters: Farneback) -> dict[str, Any]:
    return {
        "numLevels": parameters.levels,
        "pyrScale": parameters.pyr_scale,
        "winSize": parameters.window,
        "numIters": parameters.iterations,
        "polyN": parameters.poly_n,
        "polySigma": parameters.poly_sigma,
        "flags": cv2.OPTFLOW_FARNEBACK_GAUSSIAN if parameters.gaussian_window else 0,
    }


def _dis_solver(parameters: Dis) -> Any:
    solver = cv2.DISOpticalFlow_create(
        getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{parameters.preset.upper()}")
    )
    setters = {
        "finest_scale": solver.setFinestScale,
        "patch_size": solver.setPatchSize,
        "patch_stride": solver.setPatchStride,
        "gradient_descent_iterations": solver.setGradientDescentIterations,
        "variational_refinement_iterations": solver.setVariationalRefinementIterations,
        "variational_refinement_alpha": solver.setVariationalRefinementAlpha,
        "variational_refinement_delta": solver.setVariationalRefinementDelta,
        "variational_refinement_gamma": solver.setVariationalRefinementGamma,
        "use_mean_normalization": solver.setUseMeanNormalization,
        "use_spatial_propagation": solver.setUseSpatialPropagation,
    }
    for name, setter in setters.items():
        if (value := getattr(parameters, name)) is not None:
            setter(value)
    return solver


def _cuda_solver(parameters: FlowParameters) -> Any:
    create = getattr(cv2.cuda, _CUDA_FACTORIES[parameters.method])
    match parameters:
        case Tvl1():
            # By position: the name of the third parameter is a keyword of Python in some builds.
            return create(
                parameters.tau,
                parameters.lambda_,
                parameters.theta,
                _n_scales(parameters),
                parameters.warps,
                parameters.epsilon,
                parameters.iterations,
                parameters.scale_step,
                parameters.gamma,
                False,
            )
        case Farneback():
            return create(**_farneback(parameters))
        case Brox():
            return create(
                parameters.alpha,
                parameters.gamma,
                parameters.scale_step,
                parameters.inner_iterations,
                parameters.outer_iterations,
                parameters.solver_iterations,
            )
        case Dis():
            raise BackendUnavailableError("OpenCV has no dis on cuda")
    raise BackendUnavailableError(f"OpenCV has no {parameters.method}")
