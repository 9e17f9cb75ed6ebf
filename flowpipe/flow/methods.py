"""The table of flow methods: parameters, solvers that have them, publications."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flowpipe.errors import ParameterError
from flowpipe.flow import nvidia, raft
from flowpipe.flow.nvidia import Nvidia, NvidiaSolver
from flowpipe.flow.parameters import Brox, Dis, Farneback, Tvl1
from flowpipe.flow.raft import Raft, RaftSolver

if TYPE_CHECKING:
    from flowpipe.flow.solvers import Solver


@dataclass(frozen=True, slots=True)
class Method:
    """A flow method that a user can ask for by name.

    Attributes
    ----------
    parameters
        Frozen dataclass of its parameters, with the name as the class variable ``method``. Its
        fields are the options of the command line.
    title
        One line for lists.
    published
        Authors, title, venue.
    backends
        Solvers that have the method, see :mod:`flowpipe.flow.solvers`.
    presets
        Parameters with a name, for ``--preset``.
    create
        Return the solver of a method that neither flowpipe's own solver nor OpenCV has: takes the
        parameters, the backend, height and width of the frames, and the torch device or None.
    why_unavailable
        Return the reason if such a solver cannot run here, with what to do about it; takes the
        backend. None: it runs.
    colour
        The solver takes RGB frames (N, H, W, 3), not grey ones.
    recorded
        Return what is recorded of the parameters.
    """

    parameters: type[Any]
    title: str
    published: str
    backends: tuple[str, ...]
    presets: tuple[tuple[str, Callable[[], Any]], ...] = ()
    create: Callable[[Any, str, int, int, str | None], Solver] | None = None
    why_unavailable: Callable[[str], str | None] | None = None
    colour: bool = False
    recorded: Callable[[Any], dict[str, Any]] = asdict

    def preset(self, name: str) -> Any:
        """Return the parameters of a preset.

        Raises
        ------
        ParameterError
            The method has no such preset.
        """
        makers: dict[str, Callable[[], Any]] = {"published": self.parameters, **dict(self.presets)}
        if name in makers:
            return makers[name]()
        raise ParameterError(
            f"preset is {name!r}; for {self.parameters.method} it must be {' or '.join(makers)}"
        )


METHODS: dict[str, Method] = {
    "tvl1": Method(
        Tvl1,
        "total variation with an L1 data term, as OpenCV's CUDA solver computes it",
        "C. Zach, T. Pock, H. Bischof, 'A Duality Based Approach for Realtime TV-L1', DAGM 2007",
        ("cuda", "opencv-cuda", "cpu", "opencv-cpu", "opencv-opencl", "torch"),
        presets=(("fast", Tvl1.fast), ("accurate", Tvl1.accurate)),
    ),
    "farneback": Method(
        Farneback,
        "polynomial expansion",
        "G. Farnebäck, 'Two-Frame Motion Estimation Based on Polynomial Expansion', SCIA 2003",
        ("opencv-cuda", "opencv-cpu", "opencv-opencl"),
    ),
    "dis": Method(
        Dis,
        "dense inverse search",
        "T. Kroeger et al., 'Fast Optical Flow using Dense Inverse Search', ECCV 2016",
        ("opencv-cpu", "opencv-opencl"),
    ),
    "brox": Method(
        Brox,
        "warping with a gradient constancy term",
        "T. Brox et al., 'High Accuracy Optical Flow Estimation', ECCV 2004",
        ("opencv-cuda",),
    ),
    "raft": Method(
        Raft,
        "a recurrent network on all-pairs correlations",
        "Z. Teed, J. Deng, 'RAFT: Recurrent All-Pairs Field Transforms', ECCV 2020",
        ("torch",),
        create=RaftSolver,
        why_unavailable=raft.why_unavailable,
        colour=True,
        recorded=raft.recorded,
    ),
    "nvidia": Method(
        Nvidia,
        "the optical flow hardware of NVIDIA cards",
        "NVIDIA Optical Flow SDK 2.0",
        ("opencv-cuda",),
        create=NvidiaSolver,
        why_unavailable=nvidia.why_unavailable,
    ),
}
"""Flow methods by the name that a user types; a new one is a file and a line here."""


def method(name: str) -> Method:
    """Return the entry of a name.

    Raises
    ------
    ParameterError
        There is none.
    """
    if name not in METHODS:
        raise ParameterError(f"method is {name!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[name]
