from __future__ import annotations

import csv
import math
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flowpipe.errors import FormatError, ParameterError
from flowpipe.io import npz
from flowpipe.io.npz import load_arrays, save_arrays
from flowpipe.models.weights import load_model
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.data.sampler import BatchSampler, ConcatClips
from flowpipe.training.distributed import torch_threads
from flowpipe.training.faults import DivergedError
from flowpipe.training.loading import DataLoading
from flowpipe.training.optimisation import Training
from flowpipe.training.optimizers import parameter_groups
from flowpipe.training.train import MODEL_NAME, train
from tests.helpers.clips import environment
from tests.helpers.nets import NO_NORMS, NoiseClips, small_network
from tests.helpers.trained import assert_same_model, weights_of

PARAMETERS = Training(
    epochs=3, batch_size=4, lr=0.05, milestones=(0.5, 0.9), grad_clip=1.0, conv1_lr=5.0, seed=3
)
OFTEN = DataLoading(checkpoint_every=1)


pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(small_network(), NoiseClips(), PARAMETERS, out, {})
    return out


def test_training_leaves_a_model_a_log_and_curves(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {MODEL_NAME, "log.csv", "curves.png"}
    rows = list(csv.DictReader((uninterrupted / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.05, 0.05, 0.005])
    assert all(row["clips"] == "10" for row in rows)
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_training_learns(tmp_path):
    parameters = Training(epochs=12, batch_size=6, lr=0.02, milestones=(0.7,), conv1_lr=1.0)
    epochs = []
    network = small_network(dropout=0.0)
    train(network, NoiseClips(12), parameters, tmp_path, {}, report=lambda e, n: epochs.append(e))
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert epochs[-1].accuracy > 0.8


# 10 clips in batches of 4: three steps an epoch, of 4, 3 and 3 clips.
@pytest.mark.parametrize(
    ("every", "samples"),
    [
        (1, 5),
        (2, 14),
        *(
            pytest.param(every, samples, marks=pytest.mark.slow)
            for every in (1, 2)
            for samples in (0, 5, 8, 14, 19, 27)
            if (every, samples) not in ((1, 5), (2, 14))
        ),
    ],
)
def test_resuming_equals_no_interruption(tmp_path, uninterrupted, samples, every):
    with pytest.raises(KeyboardInterrupt):
        train(
            small_network(),
            NoiseClips(stop_at=samples),
            PARAMETERS,
            tmp_path,
            {},
            loading=DataLoading(checkpoint_every=every),
        )
    assert not (tmp_path / MODEL_NAME).exists()
    # What the network begins with is in the checkpoint, if there is one.
    there = (tmp_path / CHECKPOINT_NAME).exists()
    assert there == (samples >= {1: 4, 2: 7}[every])
    train(small_network(seed=99 if there else 0), NoiseClips(), PARAMETERS, tmp_path, {})
    assert_same_model(tmp_path, uninterrupted)
    logs = [list(csv.DictReader((out / "log.csv").open())) for out in (tmp_path, uninterrupted)]
    for row, whole in zip(*logs, strict=True):
        assert {**row, "seconds": ""} == {**whole, "seconds": ""}
    assert not (tmp_path / CHECKPOINT_NAME).exists()


@pytest.mark.parametrize(
    "writes", [2, *(pytest.param(writes, marks=pytest.mark.slow) for writes in (1, 4))]
)
def test_a_checkpoint_that_is_cut_off_leaves_the_one_before(
    tmp_path, uninterrupted, monkeypatch, writes
):
    """As when the process is killed after half of the bytes: nothing half stands at its place."""
    place, left = npz.place, [writes]

    def cut_off(temporary, destination):
        if destination.name == CHECKPOINT_NAME:
            left[0] -= 1
            if left[0] == 0:
                temporary.write_bytes(temporary.read_bytes()[: temporary.stat().st_size // 2])
                raise KeyboardInterrupt
        place(temporary, destination)

    monkeypatch.setattr(npz, "place", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {}, loading=OFTEN)
    monkeypatch.undo()
    assert (tmp_path / CHECKPOINT_NAME).exists() == (writes > 1)
    train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {})
    assert_same_model(tmp_path, uninterrupted)


KILLED = """
import sys, torch
from pathlib import Path
from tests.helpers.nets import NoiseClips, small_network
from tests.training.test_train import OFTEN, PARAMETERS
from flowpipe.training.train import train
torch.set_num_threads(1)
train(small_network(), NoiseClips(), PARAMETERS, Path(sys.argv[1]), {}, loading=OFTEN)
"""


@pytest.mark.slow
def test_a_process_that_is_killed(tmp_path, uninterrupted):
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], env=environment())
    deadline = time.monotonic() + 120
    while not (out / CHECKPOINT_NAME).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / MODEL_NAME).exists()
    train(small_network(), NoiseClips(), PARAMETERS, out, {})
    assert_same_model(out, uninterrupted)
    assert not (out / ".tmp").exists()


@pytest.mark.slow
def test_workers_do_not_change_the_result(tmp_path, uninterrupted):
    train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {}, loading=DataLoading(workers=2))
    assert_same_model(tmp_path, uninterrupted)


def test_a_finished_training_is_not_done_again(tmp_path, uninterrupted):
    before = (uninterrupted / MODEL_NAME).stat().st_mtime_ns
    found = train(small_network(seed=5), NoiseClips(stop_at=0), PARAMETERS, uninterrupted, {})
    assert (uninterrupted / MODEL_NAME).stat().st_mtime_ns == before
    np.testing.assert_array_equal(
        found.last.bias.detach(), weights_of(uninterrupted / MODEL_NAME)["last.bias"]
    )
    assert not found.training


def test_the_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    train(small_network(), NoiseClips(4), Training(1, 4), tmp_path, {})
    assert torch.equal(torch.rand(1), expected)


def interrupted(out: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(small_network(), NoiseClips(stop_at=8), PARAMETERS, out, {"set": "a"}, loading=OFTEN)
    return out / CHECKPOINT_NAME


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    interrupted(tmp_path)
    other = Training(**{**vars_of(PARAMETERS), "lr": 0.1})
    with pytest.raises(FormatError, match=r"training\.lr: 0\.05 recorded, 0\.1 requested"):
        train(small_network(), NoiseClips(), other, tmp_path, {"set": "a"})
    with pytest.raises(FormatError, match='set: "a" recorded, "b" requested'):
        train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {"set": "b"})


def vars_of(parameters: Training) -> dict:
    return {name: getattr(parameters, name) for name in Training.__dataclass_fields__}


@pytest.mark.parametrize("fault", ["text", "half", "kind", "array", "shape", "epoch", "nan"])
def test_bad_checkpoints_are_refused(tmp_path, fault):
    path = interrupted(tmp_path)
    kind = "flowpipe checkpoint 2"
    state, arrays = load_arrays(path, kind)
    state.pop("format")
    if fault == "text":
        path.write_text("not a checkpoint")
    elif fault == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif fault == "kind":
        save_arrays(path, "flowpipe scores 1", state, arrays, tmp_path)
    elif fault == "array":
        arrays.pop("network/last.bias")
    elif fault == "shape":
        arrays["optimizer/momentum_buffer/last.bias"] = np.zeros(99, np.float32)
    elif fault == "epoch":
        state["position"]["epoch"] = 1000
    elif fault == "nan":
        state["position"]["epoch"] = "soon"
    if fault in ("array", "shape", "epoch", "nan"):
        save_arrays(path, kind, state, arrays, tmp_path)
    with pytest.raises(FormatError, match=str(path)):
        train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {"set": "a"})


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    class Infinite(NoiseClips):
        def __getitem__(self, index):
            snippets, label = super().__getitem__(index)
            return snippets * math.inf, label

    with pytest.raises(
        DivergedError, match=r"the loss is nan in step 1 of epoch 1, with a learning rate of 0\.05"
    ):
        train(small_network(), Infinite(), PARAMETERS, tmp_path, {}, loading=OFTEN)
    assert not (tmp_path / CHECKPOINT_NAME).exists()
    assert not (tmp_path / MODEL_NAME).exists()


def test_multipliers_are_the_published_ones():
    network = small_network(backbone=NO_NORMS)
    groups = {
        id(weight): (group["times"], group["weight_decay"], group["lr"])
        for group in parameter_groups(network, PARAMETERS)
        for weight in group["params"]
    }
    assert len(groups) == len(list(network.parameters()))
    assert groups[id(network.first.weight)] == (5, 5e-4, 0.25)
    assert groups[id(network.first.bias)] == (10, 0, 0.5)
    assert groups[id(network.last.weight)] == (1, 5e-4, 0.05)
    assert groups[id(network.last.bias)] == (2, 0, 0.1)


def test_normalisations_have_no_decay_and_frozen_ones_are_left_out():
    for batch_norm, learning in (("train", 56), ("partial", 1), ("frozen", 0)):
        network = small_network(batch_norm=batch_norm)
        norms = {
            id(weight)
            for module in network.modules()
            if isinstance(module, nn.BatchNorm2d)
            for weight in module.parameters()
        }
        found = [
            (group["times"], group["weight_decay"])
            for group in parameter_groups(network, PARAMETERS)
            for weight in group["params"]
            if id(weight) in norms
        ]
        assert found == [(1, 0)] * 2 * learning


def test_batches_are_of_one_size_and_of_their_epoch():
    batches = BatchSampler(range(10), 4, seed=1)
    epochs = []
    for batches.epoch in (0, 1, 0):
        epochs.append(list(batches))
    assert [len(batch) for batch in epochs[0]] == batches.sizes() == [4, 3, 3]
    assert sorted(clip for batch in epochs[0] for clip in batch) == list(range(10))
    assert epochs[0] == epochs[2] != epochs[1]
    batches.first = 2
    assert list(batches) == epochs[0][2:]
    parts = [list(BatchSampler(range(10), 4, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in epochs[0]]
    with pytest.raises(ParameterError, match="too few for 4 processes"):
        BatchSampler(range(3), 4, seed=0, world=4)


def test_classes_can_be_spread_over_the_batches():
    labels = np.repeat([0, 1, 2], [12, 24, 12])
    batches = BatchSampler(labels, 8, seed=1, spread=True)
    epochs = []
    for batches.epoch in range(5):
        epochs.append(list(batches))
        assert sorted(clip for batch in epochs[-1] for clip in batch) == list(range(48))
        counts = np.array([np.bincount(labels[batch], minlength=3) for batch in epochs[-1]])
        assert (abs(counts - [2, 4, 2]) <= [1, 1, 1]).all()
    assert len({tuple(sum(epoch, [])) for epoch in epochs}) == 5  # noqa: RUF017


def test_joined_sets_keep_their_classes_apart():
    joined = ConcatClips([NoiseClips(4), NoiseClips(5, classes=2)], (3, 2))
    assert len(joined) == 9
    assert [joined[i][1] for i in range(9)] == [0, 1, 2, 0, 3, 4, 3, 4, 3] == joined.labels
    joined.set_epoch(7)
    late, early = NoiseClips(5, classes=2), NoiseClips(5, classes=2)
    late.set_epoch(7)
    assert torch.equal(joined[5][0], late[1][0])
    assert not torch.equal(joined[5][0], early[1][0])


def test_two_sets_train_one_network(tmp_path):
    joined = ConcatClips([NoiseClips(6), NoiseClips(6, classes=2)], (3, 2))
    network = train(small_network(classes=(3, 2)), joined, Training(1, 4), tmp_path, {})
    assert network.last.out_features == 5
    assert load_model(tmp_path / MODEL_NAME)[0].classes == (3, 2)


TOGETHER = """
import sys, torch
from pathlib import Path
from tests.helpers.nets import NO_NORMS, NoiseClips, small_network
from tests.training.test_train import TWO
from flowpipe.training.distributed import process_group
from flowpipe.training.train import train
torch.set_num_threads(1)
with process_group("cpu") as group:
    network = small_network(backbone=NO_NORMS, dropout=0.0, seed=group.rank)
    train(network, NoiseClips(), TWO, Path(sys.argv[1]), {}, group=group)
"""
TWO = Training(epochs=2, batch_size=4, lr=0.02, milestones=(0.5,), grad_clip=1.0, conv1_lr=2.0)


def _together(script: str, out: Path) -> None:
    """Run a script in two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**environment(), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(out)],
            env={**shared, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    ends = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """BatchSampler of 4, 3 and 3 clips: the two have different numbers of clips in most steps."""
    network = small_network(backbone=NO_NORMS, dropout=0.0)
    train(network, NoiseClips(), TWO, tmp_path / "one", {})
    _together(TOGETHER, tmp_path / "two")
    one, two = (weights_of(tmp_path / name / MODEL_NAME) for name in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)
    logs = [list(csv.DictReader((tmp_path / n / "log.csv").open())) for n in ("one", "two")]
    for row, other in zip(*logs, strict=True):
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4)
        assert (row["accuracy"], row["clips"]) == (other["accuracy"], other["clips"])


STATISTICS = """
import sys, torch
from pathlib import Path
from tests.helpers.nets import NoiseClips, small_network
from tests.training.test_train import STILL
from flowpipe.training.distributed import process_group
from flowpipe.training.train import train
torch.set_num_threads(1)
with process_group("cpu") as group:
    out = Path(sys.argv[1])
    trained = train(small_network(dropout=0.0), NoiseClips(), STILL, out, {}, group=group)
    torch.save(trained.state_dict(), out / f"{group.rank}.pth")
"""
STILL = Training(epochs=1, batch_size=4, lr=1e-30, milestones=(), precise_bn=4)


@pytest.mark.slow
def test_precise_statistics_are_of_the_clips_of_all_processes(tmp_path):
    """Of the first normalisation, whose input no other normalisation has changed."""
    one = train(small_network(dropout=0.0), NoiseClips(), STILL, tmp_path / "one", {})
    _together(STATISTICS, tmp_path / "two")
    two = [torch.load(tmp_path / f"two/{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name in ("running_mean", "running_var"):
        expected = one.state_dict()[f"backbone.conv1.1.{name}"]
        torch.testing.assert_close(two[0][f"backbone.conv1.1.{name}"], expected)
    statistics = [name for name in two[0] if ".running_" in name]
    assert all(torch.equal(two[0][name], two[1][name]) for name in statistics)


def test_tensorboard_on_request(tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(Exception, match=r"pip install 'flowpipe\[tensorboard\]'"):
            train(small_network(), NoiseClips(), PARAMETERS, tmp_path, {}, tensorboard=True)
        return
    train(small_network(), NoiseClips(4), Training(1, 4), tmp_path, {}, tensorboard=True)
    assert list((tmp_path / "tensorboard").iterdir())
