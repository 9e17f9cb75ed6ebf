from __future__ import annotations

import cv2
import pytest

from flowpipe.errors import BackendUnavailableError
from flowpipe.flow import solvers
from flowpipe.flow.parameters import Farneback


def _only(monkeypatch, **present: set[str]) -> None:
    def why_unavailable(runtime, method):
        return None if method in present.get(runtime, ()) else f"{runtime} is not here"

    monkeypatch.setattr(solvers.opencv, "why_unavailable", why_unavailable)


def test_auto_prefers_cuda_then_the_cpu(monkeypatch):
    _only(monkeypatch, cuda={"tvl1"}, cpu={"tvl1", "dis"}, opencl={"tvl1"})
    assert solvers.choose("auto", "tvl1") == "opencv-cuda"
    assert solvers.choose("auto", "dis") == "opencv-cpu"


def test_opencl_is_taken_on_request_only(monkeypatch):
    _only(monkeypatch, opencl={"tvl1"})
    assert solvers.choose("opencv-opencl", "tvl1") == "opencv-opencl"
    with pytest.raises(BackendUnavailableError) as caught:
        solvers.choose("auto", "tvl1")
    assert str(caught.value) == (
        "no solver for tvl1 here: opencv-cuda: cuda is not here; opencv-cpu: cpu is not here"
    )


def test_a_backend_that_was_asked_for_is_not_replaced(monkeypatch):
    _only(monkeypatch, cpu={"tvl1"})
    with pytest.raises(BackendUnavailableError, match=r"opencv-cuda: cuda is not here$"):
        solvers.choose("opencv-cuda", "tvl1")


def test_methods_of_the_backends():
    assert solvers.methods("opencv-cpu") == ("tvl1", "farneback", "dis")
    assert solvers.methods("opencv-cuda") == ("tvl1", "farneback", "brox")
    assert set(solvers.BACKENDS) == {"opencv-cuda", "opencv-cpu", "opencv-opencl"}


def test_create():
    solver = solvers.create(Farneback(), "opencv-cpu", 48, 64)
    assert solver.name == "opencv-cpu"
    assert solver.version == solvers.version("opencv-cpu") == cv2.__version__
