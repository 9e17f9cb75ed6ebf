from __future__ import annotations

import json
import math
from functools import partial
from typing import get_args

import pytest
import torch

from flowpipe.errors import ParameterError
from flowpipe.models.clip_input import ClipInput, Modality
from flowpipe.models.network import Network
from flowpipe.training.data import datasets
from flowpipe.training.optimisation import Training
from flowpipe.training.parameters import Preset, Stream, preset
from flowpipe.training.testing import TestViews

VIEWS = TestViews(1, 10, 37, 32, "scores")
UCF101 = 9537
"""Training clips of its first split."""


@pytest.mark.parametrize(
    ("name", "modality", "iterations", "falls", "batch"),
    [
        ("tsn", "flow", 18000, (10000, 16000), 128),
        ("tsn", "rgb", 3500, (1500, 3000), 128),
        ("two-stream", "flow", 80000, (50000, 70000), 256),
        ("two-stream", "rgb", 20000, (14000,), 256),
    ],
)
def test_schedules_are_the_published_ones(name, modality, iterations, falls, batch):
    training = preset(name, modality).training
    assert training.batch_size == batch
    assert training.epochs * UCF101 / batch == pytest.approx(iterations, rel=0.002)
    rates = [training.lr_at(epoch) for epoch in range(training.epochs)]
    changes = [epoch for epoch in range(1, len(rates)) if rates[epoch] != rates[epoch - 1]]
    assert [epoch * UCF101 / batch for epoch in changes] == pytest.approx(falls, rel=0.02)
    assert rates[-1] == pytest.approx(rates[0] * 0.1 ** len(falls))
    assert (training.momentum, training.weight_decay) == (0.9, 5e-4)


def test_the_recipes_of_the_papers():
    flow, rgb = preset("tsn", "flow"), preset("tsn", "rgb")
    assert (flow.clip.segments, flow.clip.length, flow.clip.channels) == (3, 5, 10)
    assert (rgb.clip.segments, rgb.clip.channels) == (3, 3)
    assert (flow.network.dropout, rgb.network.dropout) == (0.7, 0.8)
    assert (flow.training.lr, rgb.training.lr) == (0.005, 0.001)
    assert (flow.training.grad_clip, rgb.training.grad_clip) == (20, 40)
    assert (flow.training.conv1_lr, rgb.training.conv1_lr) == (5, 1)
    assert flow.network.batch_norm == "partial"
    old = preset("two-stream", "flow")
    assert (old.clip.segments, old.clip.channels) == (1, 20)
    assert (old.network.backbone, old.weights) == ("cnn-m-2048", "none")
    assert old.clip.subtract_mean
    assert not preset("two-stream", "rgb").clip.subtract_mean
    assert not flow.clip.subtract_mean


@pytest.mark.parametrize("name", get_args(Preset))
@pytest.mark.parametrize("modality", get_args(Modality))
def test_all_presets_say_what_they_are(name, modality):
    stream = preset(name, modality)
    assert stream.clip.modality == modality
    said = json.loads(json.dumps(stream.description()))
    assert said["training"]["epochs"] == stream.training.epochs
    assert said["network"]["backbone"] == stream.network.backbone


def test_options_change_a_preset_and_nothing_else():
    base = preset("tsn", "flow")
    changed = base.changed(lr=0.1, backbone="resnet18", grad_clip=None, segments=7)
    assert (changed.training.lr, changed.network.backbone) == (0.1, "resnet18")
    assert (changed.training.grad_clip, changed.clip.segments) == (None, 7)
    assert changed.training.epochs == base.training.epochs
    assert changed.clip.length == base.clip.length
    assert base.changed() == base
    with pytest.raises(ParameterError, match="'learning_rate' is no option of a network"):
        base.changed(learning_rate=1)


def test_the_cosine_schedule_with_a_warm_up():
    training = Training(epochs=12, lr=0.1, milestones=(), schedule="cosine", warmup=2.0)
    rates = [training.lr_of_step(epoch, step, 4) for epoch in range(12) for step in range(4)]
    assert rates[:8] == pytest.approx([0.1 * (step + 1) / 8 for step in range(8)])
    halves = [0.05 * (1 + math.cos(math.pi * step / 40)) for step in range(40)]
    assert rates[8:] == pytest.approx(halves)
    steps = Training(epochs=4, lr=0.1, milestones=(0.5,), warmup=1.0)
    rates = [steps.lr_of_step(epoch, step, 2) for epoch in range(4) for step in range(2)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


def test_options_bring_what_follows_from_them():
    cosine = preset("tsn").changed(schedule="cosine")
    assert cosine.training.milestones == ()
    assert cosine.changed(schedule="steps").training.milestones == Training().milestones
    assert preset("tsn").changed(backbone_rate=0.0).network.batch_norm == "frozen"


def test_fine_tuning_is_that_of_tsm_and_of_video_swin():
    rgb = preset("finetune", "rgb", "tsm")
    assert (rgb.clip.segments, rgb.network.dropout, rgb.network.batch_norm) == (8, 0.8, "partial")
    training = rgb.training
    assert (training.epochs, training.batch_size, training.grad_clip) == (25, 64, 20)
    assert training.head_rate == 5
    rates = [training.lr_at(epoch) for epoch in range(25)]
    assert rates == pytest.approx([1e-3] * 10 + [1e-4] * 10 + [1e-5] * 5)
    swin = preset("finetune", "rgb", "swin3d-t")
    assert (swin.training.optimizer, swin.training.schedule) == ("adamw", "cosine")
    assert (swin.training.lr, swin.training.backbone_rate) == (0.001, 0.1)
    assert swin.weights == "default"  # which must be a file, as training says


def test_published_recipes_are_those_of_the_model():
    assert preset("published", "rgb") == preset("tsn", "rgb")
    assert preset("published", "rgb", "tsm").training.lr == 0.02
    slowfast = preset("published", "rgb", "slowfast-r50-8x8")
    assert (slowfast.training.schedule, slowfast.training.precise_bn) == ("cosine", 200)
    assert slowfast.training.milestones == ()


def test_a_model_brings_the_input_of_its_paper():
    assert preset("tsn", "flow", "tsm").clip.segments == 8
    i3d = preset("tsn", "flow", "i3d")
    assert (i3d.clip.segments, i3d.clip.length, i3d.weights) == (1, 64, "none")
    assert preset("small", "rgb", "trn").clip.input_size == 112
    with pytest.raises(ParameterError, match="model is 'lenet'"):
        preset("tsn", "flow", "lenet")


def test_from_scratch_all_normalisations_learn():
    base = preset("tsn", "flow")
    assert base.changed(weights="none").network.batch_norm == "train"
    with pytest.raises(ParameterError, match="batch_norm is 'partial' and weights is 'none'"):
        base.changed(weights="none", batch_norm="partial")
    with pytest.raises(ParameterError, match="batch_norm is 'frozen'"):
        Stream(network=Network(batch_norm="frozen"), weights="none")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: preset("tsm"), "preset is 'tsm'"),
        (lambda: ClipInput("depth"), "modality is 'depth'"),
        (lambda: ClipInput(segments=0), "segments is 0"),
        (lambda: ClipInput(length=-1), "length is -1"),
        (lambda: ClipInput("rgb", subtract_mean=True), "subtract_mean is True; it applies to flow"),
        (lambda: ClipInput("rgb", bound=20.0), "bound is 20.0; it applies to flow"),
        (lambda: ClipInput(bound=-1.0), "bound is -1.0"),
        (lambda: Network("i3d", "resnet18"), "backbone is 'resnet18'; i3d has its own"),
        (lambda: Network("tsm", consensus="max"), "consensus is 'max'; tsm relates"),
        (lambda: Training(epochs=0), "epochs is 0"),
        (lambda: Training(lr=float("nan")), "lr is nan"),
        (lambda: Training(momentum=1), "momentum is 1"),
        (lambda: Training(weight_decay=-1), "weight_decay is -1"),
        (lambda: Training(grad_clip=0.0), "grad_clip is 0.0"),
        (lambda: Training(milestones=(1.5,)), "milestones are"),
        (lambda: Training(seed=-1), "seed is -1"),
        (lambda: Training(optimizer="lion"), "optimizer is 'lion'; it must be one of sgd, adamw"),
        (
            lambda: Training(schedule="cosine"),
            "they apply to the schedule steps",
        ),
        (lambda: Training(epochs=5, warmup=5.0), "warmup is 5 epochs; it must be shorter"),
        (
            lambda: Training(epochs=10, warmup=3.0, milestones=(0.2, 0.8)),
            "the learning rate cannot fall before it has risen",
        ),
        (lambda: Training(batch_size=2, accumulate=3), "accumulate is 3; a batch of 2 clips"),
        (lambda: Training(label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: Training(mixup=-0.1), "mixup is -0.1"),
        (lambda: Training(stochastic_depth=1.0), "stochastic_depth is 1.0"),
        (lambda: Training(backbone_rate=0, stochastic_depth=0.1), "and backbone_rate is 0"),
        (lambda: Training(precise_bn=-1), "precise_bn is -1"),
        (lambda: Training(amp="int8"), "amp is 'int8'"),
        (lambda: Training(ema=1.0), "ema is 1.0"),
        (lambda: Training(head_rate=0.0), "head_rate is 0.0"),
        (
            lambda: Stream(training=Training(backbone_rate=0.0)),
            "backbone_rate is 0 and batch_norm is 'partial'",
        ),
        (
            lambda: preset("tsn").changed(weights="none", backbone_rate=0.0),
            "backbone_rate is 0 and weights is 'none'",
        ),
        (
            lambda: preset("tsn").changed(batch_norm="frozen", precise_bn=10),
            "precise_bn is 10; it applies to normalisations that are trained",
        ),
    ],
)
def test_wrong_values_are_named(make, told):
    with pytest.raises(ParameterError, match=told):
        make()


@pytest.mark.parametrize(
    "transform", [datasets.input_transform, partial(datasets.testing_transform, views=VIEWS)]
)
def test_the_mean_of_each_field_is_taken_out(transform):
    levels = torch.randint(256, (2, 4, 40, 40), dtype=torch.uint8)
    plain, without = (
        transform(ClipInput(length=2, input_size=32, subtract_mean=subtract), Network())(
            levels, torch.Generator().manual_seed(1)
        )
        for subtract in (False, True)
    )
    assert plain.mean(dim=(-2, -1)).abs().max() > 1e-3
    torch.testing.assert_close(without, plain - plain.mean(dim=(-2, -1), keepdim=True))
    assert without.mean(dim=(-2, -1)).abs().max() < 1e-6
