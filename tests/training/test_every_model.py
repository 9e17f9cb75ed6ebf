"""Every network of the table takes steps of training, and resumes between them, bit for bit."""

from __future__ import annotations

import pytest
import torch

from flowpipe.models import MODELS
from flowpipe.models.stream import StreamNetwork
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.distributed import torch_threads
from flowpipe.training.loading import DataLoading
from flowpipe.training.optimisation import Training
from flowpipe.training.train import train
from tests.helpers.inputs import NoiseFor, smallest
from tests.helpers.marks import slow_but
from tests.helpers.trained import assert_same_model, weights_of

pytestmark = pytest.mark.usefixtures("no_flushing")

STEPS = Training(epochs=1, batch_size=2, lr=0.01, milestones=(), conv1_lr=1.0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.mark.parametrize("name", slow_but(MODELS, "tsn", "two-stream-fusion"))
def test_a_step_changes_the_weights_and_an_interruption_does_not(tmp_path, name):
    parts, clip = smallest(name)

    def network(seed: int = 0) -> StreamNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return StreamNetwork(parts, clip, (3,))

    begun = {key: value.clone() for key, value in network().state_dict().items()}
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    train(network(), NoiseFor(clip), STEPS, whole, {})
    changed = [
        key
        for key, value in weights_of(whole / "model.safetensors").items()
        if not torch.equal(torch.from_numpy(value), begun[key])
    ]
    assert len(changed) > len(begun) / 2
    often = DataLoading(checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):  # in the second of two steps
        train(network(), NoiseFor(clip, stop_at=2), STEPS, interrupted, {}, loading=often)
    assert (interrupted / CHECKPOINT_NAME).exists()
    train(network(seed=9), NoiseFor(clip), STEPS, interrupted, {})
    assert_same_model(interrupted, whole)
