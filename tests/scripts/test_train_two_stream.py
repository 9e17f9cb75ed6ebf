from __future__ import annotations

import runpy
from argparse import Namespace

import pytest
import torch
from torch.utils.data import DataLoader

from flowpipe.training.optimisation import Training
from flowpipe.training.train import train
from tests.helpers.clips import REPOSITORY
from tests.helpers.nets import SMALLEST, NoiseClips


@pytest.mark.parametrize("grad_clip", [0.1, 1000.0])
def test_a_step_of_the_script_equals_a_step_of_train(tmp_path, no_flushing, grad_clip):
    script = runpy.run_path(str(REPOSITORY / "scripts/train_two_stream.py"))
    options = Namespace(
        backbone=SMALLEST, dropout=0.0, weights="none", modality="flow", segments=2, length=2,
        input_size=32, lr=0.05, grad_clip=grad_clip, device="cpu",
    )  # fmt: skip
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(script["make_network"](options, 3))
    start = {name: value.clone() for name, value in networks[0].named_parameters()}
    clips = NoiseClips(6)
    training = Training(epochs=1, batch_size=6, lr=0.05, grad_clip=grad_clip, conv1_lr=1.0)
    expected = train(networks[0], clips, training, tmp_path, {}).state_dict()
    loader = DataLoader(clips, batch_size=6)
    script["train_epoch"](
        networks[1], loader, script["make_optimiser"](networks[1], options), options
    )
    trained = networks[1].state_dict()
    assert any(not torch.equal(value, trained[name]) for name, value in start.items())
    for name, value in expected.items():
        # Batches are in another order and memory format, so sums are rounded differently.
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)
