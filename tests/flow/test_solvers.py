from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Farneback, Tvl1


def _only(monkeypatch, *, own_cuda: bool = False, **present: set[str]) -> None:
    """Let a machine have these methods of OpenCV's runtimes, and a GPU of its own or not."""

    def why_unavailable(runtime, method):
        return None if method in present.get(runtime, ()) else f"{runtime} is not here"

    monkeypatch.setattr(solvers.opencv, "why_unavailable", why_unavailable)
    monkeypatch.setattr(solvers, "_why_no_cuda", lambda: None if own_cuda else "no driver")
    monkeypatch.setattr(solvers, "why_not_trusted", lambda backend, method, device=None: None)


def test_auto_takes_our_own_on_a_gpu_then_opencvs_then_our_own_on_the_cpu(monkeypatch):
    everything = {"cuda": {"tvl1", "brox"}, "cpu": {"tvl1", "dis"}, "opencl": {"tvl1"}}
    _only(monkeypatch, own_cuda=True, **everything)
    assert solvers.choose("auto", "tvl1") == "cuda"
    _only(monkeypatch, **everything)
    assert solvers.choose("auto", "tvl1") == "opencv-cuda"
    assert solvers.choose("auto", "dis") == "opencv-cpu"
    assert solvers.choose("auto", "brox") == "opencv-cuda"
    _only(monkeypatch, cpu={"tvl1"}, opencl={"tvl1"})
    assert solvers.choose("auto", "tvl1") == "cpu"


def test_a_backend_that_lacks_a_parameter_is_not_taken(monkeypatch):
    _only(monkeypatch, cuda={"tvl1"}, cpu={"tvl1"}, opencl={"tvl1"})
    for parameters in (Tvl1.fast(), Tvl1(median=5), Tvl1(cubic=-0.75)):
        assert solvers.choose("auto", "tvl1", parameters) == "cpu"
    assert solvers.choose("auto", "tvl1", Tvl1(gamma=1.0)) == "opencv-cuda"
    assert solvers.choose("opencv-cpu", "tvl1", Tvl1(median=5)) == "opencv-cpu"
    with pytest.raises(BackendUnavailableError, match="opencv-cpu: steps is 'over-relaxed'; Open"):
        solvers.choose("opencv-cpu", "tvl1", Tvl1.fast())
    with pytest.raises(BackendUnavailableError, match=r"opencv-opencl: gamma is 0\.5"):
        solvers.choose("opencv-opencl", "tvl1", Tvl1(gamma=0.5))


def test_opencl_and_torch_are_taken_on_request_only(monkeypatch):
    _only(monkeypatch, opencl={"dis"})
    assert solvers.choose("opencv-opencl", "dis") == "opencv-opencl"
    with pytest.raises(BackendUnavailableError) as caught:
        solvers.choose("auto", "dis")
    assert str(caught.value) == "no solver for dis here: opencv-cpu: cpu is not here"
    assert solvers.choose("torch", "tvl1") == "torch"


def test_a_backend_that_was_asked_for_is_not_replaced(monkeypatch):
    _only(monkeypatch, cpu={"tvl1"})
    with pytest.raises(BackendUnavailableError, match=r"opencv-cuda: cuda is not here$"):
        solvers.choose("opencv-cuda", "tvl1")
    with pytest.raises(BackendUnavailableError, match=r"cuda: no driver$"):
        solvers.choose("cuda", "tvl1")


def test_our_own_solver_is_for_tvl1():
    for backend, methods in (("cpu", ("tvl1",)), ("cuda", ("tvl1",)), ("torch", ("tvl1", "raft"))):
        assert solvers.methods(backend) == methods
        with pytest.raises(
            BackendUnavailableError,
            match="has no farneback; take --backend",
        ):
            solvers.choose(backend, "farneback")
        with pytest.raises(
            BackendUnavailableError,
            match="has no farneback; take --backend",
        ):
            solvers.create(Farneback(), backend, 48, 64)


def test_methods_of_opencv():
    assert solvers.methods("opencv-cpu") == ("tvl1", "farneback", "dis")
    assert solvers.methods("opencv-cuda") == ("tvl1", "farneback", "brox", "nvidia")


def test_gpus_are_given_batches():
    sizes = {backend: solvers.batch_size(backend) for backend in solvers.BACKENDS}
    assert sizes["cuda"] > 1 < sizes["torch"]
    assert {sizes[one] for one in ("cpu", "opencv-cpu", "opencv-cuda", "opencv-opencl")} == {1}


def test_create():
    solver = solvers.create(Farneback(), "opencv-cpu", 48, 64)
    assert solver.name == "opencv-cpu"
    assert solver.version == solvers.version("opencv-cpu") == cv2.__version__


def test_create_our_own():
    solver = solvers.create(Tvl1(iterations=2), "cpu", 48, 64)
    frames = np.zeros((3, 48, 64), np.uint8)
    assert solver(frames, frames).shape == (3, 2, 48, 64)


class Wrong:
    """A solver with another flow than the CPU's, or none."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, first, second):
        if self.how == "raises":
            raise RuntimeError("an illegal memory access was encountered")
        if self.how == "hangs":
            threading.Event().wait(20)
        flow = solvers.create(Tvl1(), "cpu", *first.shape[1:])(first, second)
        if self.how == "not finite":
            flow[0, 0, 3, 4] = np.nan
        return flow + (0.01 if self.how == "wrong" else 0)


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that puts a solver in the place of the one of a GPU."""
    create = solvers.create

    def use(how: str, backend="cuda") -> None:
        def replaced(parameters, chosen, *size, device=None):
            return Wrong(how) if chosen == backend else create(parameters, chosen, *size)

        monkeypatch.setattr(solvers, "create", replaced)
        solvers.why_not_trusted.cache_clear()
        monkeypatch.setattr(solvers.self_check, "TIMEOUT", 3.0)
        monkeypatch.setattr(solvers, "_why_no_cuda", lambda: None)

    yield use
    solvers.why_not_trusted.cache_clear()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("wrong", "off by 0.0141 pixels"),
        ("raises", "fails on a pair of 64x48 frames with RuntimeError: an illegal memory access"),
        ("hangs", "has not computed a pair of 64x48 frames in 3 seconds"),
        ("not finite", "values that are not finite"),
    ],
)
def test_a_gpu_solver_that_disagrees_with_the_cpu_is_not_used(gpu, caplog, how, told):
    gpu(how)
    assert solvers.choose("auto", "tvl1") == "cpu"
    warning = next(r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert warning.startswith("cuda is not used for tvl1: ")
    assert told in warning
    with pytest.raises(BackendUnavailableError, match="cuda: it") as caught:
        solvers.choose("cuda", "tvl1")
    assert told in str(caught.value)


def test_a_gpu_solver_that_agrees_is_used_and_checked_once(gpu, monkeypatch):
    gpu("right")
    assert solvers.choose("auto", "tvl1") == "cuda"
    monkeypatch.setattr(solvers.self_check, "disagreement", None)
    assert solvers.choose("cuda", "tvl1") == "cuda"
