"""Options of the commands on networks, what is refused, and the list of networks."""

from __future__ import annotations

import json
import re

import pytest
import torch

from flowpipe.cli import main
from flowpipe.models import MODELS
from flowpipe.pipelines.train import warn_of_random_weights
from flowpipe.training.distributed import torch_threads
from flowpipe.training.parameters import preset
from tests.helpers.quick import QUICK


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def test_tests_have_no_options_of_training(run, videos, flow, tmp_path):
    for option in (("--tensorboard",), ("--checkpoint-every", 5)):
        status, told = run("evaluate", tmp_path, videos, flow, *option)
        assert (status, "Unrecognized options" in told) == (2, True)


@pytest.mark.parametrize(
    ("command", "name"), [("train", "balanced-batches"), ("train-detector", "standardise")]
)
@pytest.mark.parametrize("preset", ["small", "published"])
def test_what_a_preset_turns_on_can_be_given_and_refused(run, tmp_path, command, name, preset):
    absent = tmp_path / "absent"
    for option in (f"--{name}", f"--no-{name}"):
        status, told = run(command, absent, absent, "--preset", preset, option)
        assert status == 2
        assert f"flowpipe: '{absent}'" in told  # the command has begun


@pytest.mark.parametrize(
    ("model", "weights", "warned"),
    [
        (
            "i3d",
            "none",
            "i3d begins with random weights here; the recipe is for",
        ),
        ("slow-r50", "none", ""),
        ("tsn", "default", ""),
    ],
)
def test_a_recipe_without_the_weights_that_it_begins_with_is_said(caplog, model, weights, warned):
    stream = preset("published", "rgb", model)
    assert stream.weights == weights
    warn_of_random_weights(stream)
    assert bool(caplog.messages) == bool(warned)
    assert all(message.startswith(warned) for message in caplog.messages)
    caplog.clear()
    warn_of_random_weights(stream.changed(lr=0.123))
    assert not caplog.messages


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--backbone", "lenet"), "backbone is 'lenet'"),
        (("--epochs", "0"), "epochs is 0"),
        (("--lr", "-1"), "lr is -1.0"),
        (("--weights", "none", "--batch-norm", "partial"), "batch_norm is 'partial'"),
        (("--weights", "w.pth"), "'w.pth' does not exist"),
        (("--split", "split9"), "has no split 'split9'; there are 'split1', 'split2'"),
        (("--also-flow", "x"), "--also-videos and --also-flow go together"),
        (("--device", "tpu9"), "device is 'tpu9'"),
        (("--loader-workers", "-1"), "loader_workers is -1"),
        (("--checkpoint-every", "0"), "checkpoint_every is 0"),
        (("--protocol", "some"), "protocol is 'some'"),
        (("--milestones", "3"), "milestones are (3.0,)"),
    ],
)
def test_wrong_values_are_named(run, videos, flow, tmp_path, options, told):
    status, said = run("train", videos, flow, "--out", tmp_path / "out", *QUICK, *options)
    assert status == 2
    assert told in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out/[!.]*/*"))


def test_only_training_takes_several_processes(run, videos, flow, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for command in (
        ("evaluate", tmp_path / "models", videos, flow, "--out", tmp_path / "out"),
        ("two-stream", videos, "--out", tmp_path / "out"),
    ):
        status, told = run(*command, "--device", "cpu")
        assert (status, "torchrun started 2; train takes several" in told) == (2, True)
    assert not (tmp_path / "out").exists()


def test_networks_are_listed_and_described(capsys, run):
    with pytest.raises(SystemExit) as end:
        main(["models", "c3d", "vivit-3", "--json"])
    assert end.value.code == 0
    c3d, vivit = json.loads(capsys.readouterr().out)
    assert c3d["shape"] == [3, 16, 112, 112]
    assert (c3d["views"]["clips"], c3d["views"]["crops"]) == (10, 1)
    assert c3d["recipe"]["epochs"] == 45
    assert (vivit["name"], vivit["recipe"]) == ("vivit-3", None)
    with pytest.raises(SystemExit):
        main(["models", "r3d-18", "--modality", "flow"])
    told = capsys.readouterr().out
    assert "clip           2 x 16 x 112 x 112" in told
    assert "recipe         epochs 45" in told
    assert run("models", "lenet") == (2, run("models", "lenet")[1])
    assert "model is 'lenet'" in run("models", "lenet")[1]
    status, told = run("models", "tdn", "--modality", "flow")
    assert (status, "modality is 'flow'; tdn takes rgb, or rgb+flow" in told) == (2, True)


def test_the_list_of_networks_fits_a_terminal_and_says_what_it_leaves_out(capsys, monkeypatch, run):
    few = ("tsn", "tdn", "timesformer-divided")
    monkeypatch.setattr("flowpipe.commands.models.MODELS", {name: MODELS[name] for name in few})
    with pytest.raises(SystemExit):
        main(["models", "--modality", "flow"])
    told = capsys.readouterr().out
    rows = {line.split()[0]: line for line in told.splitlines() if line}
    assert rows["tsn"].startswith("tsn                  10 3 224 224       24.3")
    assert "tdn: modality is 'flow'; tdn takes rgb, or rgb+flow" in told
    # A row is the name, the costs and the venue in 80 columns, and the accuracy in 120.
    for entry in MODELS.values():
        assert len(entry.published.rpartition(", ")[2]) == len("ECCV 2016")
        assert len(rows["tsn"].partition("UCF101")[0] + entry.accuracy) <= 120
    assert rows["tsn"].index("UCF101") <= 80
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["models", "mvit-v2-s"])
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert " ".join(told.split()).count("grad_clip 1.0, conv1_lr 1.0, label_smoothing 0.1") == 1
    for option, value in (("--backbone", "lenet"), ("--num-classes", "0")):
        status, told = run("models", option, value)
        assert (status, f"{option[2:].replace('-', '_')} is" in told) == (2, True), told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model", "mvit-v2-s", "--length", "8"), "mvit-v2-s cannot take flow clips"),
        (("--backbone", "squeezenet1_1", "--stochastic-depth", "0.1"), "no residual blocks"),
        (("--amp", "float16"), "amp is 'float16', which takes a GPU"),
        (("--weights", "WRONG"), "holds no weights of shufflenet_v2_x0_5"),
        (
            ("--preset", "finetune", "--model", "c3d"),
            "weights is 'default'; for c3d it must be",
        ),
        (("--schedule", "cosine", "--milestones", "0.5"), "they apply to the schedule steps"),
        (("--backbone-rate", "0"), "backbone_rate is 0 and weights is 'none'"),
    ],
)
def test_what_a_network_cannot_take_is_said_before_anything_is_written(
    run, videos, flow, tmp_path, options, told
):
    if "WRONG" in options:
        other = tmp_path / "other.pth"
        torch.save({"layer.weight": torch.zeros(3, 3)}, other)
        options = ("--weights", other)
    quick = QUICK if options[0] not in ("--model", "--preset") else (*QUICK[:2], *QUICK[6:])
    command = ("train", videos, flow, "--out", tmp_path / "out", *quick, "--split", "split1")
    status, said = run(*command, *options)
    assert (status, told in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_the_options_of_a_schedule_are_its_defaults(capsys):
    for options, told in (
        (("--schedule", "cosine"), r"--milestones [^(]*\(default: \)"),
        (("--preset", "finetune"), r"--epochs INT [^(]*\(default: 25\)"),
        (("--preset", "published", "--model", "c3d"), r"--epochs INT [^(]*\(default: 45\)"),
    ):
        with pytest.raises(SystemExit):
            main(["train", *options, "--help"])
        text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
        assert re.search(told, text), text
