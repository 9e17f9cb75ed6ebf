"""Trainings that diverge, and batches that do not fit into the memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpipe.errors import ParameterError
from flowpipe.io.npz import load_arrays
from flowpipe.models import trainable as module
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.faults import DivergedError, OutOfMemoryError
from flowpipe.training.loading import DataLoading
from flowpipe.training.optimisation import Training
from flowpipe.training.train import MODEL_NAME, train
from tests.helpers.nets import NO_NORMS, NoiseClips, small_network
from tests.helpers.trained import assert_same_model, weights_of

pytestmark = pytest.mark.usefixtures("no_flushing")

ONCE = Training(epochs=1, batch_size=8, lr=0.02, conv1_lr=1.0, grad_clip=1.0)
EVERY_STEP = DataLoading(checkpoint_every=1)


class InfiniteLater(NoiseClips):
    """Clips that are infinite from the second epoch on."""

    def __getitem__(self, index):
        snippets, label = super().__getitem__(index)
        return snippets * (math.inf if int(self.epoch) else 1.0), label


def test_divergence_names_its_step_and_keeps_the_checkpoint(tmp_path):
    parameters = replace(ONCE, epochs=3, batch_size=4)
    told = r"loss is nan in step 1 of epoch 2, with a learning rate of 0.02.*checkpoint.npz.* kept"
    with pytest.raises(DivergedError, match=told):
        train(small_network(), InfiniteLater(8), parameters, tmp_path, {}, loading=EVERY_STEP)
    stored, arrays = load_arrays(tmp_path / CHECKPOINT_NAME, "flowpipe checkpoint 2")
    assert (stored["position"]["epoch"], stored["position"]["step"]) == (1, 0)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert not (tmp_path / MODEL_NAME).exists()


@pytest.mark.parametrize("loading", [EVERY_STEP, DataLoading()])
def test_weights_that_are_not_finite_are_never_stored(tmp_path, loading):
    """The loss of the only step is finite; its update is not."""
    epochs = 2 if loading is EVERY_STEP else 1
    parameters = replace(ONCE, epochs=epochs, lr=1e3, weight_decay=1e38, grad_clip=None)
    with pytest.raises(DivergedError, match="is no longer finite: the training has diverged"):
        train(small_network(dropout=0.0), NoiseClips(8), parameters, tmp_path, {}, loading=loading)
    assert not (tmp_path / CHECKPOINT_NAME).exists()
    assert not (tmp_path / MODEL_NAME).exists()


def failing(monkeypatch, largest, error):
    """Let the loss fail for more clips than so many, as if their maps did not fit."""
    real = module.loss

    def loss(scores, *arguments, **options):
        if len(scores) > largest:
            raise error
        return real(scores, *arguments, **options)

    monkeypatch.setattr(module, "loss", loss)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_too_large_is_divided_and_the_step_is_the_same(
    tmp_path, monkeypatch, caplog, error
):
    network = {"backbone": NO_NORMS, "dropout": 0.0}
    train(small_network(**network), NoiseClips(8), ONCE, tmp_path / "whole", {})
    failing(monkeypatch, 2, error)
    with caplog.at_level("WARNING"):
        train(small_network(**network), NoiseClips(8), ONCE, tmp_path / "parts", {})
    told = [record.getMessage() for record in caplog.records]
    assert ["divided into 2" in told[0], "divided into 4" in told[1], len(told)] == [True, True, 2]
    one, other = (weights_of(tmp_path / name / MODEL_NAME) for name in ("whole", "parts"))
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_failed_attempt_leaves_no_trace(tmp_path, monkeypatch):
    """The statistics of normalisations too are those of a training in two parts."""
    train(small_network(), NoiseClips(8), replace(ONCE, accumulate=2), tmp_path / "asked", {})
    failing(monkeypatch, 4, torch.OutOfMemoryError("out of memory"))
    train(small_network(), NoiseClips(8), ONCE, tmp_path / "found", {})
    assert_same_model(tmp_path / "found", tmp_path / "asked")


@pytest.mark.slow
def test_resuming_keeps_the_parts_that_fit(tmp_path, monkeypatch):
    parameters = replace(ONCE, batch_size=4)
    train(small_network(), NoiseClips(8), replace(parameters, accumulate=2), tmp_path / "a", {})
    failing(monkeypatch, 2, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(KeyboardInterrupt):
        train(
            small_network(), NoiseClips(8, stop_at=4), parameters, tmp_path / "b", {},
            loading=EVERY_STEP,
        )  # fmt: skip
    monkeypatch.undo()
    train(small_network(), NoiseClips(8), parameters, tmp_path / "b", {})
    assert_same_model(tmp_path / "a", tmp_path / "b")


def test_a_clip_too_large_and_other_errors_end_the_training(tmp_path, monkeypatch):
    failing(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(OutOfMemoryError, match=r"a single clip does not fit .* smaller input_size"):
        train(small_network(), NoiseClips(8), ONCE, tmp_path, {})
    monkeypatch.undo()
    failing(monkeypatch, 0, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        train(small_network(), NoiseClips(8), ONCE, tmp_path, {})


@pytest.mark.parametrize(
    ("parameters", "network", "told"),
    [
        (replace(ONCE, mixup=0.2), {"classes": (3, 2)}, "mixup is 0.2; it applies to networks of"),
        (replace(ONCE, label_smoothing=0.1), {"classes": (3, 2)}, "label_smoothing is 0.1"),
        (replace(ONCE, stochastic_depth=0.1), {"backbone": NO_NORMS}, "has no residual blocks"),
        (replace(ONCE, precise_bn=2), {"backbone": NO_NORMS}, "precise_bn is 2; it applies to"),
        (replace(ONCE, amp="float16"), {}, "amp is 'float16', which takes a GPU"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path, parameters, network, told):
    with pytest.raises(ParameterError, match=told):
        train(small_network(**network), NoiseClips(8), parameters, tmp_path, {})
