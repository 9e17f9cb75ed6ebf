"""NVIDIA's optical flow hardware through cv2.cuda, against a double; for real with a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import flowpipe
from flowpipe.errors import BackendUnavailableError, ParameterError
from flowpipe.flow import solvers
from flowpipe.flow.nvidia import Nvidia, NvidiaSolver
from tests.helpers import media


class GpuMat:
    held: Any = None

    def upload(self, array: Any) -> None:
        self.held = array.copy()

    def download(self) -> Any:
        return self.held.copy()


class Cuda:
    """What the code calls of ``cv2.cuda``: flow in 1/32 of a pixel, x = first, y = second."""

    GpuMat = GpuMat

    def __init__(self) -> None:
        self.created: list[tuple[Any, ...]] = []

    def getCudaEnabledDeviceCount(self) -> int:
        return 1

    def NvidiaOpticalFlow_2_0_create(self, *arguments: Any) -> Any:
        self.created.append(arguments)
        return SimpleNamespace(calc=self.calc, convertToFloat=self.to_float)

    def calc(self, first: GpuMat, second: GpuMat, flow: None) -> tuple[GpuMat, None]:
        vectors = GpuMat()
        vectors.upload(np.dstack([first.held, second.held]).astype(np.int16) * 32)
        return vectors, None

    def to_float(self, vectors: GpuMat, flow: None) -> GpuMat:
        pixels = GpuMat()
        pixels.upload(vectors.held.astype(np.float32) / 32)
        return pixels


@pytest.fixture
def cuda(monkeypatch):
    double = Cuda()
    monkeypatch.setattr(cv2, "cuda", double)
    return double


def test_calls_of_the_hardware(cuda):
    first, second = np.arange(2 * 2 * 32 * 48).astype(np.uint8).reshape(2, 2, 32, 48)
    flow = flowpipe.optical_flow(first, second, method="nvidia", quality="medium")
    assert cuda.created == [((48, 32), 10, 1, 1, False, False, False, 0)]
    np.testing.assert_array_equal(flow, np.stack([first, second], axis=1))
    assert flow.dtype == np.float32


def test_a_card_without_a_vector_per_pixel_is_refused_with_its_reason(cuda, monkeypatch):
    def refuse(*arguments):
        error = cv2.error()
        error.err = "Invalid value for outGridSize"
        raise error

    monkeypatch.setattr(cuda, "NvidiaOpticalFlow_2_0_create", refuse, raising=False)
    with pytest.raises(BackendUnavailableError, match=r"Invalid value for outGridSize.*Ampere"):
        NvidiaSolver(Nvidia(), "opencv-cuda", 32, 48, None)


def test_a_build_without_it(monkeypatch):
    monkeypatch.setattr(cv2, "cuda", SimpleNamespace(getCudaEnabledDeviceCount=lambda: 1))
    with pytest.raises(BackendUnavailableError, match=r"no cv2\.cuda\.NvidiaOpticalFlow_2_0; it"):
        solvers.choose("auto", "nvidia")
    with pytest.raises(BackendUnavailableError, match="Optical Flow SDK"):
        NvidiaSolver(Nvidia(), "opencv-cuda", 32, 48, None)


def test_no_device(cuda, monkeypatch):
    monkeypatch.setattr(cuda, "getCudaEnabledDeviceCount", lambda: 0, raising=False)
    reason = solvers.why_unavailable("opencv-cuda", "nvidia")
    assert reason is not None
    assert "sees no device" in reason


def test_quality():
    with pytest.raises(ParameterError, match="quality is 'best'; it must be slow or medium or fas"):
        Nvidia("best")


@pytest.mark.gpu
def test_known_motion_on_the_hardware():
    if reason := solvers.why_unavailable("opencv-cuda", "nvidia"):
        pytest.skip(reason)
    first, second = media.moving(2, 128, 160, dx=2, dy=-1)
    flow = flowpipe.optical_flow(first, second, method="nvidia")[:, 16:-16, 16:-16]
    assert np.abs(np.median(flow, axis=(1, 2)) - (2, -1)).max() < 0.3
