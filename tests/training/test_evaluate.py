from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from flowpipe.errors import ParameterError
from flowpipe.training.data.transforms import test_transform as crops_of_tests
from flowpipe.training.evaluate import score_clips
from flowpipe.training.precision import trained_with
from flowpipe.training.testing import Testing
from tests.helpers.nets import small_network


class Levels(Dataset):
    """Clips of five snippets of noise as levels of flow."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int):
        generator = torch.Generator().manual_seed(index)
        return torch.randint(256, (5, 4, 40, 48), generator=generator, dtype=torch.uint8), 0


def network(**options):
    made = small_network(**options)
    with torch.no_grad():
        made.last.weight.mul_(100)
    return made


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("batch_size", [1, 20, 1000])
def test_scores_are_the_mean_over_crops_and_snippets(crops, batch_size):
    net = network().eval()
    transform = crops_of_tests("flow", 32, crops=crops)
    found = score_clips(net, Levels(), transform, batch_size=batch_size)
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    with torch.inference_mode():
        for index in range(3):
            images = transform(Levels()[index][0], torch.Generator())
            assert len(images) == 5 * crops
            expected = net.snippets(images)[0].mean(dim=0)
            np.testing.assert_allclose(found[index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("consensus", ["max", "attention"])
def test_the_networks_own_consensus_is_over_snippets(consensus):
    net = network(consensus=consensus).eval()
    if consensus == "attention":
        with torch.no_grad():
            net.consensus.importance.weight.normal_()
    transform = crops_of_tests("flow", 32)
    found = score_clips(net, Levels(), transform)
    with torch.inference_mode():
        scores, features = net.snippets(transform(Levels()[1][0], torch.Generator()))
        scores, features = (x.view(5, 10, -1).mean(dim=1)[None] for x in (scores, features))
        expected = net.consensus(scores, features)[0]
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["tsm", "trn-multiscale", "lrcn"])
def test_networks_that_relate_segments_see_the_whole_clip(model):
    net = small_network(backbone="mobilenet_v2", model=model, segments=5).eval()
    transform = crops_of_tests("flow", 32)
    found = score_clips(net, Levels(), transform, batch_size=20)
    with torch.inference_mode():
        crops = transform(Levels()[1][0], torch.Generator()).unflatten(0, (5, 10)).transpose(0, 1)
        expected = net(net.clips(crops)).mean(dim=0)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-5)
    assert Testing().segments(net) == 5
    assert Testing().segments(network()) == 25


def test_dropout_and_statistics_rest(tmp_path):
    net = network(dropout=0.9).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    transform = crops_of_tests("flow", 32, crops=1)
    first = score_clips(net, Levels(), transform)
    np.testing.assert_array_equal(first, score_clips(net, Levels(), transform))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.slow
def test_workers_do_not_change_the_scores():
    net, transform = network(), crops_of_tests("flow", 32, crops=1)
    alone = score_clips(net, Levels(), transform)
    np.testing.assert_array_equal(alone, score_clips(net, Levels(), transform, workers=2))


@pytest.mark.parametrize(
    ("wrong", "told"), [((0, 10), "test_segments is 0"), ((25, 5), "crops is 5")]
)
def test_wrong_numbers(wrong, told):
    with pytest.raises(ParameterError, match=told):
        Testing(*wrong)


@pytest.mark.parametrize("segments", ["tsn", "trn"])
def test_clips_are_scored_with_the_bits_of_training(segments):
    net = small_network(model=segments, segments=5).eval()
    transform = crops_of_tests("flow", 32, crops=1)
    exact, coarse = (score_clips(net, Levels(), transform, amp=amp) for amp in ("auto", "bfloat16"))
    assert not np.array_equal(exact, coarse)
    np.testing.assert_allclose(exact, coarse, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("amp", "device", "expected"),
    [
        ("auto", "cuda", "auto"),
        ("float32", "cuda", "float32"),
        ("bfloat16", "cpu", "bfloat16"),
        ("float16", "cuda", "float16"),
        ("float16", "cpu", "float32"),
        ("of another version", "cpu", "auto"),
    ],
)
def test_the_precision_of_training_is_recorded(amp, device, expected):
    about = {"stream": {"training": {"amp": amp}}}
    assert trained_with(about, torch.device(device)) == expected
    assert trained_with({}, torch.device(device)) == "auto"
