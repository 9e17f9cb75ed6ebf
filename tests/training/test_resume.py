"""A training that is interrupted ends with the weights of one that is not, whatever its options."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowpipe.models import MODELS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.mae import Mae
from flowpipe.models.masked_autoencoder import MaskedAutoencoder
from flowpipe.models.network import Network
from flowpipe.models.stream import StreamNetwork
from flowpipe.models.trainable import Trainable
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.distributed import torch_threads
from flowpipe.training.loading import DataLoading
from flowpipe.training.optimisation import Training
from flowpipe.training.train import AUTOENCODER, MODEL_NAME, SCORER, train_network
from tests.helpers.clips import environment
from tests.helpers.marks import slow_but
from tests.helpers.nets import SMALL_MODELS, NoiseClips
from tests.helpers.trained import assert_same_model

pytestmark = pytest.mark.usefixtures("no_flushing")

SGD = Training(epochs=2, batch_size=4, lr=0.02, milestones=(0.5,), grad_clip=1.0, seed=3)
ADAMW = replace(SGD, optimizer="adamw", lr=0.001)
ALL = replace(
    ADAMW, milestones=(), schedule="cosine", warmup=1.0, accumulate=2, label_smoothing=0.1,
    mixup=0.4, stochastic_depth=0.5, precise_bn=4, amp="bfloat16", ema=0.9, head_rate=5.0,
    backbone_rate=0.5,
)  # fmt: skip

CASES = {
    "adamw": ("mobilenet_v3_small", ADAMW),
    "cosine": ("mobilenet_v3_small", SGD.changed({"schedule": "cosine"})),
    "warmup": ("mobilenet_v3_small", replace(SGD, warmup=0.75)),
    "accumulate": ("mobilenet_v3_small", replace(SGD, accumulate=2)),
    "mixup": ("mobilenet_v3_small", replace(SGD, mixup=0.8)),
    "stochastic depth": ("mobilenet_v3_small", replace(SGD, stochastic_depth=0.5)),
    "precise bn": ("mobilenet_v3_small", replace(SGD, precise_bn=4)),
    "bfloat16": ("mobilenet_v3_small", replace(SGD, amp="bfloat16")),
    "ema": ("mobilenet_v3_small", replace(SGD, ema=0.8)),
    "ema, adamw": ("mobilenet_v3_small", replace(ADAMW, ema=0.8)),
    "frozen backbone": ("mobilenet_v3_small", replace(SGD, backbone_rate=0.0)),
    "all": ("mobilenet_v3_small", ALL),
    "all, tsm": ("tsm", ALL),
    "all, 3-D": ("small-3d", ALL),
    "all, two inputs": ("two-stream-fusion", ALL),
    "frozen streams": ("two-stream-fusion", replace(SGD, backbone_rate=0.0)),
    "all, transformer": ("small-transformer", replace(ALL, precise_bn=0)),
    "mae": ("small-vivit", ADAMW),
    "all, mae": (
        "small-vivit", replace(ALL, precise_bn=0, label_smoothing=0.0, mixup=0.0)
    ),
}  # fmt: skip
EVERY_STEP = DataLoading(checkpoint_every=1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    for name, entry in SMALL_MODELS.items():
        monkeypatch.setitem(MODELS, name, entry)


def a_network(model: str, seed: int = 0) -> StreamNetwork | MaskedAutoencoder:
    """A network for :func:`clips_of`: two segments, or frames, of two flow fields."""
    clip = ClipInput("flow", 2, 2, 32)
    network = Network("tsn", "mobilenet_v3_small", 0.3, batch_norm="train")
    if model == "tsm":
        network = replace(network, model="tsm", backbone="mobilenet_v2")
    elif model == "two-stream-fusion":
        network = replace(network, model=model)
        clip = ClipInput("rgb+flow", 2, 2, 32)
    elif model in SMALL_MODELS:
        network = Network(model, dropout=0.3, batch_norm="train")
        if SMALL_MODELS[model].takes == "frames":
            clip = replace(clip, segments=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model == "small-vivit":
            return MaskedAutoencoder(network, clip, Mae(0.75, 24, 2, 2))
        return StreamNetwork(network, clip, (3,))


def clips_of(model: str, **options) -> NoiseClips:
    return NoiseClips(7, channels=7 if model == "two-stream-fusion" else 4, **options)


def train(network: Trainable, *arguments, **options) -> Trainable:
    file = AUTOENCODER if isinstance(network, MaskedAutoencoder) else SCORER
    return train_network(network, *arguments, file, **options)


def frozen(network: StreamNetwork, parameters: Training) -> StreamNetwork:
    if parameters.backbone_rate == 0:
        changed = replace(network.network, batch_norm="frozen")
        again = StreamNetwork(changed, network.clip, (3,))
        again.load_state_dict(network.state_dict())
        return again
    return network


@pytest.mark.parametrize("name", slow_but(CASES, "all", "mae"))
def test_resuming_equals_no_interruption(tmp_path, name):
    """7 clips are two steps an epoch; the run is interrupted in the first and the second epoch."""
    model, parameters = CASES[name]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(frozen(a_network(model), parameters), clips_of(model), parameters, whole, {})
    for samples in (5, 4):  # after one step; in the last step of the second epoch
        with pytest.raises(KeyboardInterrupt):
            train(
                frozen(a_network(model), parameters), clips_of(model, stop_at=samples), parameters,
                parts, {}, loading=EVERY_STEP,
            )  # fmt: skip
        assert (parts / CHECKPOINT_NAME).exists()
    # Everything that the network is, is in the checkpoint.
    train(frozen(a_network(model, seed=9), parameters), clips_of(model), parameters, parts, {})
    assert_same_model(parts, whole)


@pytest.mark.slow
def test_the_options_change_the_weights(tmp_path):
    """Else the tests above would compare the same training with itself."""
    cases = {name: case[1] for name, case in CASES.items() if case[0] == "mobilenet_v3_small"}
    ends: dict[str, np.ndarray] = {}
    for name, parameters in {"plain": SGD, **cases}.items():
        network = frozen(a_network("mobilenet_v3_small"), parameters)
        state = train(network, NoiseClips(7), parameters, tmp_path / name, {}).state_dict()
        ends[name] = torch.cat([value.flatten().double() for value in state.values()]).numpy()
    for one, other in itertools.combinations(ends, 2):
        assert not np.array_equal(ends[one], ends[other]), (one, other)


KILLED = """
import sys, torch
from pathlib import Path
from flowpipe.models import MODELS
from tests.helpers.nets import SMALL_MODELS, NoiseClips
from tests.training.test_resume import CASES, EVERY_STEP, a_network, train
torch.set_num_threads(1)
MODELS.update(SMALL_MODELS)
model, parameters = CASES[sys.argv[2]]
train(a_network(model), NoiseClips(7), parameters, Path(sys.argv[1]), {}, loading=EVERY_STEP)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all", "all, 3-D", "all, mae"])
def test_a_killed_process(tmp_path, name):
    model, parameters = CASES[name]
    whole, out = tmp_path / "whole", tmp_path / "run"
    train(a_network(model), NoiseClips(7), parameters, whole, {})
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out), name], env=environment())
    deadline = time.monotonic() + 300
    while not (out / CHECKPOINT_NAME).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / MODEL_NAME).exists()
    train(a_network(model), NoiseClips(7), parameters, out, {})
    assert_same_model(out, whole)
    assert not Path(out / ".tmp").exists()
