from __future__ import annotations

import io
from dataclasses import replace
from importlib import import_module

import cv2
import numpy as np
import pytest
from rich.console import Console

from flowpipe import __version__
from flowpipe.commands import doctor
from flowpipe.flow import solvers
from flowpipe.flow.devices import Device


def _printed() -> str:
    console = Console(file=io.StringIO(), width=100)
    doctor.report(console)
    return console.file.getvalue()


def test_every_solver_is_found_once():
    found = [(finding.backend, finding.method) for finding in doctor.findings()]
    assert len(set(found)) == len(found) == 14
    assert ("opencv-cuda", "brox") in found
    assert [backend for backend, method in found if method == "tvl1"] == list(solvers.BACKENDS)
    assert ("opencv-cpu", "brox") not in found


def test_a_method_of_opencv_itself_runs_everywhere():
    reasons = {(one.backend, one.method): one.reason for one in doctor.findings()}
    assert reasons["opencv-cpu", "farneback"] is None
    assert reasons["opencv-cpu", "dis"] is None


def test_versions():
    versions = dict(doctor.versions())
    assert versions["flowpipe"] == __version__
    assert versions["numpy"] == np.__version__
    assert versions["FFmpeg (libavcodec)"].count(".") == 2


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("no-such-package",))
    assert dict(doctor.versions())["no-such-package"] == "not installed"


def test_devices_are_listed_with_their_memory(monkeypatch):
    found = [Device("cuda:0", "NVIDIA H100", 80 * 10**9), Device("cuda:1", "NVIDIA A2", 16 * 10**9)]
    monkeypatch.setattr(doctor, "accelerators", lambda: found)
    listed = dict(doctor.devices())
    assert listed["cuda:0"] == "NVIDIA H100, 80.0 GB"
    assert listed["cuda:1"] == "NVIDIA A2, 16.0 GB"
    assert "GPU" not in listed


def test_no_devices_are_said_to_be_none(monkeypatch):
    monkeypatch.setattr(doctor, "accelerators", list)
    monkeypatch.setattr(solvers, "_why_no_cuda", lambda: "no NVIDIA driver")
    assert dict(doctor.devices())["GPU"] == "none: no NVIDIA driver"


def test_the_report_says_what_is_missing_and_how_to_get_it(monkeypatch):
    monkeypatch.delattr(cv2, "optflow", raising=False)
    monkeypatch.setattr(cv2.ocl, "haveOpenCL", lambda: False)
    monkeypatch.setattr(cv2, "cuda", None)
    monkeypatch.setattr(solvers, "_why_no_cuda", lambda: "no NVIDIA driver")
    words = " ".join(_printed().split())
    assert "brox: no solver runs here" in words
    assert "tvl1: --backend auto chooses cpu" in words
    assert "farneback: --backend auto chooses opencv-cpu" in words
    # Long reasons are folded within their column, so the ways out are looked for in pieces.
    for piece in (
        "scripts/build_opencv_cuda.sh",
        "opencv-contrib-python",
        "ocl-icd-libopencl1",
        "no NVIDIA driver",
    ):
        assert piece in words


def test_devices():
    devices = dict(doctor.devices())
    assert int(devices["cpu"].partition(" ")[0]) >= 1


@pytest.mark.parametrize(("module", "name"), doctor.TABLES.values())
def test_a_new_entry_of_a_table_is_listed(monkeypatch, module, name):
    table = getattr(import_module(module), name)
    entry = replace(next(iter(table.values())), title="a toy of a kind", published="Doe, 2001")
    monkeypatch.setitem(table, "toy", entry)
    printed = " ".join(_printed().split())
    assert all(each in printed for each in table)
    assert "toy a toy of a kind Doe, 2001" in printed
