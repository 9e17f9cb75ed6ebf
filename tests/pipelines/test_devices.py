"""Flow on several devices of one machine, for which the CPU is the double: cpu:0, cpu:1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import flowpipe
from flowpipe import Workers
from flowpipe.errors import BackendUnavailableError, ParameterError
from flowpipe.flow import devices, solvers
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.runner.pool import DeviceFailedError
from tests.helpers.clips import write_video

QUICK = Tvl1(warps=1, iterations=4, n_scales=2)
STAGE = FlowStage(QUICK, "torch", size=(48, 32), layout="npy")


@pytest.fixture
def videos(tmp_path):
    for number in range(4):
        write_video(tmp_path / f"videos/{number}.avi", 4, seed=number)
    return tmp_path / "videos"


@pytest.mark.slow
def test_flow_of_several_devices_is_that_of_one(videos, tmp_path):
    for name, device in (("one", None), ("two", "cpu:0,cpu:1"), ("all", "all")):
        summary = flowpipe.extract_flow(
            videos, tmp_path / name, STAGE, device=device, workers=Workers(2)
        )
        assert (summary.done, summary.failed) == (4, 0)
    for number in range(4):
        one, two = ((tmp_path / f"{name}/{number}.npy").read_bytes() for name in ("one", "two"))
        assert one == two
    records = [(tmp_path / f"{name}/.flowpipe/stage.json").read_text() for name in ("one", "two")]
    assert records[0] == records[1]
    again = flowpipe.extract_flow(videos, tmp_path / "two", STAGE, device="cpu:1", workers=2)
    assert (again.done, again.skipped) == (0, 4)


@pytest.mark.parametrize(
    ("backend", "device", "told"),
    [
        ("cpu", "all", "device is 'all', but the solver is cpu; devices are for --backend cuda"),
        ("torch", "cpu:0,cpu:0", "names cpu:0 twice"),
        ("torch", "cpu,cpu:0", "names cpu:0 twice"),
        ("torch", "meta", "meta has no values"),
        ("torch", "gpu:1", "'gpu:1' cannot be used"),
        ("torch", "cuda:99", "'cuda:99' cannot be used"),
        ("torch", "", "'' cannot be used"),
    ],
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    videos, tmp_path, backend, device, told
):
    stage = FlowStage(QUICK, backend, size=(48, 32))
    with pytest.raises(ParameterError, match=told):
        flowpipe.extract_flow(videos, tmp_path / "flow", stage, device=device)
    assert not (tmp_path / "flow").exists()


def test_devices_exclude_clusters_and_time_limits(videos, tmp_path):
    for workers, told in (
        (Workers(2, executor="dask"), "the executor is dask; it must be local"),
        (Workers(2, timeout=5), "timeout is 5, but torch gathers the clips"),
    ):
        with pytest.raises(ParameterError, match=told):
            flowpipe.extract_flow(videos, tmp_path / "f", STAGE, device="cpu:0", workers=workers)


def test_all_devices_are_those_that_torch_sees(monkeypatch):
    found = [devices.Device(f"cuda:{index}", "H100", 80 << 30) for index in range(3)]
    monkeypatch.setattr(devices, "accelerators", lambda: found)
    monkeypatch.setattr(devices, "why_no_device", lambda name, backend: None)
    assert devices.as_devices("all", "cuda") == ("cuda:0", "cuda:1", "cuda:2")
    assert devices.as_devices("cuda:0,cuda:2", "cuda") == ("cuda:0", "cuda:2")


def test_the_solver_for_cuda_refuses_other_devices():
    with pytest.raises(ParameterError, match="computes on CUDA devices, such as cuda:0, not on c"):
        devices.as_devices("cpu:0", "cuda")


class Broken:
    """A solver whose device fails."""

    name = version = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, first, second):
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("an illegal memory access"), DeviceFailedError),
        (torch.OutOfMemoryError("no room for this size"), torch.OutOfMemoryError),
        (ParameterError("frames are too small"), ParameterError),
    ],
)
def test_which_errors_are_the_devices(monkeypatch, tmp_path, error, expected):
    monkeypatch.setattr(solvers, "create", lambda *args, device=None: Broken(error))
    engine = ExtractFlow(STAGE, tmp_path).on_device("cpu:1", 1).engine
    frame = np.zeros((32, 48), np.uint8)
    with pytest.raises(expected, match=str(error)):
        engine.submit(frame, frame).result(10)


def test_a_device_whose_flow_is_wrong_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(solvers, "why_not_trusted", lambda *asked: f"{asked[2]} is off by a pixel")
    with pytest.raises(BackendUnavailableError, match="cpu:1 is off by a pixel"):
        ExtractFlow(STAGE, tmp_path).on_device("cpu:1", 1)
