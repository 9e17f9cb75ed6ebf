"""A flow method is one file and one entry of the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import ParameterError
from flowpipe.flow import METHODS
from flowpipe.flow.methods import Method
from tests.helpers import media
from tests.helpers.clips import write_video


@dataclass(frozen=True, slots=True)
class Toy:
    """Parameters of a method that finds the same displacement everywhere."""

    method: ClassVar[str] = "toy"

    x: float = 2.0
    """Displacement to the right, in pixels."""


class ToySolver:
    name, version = "toy", "1"

    def __init__(self, parameters, backend, height, width, device) -> None:
        self.x, self.shape = parameters.x, (2, height, width)

    def __call__(self, first, second):
        flow = np.zeros((len(first), *self.shape), np.float32)
        flow[:, 0] = self.x
        return flow


TOY = Method(Toy, "the same displacement everywhere", "nowhere", ("cpu",), create=ToySolver)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", TOY)


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def test_it_is_used_from_python(toy):
    zeros = np.zeros((32, 48), np.uint8)
    assert (flowpipe.optical_flow(zeros, zeros, "toy", x=3.0)[0] == 3).all()
    with pytest.raises(ParameterError, match=r"parameters of toy: .*known are x"):
        flowpipe.optical_flow(zeros, zeros, "toy", y=3.0)


def test_presets_from_python():
    first, second = media.moving(2, 32, 48)
    flows = {
        preset: flowpipe.optical_flow(first, second, backend="cpu", preset=preset)
        for preset in ("published", "fast", "accurate")
    }
    np.testing.assert_array_equal(
        flows["published"], flowpipe.optical_flow(first, second, backend="cpu")
    )
    changed = flowpipe.optical_flow(first, second, backend="cpu", preset="accurate", warps=1)
    for other in (flows["published"], flows["fast"], changed):
        assert (flows["accurate"] != other).any()
    with pytest.raises(ParameterError, match="'quick'; for tvl1 it must be published or fast or a"):
        flowpipe.optical_flow(first, second, preset="quick")
    with pytest.raises(ParameterError, match="'fast'; for farneback it must be published"):
        flowpipe.optical_flow(first, second, method="farneback", preset="fast")
    dis = flowpipe.optical_flow(first, second, method="dis", preset="ultrafast")
    assert (dis != flowpipe.optical_flow(first, second, method="dis")).any()


def test_it_is_used_from_the_command_line(toy, tmp_path, capsys):
    write_video(tmp_path / "videos/a.avi", 4)
    command = ("extract-flow", tmp_path / "videos", "--method", "toy", "--out", tmp_path / "flow")
    assert run(*command, "--toy.x", "4", "--native", "--layout", "npy", "--jobs", "0") == 0
    flow = flowpipe.read_flow(tmp_path / "flow/a.npy")
    assert (flow[:, 0] == 4).all()
    assert (flow[:, 1] == 0).all()
    assert run("doctor") == 0
    assert "the same displacement everywhere" in capsys.readouterr().out
    for wrong in (("--tvl1.warps", "3"), ("--method", "tay"), ("--backend", "opencv-cpu")):
        assert run(*command, *wrong, "--jobs", "0") == 2
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().err).split())
    assert "toy" in told
    assert "opencv-cpu has no toy; take --backend cpu" in told
