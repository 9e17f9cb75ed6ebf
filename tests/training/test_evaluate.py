from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from flowpipe.errors import ParameterError
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.training.data.transforms import test_transform as crops_of_tests
from flowpipe.training.evaluate import score_clips
from flowpipe.training.precision import trained_with
from flowpipe.training.testing import Testing, TestViews
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


def test_every_view_of_a_network_that_relates_segments_has_all_of_them():
    net = small_network(backbone="mobilenet_v2", model="tsm", segments=5).eval()
    transform = crops_of_tests("flow", 32, crops=3)
    twice = [(torch.cat([Levels()[index][0] for index in pair]), 0) for pair in ((0, 1), (1, 2))]
    found = score_clips(net, twice, transform, batch_size=1)
    apart = score_clips(net, Levels(), transform)
    np.testing.assert_allclose(found, (apart[:-1] + apart[1:]) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ["tsn", "tsm"])
def test_probabilities_are_averaged_over_the_views(model):
    net = small_network(backbone="mobilenet_v2", model=model, segments=5).eval()
    transform = crops_of_tests("flow", 32, crops=3)
    with torch.no_grad():  # scores that differ by a few units, as those of trained networks do
        net.last.weight.mul_(3 / score_clips(net, Levels(), transform).std().item())
    found = score_clips(net, Levels(), transform, average="probabilities")
    with torch.inference_mode():
        views = transform(Levels()[2][0], torch.Generator()).unflatten(0, (5, 3))
        if model == "tsm":
            scores = net(net.clips(views.transpose(0, 1)))
        else:
            scores = net.snippets(views.flatten(0, 1))[0]
    expected = scores.softmax(1).mean(dim=0)
    np.testing.assert_allclose(np.exp(found[2]), expected, rtol=1e-4)
    assert not torch.allclose(scores.mean(dim=0).softmax(0), expected, rtol=1e-3)


def test_each_data_set_has_probabilities_of_its_own():
    net = network(classes=(3, 4)).eval()
    transform = crops_of_tests("flow", 32, crops=1)
    found = np.exp(score_clips(net, Levels(), transform, average="probabilities"))
    np.testing.assert_allclose(found[:, :3].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found[:, 3:].sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        ("tsn", 224, TestViews(25, 10, 256, 224, "scores")),
        ("tsm", 112, TestViews(10, 3, 128, 128, "scores")),
        ("lrcn", 224, TestViews(25, 10, 256, 224, "scores")),
        ("i3d", 224, TestViews("all", 1, 256, 224, "scores")),
        ("slow-r50", 224, TestViews(10, 3, 256, 256, "probabilities")),
        ("r2plus1d-18", 112, TestViews(10, 1, 128, 112, "scores")),
        ("deepvideo-single", 170, TestViews(10, 1, 194, 170, "scores")),
        ("timesformer-space", 224, TestViews(1, 3, 224, 224, "probabilities")),
    ],
)
def test_views_are_by_default_those_of_the_authors(model, size, expected):
    assert Testing().of(described(model, size)) == expected
    changed = Testing(test_clips=2, crops=1).of(described(model, size))
    assert (changed.test_clips, changed.crops, changed.crop_size) == (2, 1, expected.crop_size)


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("tsn", {"test_clips": "all"}, "test_clips is 'all', and tsn takes a fixed number"),
        ("c3d", {"crop_size": 128}, "crop_size is 128; c3d takes the 112 pixels"),
        ("tsn", {"short_side": 100}, "short_side is 100 and crop_size 112"),
        ("i3d", {"average": "sum"}, "average is 'sum'"),
    ],
)
def test_views_that_a_network_cannot_have_are_refused(model, options, told):
    with pytest.raises(ParameterError, match=told):
        Testing(**options).of(described(model, 112))


def described(model: str, size: int):
    """A network as far as its views depend on it."""
    return SimpleNamespace(network=Network(model=model), clip=ClipInput(input_size=size))


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


@pytest.mark.parametrize(("wrong", "told"), [((0, 10), "test_clips is 0"), ((25, 5), "crops is 5")])
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
