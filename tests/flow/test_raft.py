"""RAFT with weights of a file, against torchvision's own call. No weights are downloaded."""

from __future__ import annotations

import json
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional
from torchvision.models import optical_flow as torchvision_flow
from torchvision.transforms._presets import OpticalFlow

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import BackendUnavailableError, FormatError, ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.raft import Raft, RaftSolver
from flowpipe.runner.provenance import sha256
from tests.helpers import media
from tests.helpers.clips import frames, write_video

MAKE = {"large": torchvision_flow.raft_large, "small": torchvision_flow.raft_small}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Networks of random weights, and the files of these: a state dict, and safetensors."""
    folder = tmp_path_factory.mktemp("weights")
    made = {}
    for size, suffix in (("large", ".pth"), ("small", ".safetensors")):
        torch.manual_seed(0)
        network = MAKE[size](weights=None).eval()
        path = folder / f"{size}{suffix}"
        if suffix == ".pth":
            torch.save(network.state_dict(), path)
        else:
            safetensors.torch.save_file(network.state_dict(), path)
        made[size] = network, path
    return made


def colour_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    planes = [media.moving(2, height, width, dx=3, dy=-2, seed=seed) for seed in range(3)]
    first, second = (np.dstack([pair[i] for pair in planes]) for i in (0, 1))
    return first, second


def of_torchvision(network, first, second, updates: int = 12) -> np.ndarray:
    """Return the flow as torchvision's reference script computes it."""
    images = [torch.from_numpy(each).permute(2, 0, 1)[None] for each in (first, second)]
    images = OpticalFlow()(*images)
    height, width = first.shape[:2]
    down, across = -height % 8, -width % 8
    pad = (across // 2, across - across // 2, down // 2, down - down // 2)
    images = [functional.pad(each, pad, mode="replicate") for each in images]
    with torch.no_grad():
        flow = network(*images, num_flow_updates=updates)[-1][0].numpy()
    return flow[:, pad[2] : pad[2] + height, pad[0] : pad[0] + width]


@pytest.mark.parametrize("size", MAKE)
@pytest.mark.parametrize(("height", "width"), [(128, 136), (131, 140)])
def test_flow_is_that_of_torchvision(networks, size, height, width):
    network, path = networks[size]
    first, second = colour_pair(height, width)
    flow = flowpipe.optical_flow(
        first, second, method="raft", weights=str(path), network=size, updates=3
    )
    expected = of_torchvision(network, first, second, 3)
    assert flow.shape == (2, height, width)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-5)


def test_colour_counts_and_grey_is_repeated(networks):
    _, path = networks["small"]
    first, second = colour_pair(128, 128)
    options = {"method": "raft", "weights": str(path), "network": "small", "updates": 2}
    flow = flowpipe.optical_flow(first, second, **options)
    swapped = flowpipe.optical_flow(first[..., ::-1], second[..., ::-1], **options)
    assert np.abs(flow - swapped).max() > 1e-3
    greys = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (first, second)]
    grey = flowpipe.optical_flow(*greys, **options)
    repeated = flowpipe.optical_flow(*(np.dstack([each] * 3) for each in greys), **options)
    np.testing.assert_array_equal(grey, repeated)


def test_a_batch_is_its_pairs(networks, monkeypatch):
    monkeypatch.setattr("flowpipe.flow.raft._CORRELATIONS", 800_000)  # two pairs at once
    _, path = networks["small"]
    solver = RaftSolver(Raft(str(path), "small", 2), "torch", 128, 128, "cpu")
    first, second = colour_pair(128, 128)
    batch = solver(np.stack([first, second, first]), np.stack([second, first, second]))
    alone = solver(first[None], second[None])
    np.testing.assert_allclose(batch[0], alone[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(batch[2], alone[0], rtol=0, atol=1e-4)


def test_the_command_records_the_digest_of_the_weights(networks, tmp_path):
    network, path = networks["small"]
    write_video(tmp_path / "videos/a.avi", 3, (144, 128))
    command = ["extract-flow", str(tmp_path / "videos"), "--method", "raft", "--native"]
    options = ["--weights", str(path), "--raft.network", "small", "--layout", "npy"]
    with pytest.raises(SystemExit) as end:
        main([*command, *options, "--out", str(tmp_path / "flow"), "--jobs", "1"])
    assert end.value.code == 0
    record = json.loads((tmp_path / "flow/.flowpipe/stage.json").read_text())
    assert record["parameters"] == {
        "weights": f"sha256 {sha256(path)}",
        "network": "small",
        "updates": 12,
    }
    decoded = [each[..., ::-1] for each in flowpipe.read_video(tmp_path / "videos/a.avi")]
    first, second = (np.ascontiguousarray(each[..., ::-1]) for each in decoded[:2])
    flow = flowpipe.read_flow(tmp_path / "flow/a.npy")
    assert len(flow) == len(frames(3)) - 1
    np.testing.assert_allclose(flow[0], of_torchvision(network, first, second), atol=1e-4)


def test_other_weights_are_another_stage(networks, tmp_path):
    path = tmp_path / "a.safetensors"
    records = []
    for seed in range(2):
        torch.manual_seed(seed)
        safetensors.torch.save_file(MAKE["small"](weights=None).state_dict(), path)
        records.append(FlowStage(Raft(str(path), "small"), "torch").description())
    assert records[0] != records[1]
    named = FlowStage(Raft("C_T_V2", "small"), "torch").description()
    assert named["parameters"]["weights"] == "C_T_V2"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (Raft("IMAGENET1K_V1"), "for the large network it must be default, C_T_V1"),
        (Raft("C_T_SKHT_V2", "small"), "for the small network it must be default, C_T_V1, C_T_V2,"),
    ],
)
def test_a_wrong_name_of_weights(parameters, told):
    with pytest.raises(ParameterError, match=told):
        RaftSolver(parameters, "torch", 128, 128, "cpu")


def test_files_that_are_no_weights_of_the_network(networks, tmp_path):
    _, small = networks["small"]
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    for path, told in (
        (tmp_path / "none.pth", "none.pth' does not exist; a file of RAFT's weights"),
        (tmp_path / "text.pth", "text.pth' is not a file of tensors"),
        (tmp_path / "text.safetensors", "text.safetensors' is not a file of tensors"),
        (tmp_path / "list.pth", "list.pth' holds no tensors by name"),
        (small, "small.safetensors' does not fit torchvision's raft_large"),
    ):
        with pytest.raises(FormatError, match=told):
            RaftSolver(Raft(str(path)), "torch", 128, 128, "cpu")


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


def test_no_code_of_a_file_runs(tmp_path, capsys):
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(FormatError, match="is not a file of tensors"):
        RaftSolver(Raft(str(tmp_path / "evil.pth")), "torch", 128, 128, "cpu")
    assert "this ran" not in capsys.readouterr().out


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(BackendUnavailableError, match="C_T_V2 cannot be downloaded from https://"):
        RaftSolver(Raft(network="small"), "torch", 128, 128, "cpu")


def test_frames_that_are_too_small(networks):
    _, path = networks["small"]
    with pytest.raises(ParameterError, match="frames are 128x120; raft needs at least 121x121"):
        RaftSolver(Raft(str(path), "small"), "torch", 120, 128, "cpu")
    RaftSolver(Raft(str(path), "small", 1), "torch", 121, 121, "cpu")(
        *np.zeros((2, 1, 121, 121, 3), np.uint8)
    )


def test_parameters_out_of_range():
    with pytest.raises(ParameterError, match="network is 'tiny'; it must be large or small"):
        Raft(network="tiny")
    with pytest.raises(ParameterError, match="updates is 0; it must be at least 1"):
        Raft(updates=0)
