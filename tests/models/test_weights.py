from __future__ import annotations

import argparse
import json
import pickle
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision.models import get_model, get_model_weights
from torchvision.models.shufflenetv2 import ShuffleNet_V2_X0_5_Weights

from flowpipe.errors import BackendUnavailableError, FlowpipeError, FormatError, ParameterError
from flowpipe.models import MODELS, table_torchvision
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.weight_names import identity
from flowpipe.models.weights import (
    initialise,
    load_model,
    read_about,
    read_state,
    save_model,
)
from tests.helpers.nets import SMALLEST, small_network

pytestmark = pytest.mark.usefixtures("no_flushing")


def test_a_model_comes_back_as_it_was(tmp_path):
    network = small_network(6, (3, 2), batch_norm="partial", consensus="attention").eval()
    save_model(tmp_path / "m.safetensors", network, {"classes": [["a"]]}, tmp_path)
    found, about = load_model(tmp_path / "m.safetensors")
    assert about == {"classes": [["a"]]}
    assert (found.network, found.classes, found.channels) == (network.network, (3, 2), 6)
    clips = torch.randn(2, 6, 2, 32, 32)
    assert torch.equal(found.eval()(clips), network(clips))


class Evil:
    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def evil(path: Path) -> Evil:
    found = Evil()
    found.path = str(path)
    return found


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_files_that_would_run_code_are_refused(tmp_path, name, write):
    path, mark = tmp_path / name, tmp_path / "it-ran"
    content = {"state_dict": {"conv1.weight": evil(mark)}}
    if write == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(FlowpipeError):
        read_state(path)
    assert not mark.exists()
    with pytest.raises(FormatError):
        load_model(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "fault", ["missing", "text", "half", "class", "array", "shape", "network", "about", "foreign"]
)
def test_bad_models_are_refused(tmp_path, fault):
    path = tmp_path / "m.safetensors"
    save_model(path, small_network(), {}, tmp_path)
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["flowpipe"])
    state = load_file(path)
    if fault == "missing":
        path.unlink()
    elif fault == "text":
        path.write_text("weights")
    elif fault == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif fault == "class":
        description["classes"] = [-3]
    elif fault == "array":
        state.pop("last.bias")
    elif fault == "shape":
        state["last.bias"] = torch.zeros(8)
    elif fault == "network":
        description["network"]["backbone"] = "lenet"
    elif fault == "about":
        description["about"] = 3
    elif fault == "foreign":
        description["format"] = "another program"
    if fault in ("class", "array", "shape", "network", "about", "foreign"):
        save_file(state, path, {"flowpipe": json.dumps(description)})
    for read in (load_model, read_about) if fault in ("about", "foreign") else (load_model,):
        with pytest.raises(FormatError, match=str(path)):
            read(path)


def test_checkpoints_with_options_and_numpy_numbers_are_read(tmp_path):
    state = {f"module.base_model.{k}": v for k, v in get_model("resnet18").state_dict().items()}
    state = {k: v for k, v in state.items() if ".fc." not in k}
    state["module.new_fc.weight"] = torch.zeros(5, 512)
    extra = {"best_prec1": np.float64(71.5), "args": argparse.Namespace(lr=0.01), "epoch": 3}
    torch.save({"state_dict": state, **extra}, tmp_path / "tsn.pth.tar")
    network = small_network(10, backbone="resnet18")
    initialise(network, str(tmp_path / "tsn.pth.tar"))
    mean = state["module.base_model.conv1.weight"].mean(dim=1)
    torch.testing.assert_close(network.first.weight[:, 7], mean)


def test_what_a_file_holds_is_named_where_it_is_refused(tmp_path):
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(FormatError, match=r"holds no weights of .*; it has names such as encoder"):
        initialise(small_network(), str(tmp_path / "w.pth"))
    torch.save({"state_dict": {"a": evil(tmp_path / "x")}}, tmp_path / "e.pth")
    with pytest.raises(FormatError, match=r"holds objects of .*Path.*; save its state_dict alone"):
        initialise(small_network(), str(tmp_path / "e.pth"))


def _mmaction(state):
    renamed = {}
    for full, value in state.items():
        name = re.sub(r"^(layer\d\.\d\.)?conv(\d)\.", r"\1conv\2.conv.", full)
        name = re.sub(r"^(layer\d\.\d\.)?bn(\d)\.", r"\1conv\2.bn.", name)
        name = name.replace("downsample.0.", "downsample.conv.")
        name = name.replace("downsample.1.", "downsample.bn.")
        renamed[f"backbone.{name}"] = value
    renamed["cls_head.fc_cls.weight"] = torch.zeros(5, 512)
    return renamed


def _shifted(state):
    named = {re.sub(r"(layer\d\.\d\.conv1)\.", r"\1.net.", k): v for k, v in state.items()}
    return {f"module.base_model.{name}": value for name, value in named.items()}


@pytest.mark.parametrize("model", ["tsn", "tsm"])
@pytest.mark.parametrize("names", [_mmaction, _shifted, lambda state: state])
def test_names_of_other_programs(tmp_path, model, names):
    state = get_model("resnet18").state_dict()
    theirs = {k: v for k, v in names(state).items() if "fc.w" not in k and "fc.b" not in k}
    if model == "tsn" and names is _shifted:
        return  # those names are of a network with shifts
    torch.save(theirs, tmp_path / "w.pth")
    network = small_network(10, backbone="resnet18", model=model)
    initialise(network, str(tmp_path / "w.pth"))
    own = network.backbone.state_dict()
    conv = "layer2.1.conv1.net.weight" if model == "tsm" else "layer2.1.conv1.weight"
    assert torch.equal(own[conv], state["layer2.1.conv1.weight"])
    assert torch.equal(own["layer3.0.downsample.1.bias"], state["layer3.0.downsample.1.bias"])
    assert torch.equal(own["bn1.running_var"], state["bn1.running_var"])


@pytest.mark.parametrize("container", [None, "state_dict", "model_state_dict"])
def test_torch_files(tmp_path, container):
    state = get_model(SMALLEST, weights=None).state_dict()
    torch.save(state if container is None else {container: state, "epoch": 3}, tmp_path / "w.pth")
    network = small_network(10)
    initialise(network, str(tmp_path / "w.pth"))
    mean = state["conv1.0.weight"].mean(dim=1)
    torch.testing.assert_close(network.first.weight[:, 7], mean)


def test_safetensors(tmp_path):
    state = get_model(SMALLEST, weights=None).state_dict()
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    network = small_network(3)
    initialise(network, str(path))
    assert torch.equal(network.first.weight, state["conv1.0.weight"])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FormatError, match="not a whole safetensors file"):
        read_state(path)


def test_one_stream_begins_with_another(tmp_path):
    """As flow with what RGB has learnt: another number of channels and of classes."""
    rgb = small_network(3, (9,), seed=4)
    save_model(tmp_path / "rgb.safetensors", rgb, {}, tmp_path)
    flow = small_network(10, (5,))
    initialise(flow, str(tmp_path / "rgb.safetensors"))
    torch.testing.assert_close(flow.first.weight[:, 3], rgb.first.weight.mean(dim=1))
    assert flow.last.out_features == 5


def test_none_leaves_the_network_alone():
    network = small_network()
    before = network.first.weight.clone()
    initialise(network, "none")
    assert torch.equal(network.first.weight, before)


def test_names_of_torchvision(monkeypatch):
    state = get_model(SMALLEST, weights=None).state_dict()
    asked = []

    def get_state_dict(self, **options):
        asked.append(self.name)
        return state

    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights, "get_state_dict", get_state_dict)
    for name in ("default", "IMAGENET1K_V1"):
        network = small_network(3)
        initialise(network, name)
        assert torch.equal(network.first.weight, state["conv1.0.weight"])
    assert asked == ["IMAGENET1K_V1"] * 2


@pytest.mark.parametrize("name", table_torchvision.VIDEO_NETWORKS)
def test_video_networks_take_weights_of_kinetics_by_name(monkeypatch, name):
    entry = MODELS[name]
    kinds = get_model_weights(entry.torchvision)
    preset = kinds.DEFAULT.transforms()
    for own, theirs in zip(entry.normalisation, (preset.mean, preset.std), strict=True):
        np.testing.assert_allclose(own, [255 * each for each in theirs], rtol=1e-5)
    state = get_model(entry.torchvision, weights=None).state_dict()
    monkeypatch.setattr(kinds, "get_state_dict", lambda self, **options: state)
    clip = entry.suited(ClipInput("flow", length=1))
    network = StreamNetwork(Network(name, batch_norm="train"), clip, [5])
    initialise(network, "KINETICS400_V1")
    first = next(value for value in state.values() if value.ndim == 5)
    mean = first.mean(dim=1, keepdim=True)
    torch.testing.assert_close(network.first.weight, mean.expand(-1, 2, -1, -1, -1))
    with pytest.raises(ParameterError, match="it must be none, default, KINETICS400_V1"):
        initialise(network, "IMAGENET1K_V1")


@pytest.mark.parametrize("name", ["SLOW_8x8_R50.pyth", "c3d.pickle"])
def test_files_of_the_releases_of_3d_networks(tmp_path, name):
    weights = {"s1.pathway0_stem.conv.weight": torch.ones(1)}
    content = {"model_state": weights, "cfg": "", "epoch": 3} if "SLOW" in name else weights
    torch.save(content, tmp_path / name)
    assert read_state(tmp_path / name) == weights


def test_without_a_connection(monkeypatch):
    def get_state_dict(self, **options):
        raise URLError("no route")

    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights, "get_state_dict", get_state_dict)
    with pytest.raises(
        BackendUnavailableError, match=r"https://.* cannot be downloaded .*no route"
    ):
        initialise(small_network(), "default")


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("IMAGENET", "weights is 'IMAGENET'; for shufflenet_v2_x0_5 it must be none, default, IMA"),
        ("none.pth", "'none.pth' does not exist"),
    ],
)
def test_wrong_names(weights, told):
    with pytest.raises((ParameterError, FormatError), match=told):
        initialise(small_network(), weights)


def test_torchvision_has_no_weights_of_cnn_m():
    network = small_network()
    object.__setattr__(network.network, "backbone", "cnn-m-2048")
    with pytest.raises(ParameterError, match="torchvision has none for cnn-m-2048"):
        initialise(network, "default")


def test_identity_follows_the_file(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"1")
    first = identity(str(path))
    path.write_bytes(b"2")
    assert first.startswith("sha256 ")
    assert identity(str(path)) != first
    assert identity("default") == "default"
