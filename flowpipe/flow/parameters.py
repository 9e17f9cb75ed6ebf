"""The parameters of each flow method, named as in the papers.

The defaults of TV-L1 are those of OpenCV's CUDA solver, which the two-stream and TSN papers used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal, Protocol

import tyro

from flowpipe._options import Switch
from flowpipe.errors import ParameterError, check_range

_OF_OPENCV = tyro.conf.arg(metavar="N", help_behavior_hint="(default: OpenCV's)")
_OF_OPENCV_FLAG = tyro.conf.arg(metavar="True|False", help_behavior_hint="(default: OpenCV's)")


class FlowParameters(Protocol):
    """Parameters of a flow method."""

    method: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Tvl1:
    """TV-L1 flow of Zach, Pock and Bischof (2007), as OpenCV's CUDA solver computes it."""

    method: ClassVar[str] = "tvl1"

    tau: float = 0.25
    """Step of the dual ascent, 0 to 0.25."""
    lambda_: Annotated[float, tyro.conf.arg(name="lambda")] = 0.15
    """Weight of the data term, for grey levels 0..255; smaller is smoother."""
    theta: float = 0.3
    """Coupling between the flow and its auxiliary copy, in pixels."""
    n_scales: int | Literal["auto"] = 5
    """Pyramid levels; 'auto' takes as many as keep 16 pixels on the short side."""
    scale_step: float = 0.8
    """Size of a level relative to the next finer one, 0 to 1."""
    warps: int = 5
    """Number of warps of the second frame at each level."""
    epsilon: float = 0.01
    """Stop a warp when the root mean square change of the flow is below this, in pixels."""
    iterations: int = 300
    """At most so many iterations a warp."""
    cubic: float = -0.5
    """Parameter of the cubic interpolation, -1 to 0: OpenCV's CPU solver has the sharper -0.75."""
    median: Literal[1, 3, 5] = 1
    """Side of the median filter of the flow before each warp, in pixels; 1 is none."""
    gamma: float = 0.0
    """Weight of the illumination term, which takes up changes of brightness; 0 is none."""
    steps: Literal["published", "over-relaxed"] = "published"
    """'over-relaxed' are Chambolle and Pock's (2011), to the same minimum in fewer iterations."""

    def __post_init__(self) -> None:
        check_range("tau", self.tau, 0, 0.25, open_low=True)
        check_range("lambda", self.lambda_, 0, open_low=True)
        check_range("theta", self.theta, 0, open_low=True)
        if self.n_scales != "auto":
            check_range("n_scales", self.n_scales, 1, 100)
        check_range("scale_step", self.scale_step, 0.1, 0.95)
        check_range("warps", self.warps, 1, 1000)
        check_range("epsilon", self.epsilon, 0)
        check_range("iterations", self.iterations, 1, 100_000)
        if self.median not in (1, 3, 5):
            raise ParameterError(f"median is {self.median!r}; it must be 1, 3 or 5")
        check_range("cubic", self.cubic, -1, 0)
        check_range("gamma", self.gamma, 0)
        if self.steps not in ("published", "over-relaxed"):
            raise ParameterError(
                f"steps is {self.steps!r}; it must be 'published' or 'over-relaxed'"
            )
        if self.gamma and self.steps == "over-relaxed":
            raise ParameterError(
                f"gamma is {self.gamma!r}; with steps 'over-relaxed' it must be 0: "
                "the illumination term is for the published steps"
            )

    @classmethod
    def fast(cls) -> Tvl1:
        """Return a cheaper setting: fewer levels and warps, fewer and better iterations.

        Not the published scheme: see docs/benchmarks.md for its distance from that one.
        """
        return cls(
            n_scales=4,
            scale_step=0.7,
            warps=3,
            epsilon=0.02,
            iterations=16,
            steps="over-relaxed",
        )

    @classmethod
    def accurate(cls) -> Tvl1:
        """Return a more accurate setting: all levels, a median filter, a sharper kernel.

        The median filter and the number of warps are in the manner of Wedel et al., "An improved
        algorithm for TV-L1 optical flow" (2009), the kernel is that of OpenCV's CPU solver. Not
        the published scheme: docs/benchmarks.md has its errors, and what it was chosen on.
        """
        return cls(n_scales="auto", theta=0.2, warps=8, cubic=-0.75, median=5)


@dataclass(frozen=True, slots=True)
class Farneback:
    """Polynomial-expansion flow of Farnebäck (2003), as OpenCV computes it."""

    method: ClassVar[str] = "farneback"

    levels: int = 5
    """Pyramid levels, the full size among them."""
    pyr_scale: float = 0.5
    """Size of a level relative to the next finer one, 0 to 1."""
    window: int = 13
    """Side of the averaging window, in pixels."""
    iterations: int = 10
    """Iterations a level."""
    poly_n: Literal[5, 7] = 5
    """Side of the neighbourhood of the polynomial expansion, in pixels."""
    poly_sigma: float = 1.1
    """Standard deviation of its Gaussian weight, in pixels."""
    gaussian_window: Switch = False
    """Average with a Gaussian window instead of a box."""

    def __post_init__(self) -> None:
        check_range("levels", self.levels, 1, 100)
        check_range("pyr_scale", self.pyr_scale, 0.1, 0.95)
        check_range("window", self.window, 1, 1000)
        check_range("iterations", self.iterations, 1, 10_000)
        if self.poly_n not in (5, 7):
            raise ParameterError(f"poly_n is {self.poly_n!r}; it must be 5 or 7")
        check_range("poly_sigma", self.poly_sigma, 0, open_low=True)


@dataclass(frozen=True, slots=True)
class Dis:
    """Dense inverse search of Kroeger et al. (2016), as OpenCV computes it."""

    method: ClassVar[str] = "dis"

    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    """OpenCV's named settings, which the other options change."""
    finest_scale: Annotated[int | None, _OF_OPENCV] = None
    """Finest pyramid level computed, 0 is the full size."""
    patch_size: Annotated[int | None, _OF_OPENCV] = None
    """Side of a patch, in pixels."""
    patch_stride: Annotated[int | None, _OF_OPENCV] = None
    """Distance between patches, in pixels."""
    gradient_descent_iterations: Annotated[int | None, _OF_OPENCV] = None
    """Iterations of the patch search."""
    variational_refinement_iterations: Annotated[int | None, _OF_OPENCV] = None
    """Iterations of the final variational refinement; 0 is none."""
    variational_refinement_alpha: Annotated[float | None, _OF_OPENCV] = None
    """Weight of smoothness in the refinement."""
    variational_refinement_delta: Annotated[float | None, _OF_OPENCV] = None
    """Weight of brightness constancy in the refinement."""
    variational_refinement_gamma: Annotated[float | None, _OF_OPENCV] = None
    """Weight of gradient constancy in the refinement."""
    use_mean_normalization: Annotated[bool | None, _OF_OPENCV_FLAG] = None
    """Compare patches less their means, which cancels changes of brightness."""
    use_spatial_propagation: Annotated[bool | None, _OF_OPENCV_FLAG] = None
    """Start a patch from its neighbours' vectors."""

    def __post_init__(self) -> None:
        if self.preset not in ("ultrafast", "fast", "medium"):
            raise ParameterError(f"preset is {self.preset!r}; it must be ultrafast, fast or medium")
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is not None:
                at_least_one = field.name in ("patch_size", "patch_stride")
                check_range(field.name, value, 1 if at_least_one else 0, 1000)


@dataclass(frozen=True, slots=True)
class Brox:
    """Warping flow of Brox et al. (2004), as OpenCV's CUDA solver computes it."""

    method: ClassVar[str] = "brox"

    alpha: float = 0.197
    """Weight of smoothness."""
    gamma: float = 50.0
    """Weight of gradient constancy."""
    scale_step: float = 0.8
    """Size of a level relative to the next finer one, 0 to 1."""
    inner_iterations: int = 10
    """Fixed-point iterations with the data term linearised once."""
    outer_iterations: int = 77
    """Warps."""
    solver_iterations: int = 10
    """Iterations of the linear solver."""

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0, open_low=True)
        check_range("gamma", self.gamma, 0)
        check_range("scale_step", self.scale_step, 0.1, 0.95)
        for name in ("inner_iterations", "outer_iterations", "solver_iterations"):
            check_range(name, getattr(self, name), 1, 10_000)
