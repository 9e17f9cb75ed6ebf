from __future__ import annotations

import pytest
import torch

from flowpipe.errors import ParameterError
from flowpipe.models.detectors import DETECTORS, make_detector

SMALL = {
    "oadtr": {"steps": 5, "future": 3, "width": 16, "depth": 1, "decoder_depth": 1},
    "lstm": {"steps": 5, "width": 16},
    "linear": {},
}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_scores_the_present(name):
    network = make_detector(name, 7, 4, SMALL[name]).eval()
    windows = torch.randn(2, SMALL[name].get("steps", 1), 7)
    now, future = network(windows)
    assert now.shape == (2, 4)
    assert future.shape == (2, SMALL[name].get("future", 0), 4)
    torch.testing.assert_close(network(windows[1:]).now, now[1:])  # nothing leaks in a batch


@pytest.mark.parametrize("name", ["oadtr", "lstm"])
def test_the_past_matters(name):
    network = make_detector(name, 7, 4, SMALL[name]).eval()
    windows = torch.randn(1, 5, 7)
    changed = windows.clone()
    changed[:, 0] += 1
    assert not torch.equal(network(windows).now, network(changed).now)


def test_the_probe_is_a_linear_layer_on_the_present():
    network = make_detector("linear", 7, 4)
    windows = torch.randn(3, 2, 7)
    expected = windows[:, -1] @ network.now.weight.T + network.now.bias
    torch.testing.assert_close(network(windows).now, expected)


def test_standardised_features_have_mean_0_and_variance_1():
    network = make_detector("linear", 3, 4, standardise=True)
    features = 5 + torch.randn(50, 3) * torch.tensor([2.0, 0.1, 0.0])
    network.measure(features)
    expected = features.clone()
    expected[:, :2] = (features[:, :2] - features[:, :2].mean(dim=0)) / features[:, :2].std(
        dim=0, correction=0
    )
    expected[:, 2] = 0  # does not vary, and is not divided by nothing
    scores = network.network(expected[:, None]).now
    torch.testing.assert_close(network(features[:, None]).now, scores, atol=1e-4, rtol=1e-4)


def test_published_oadtr_has_its_number_of_parameters():
    with torch.device("meta"):
        network = make_detector("oadtr", 3072, 22)
    count = sum(each.numel() for each in network.parameters())
    assert abs(count - 74.709e6) < 74.709e3


def test_wrong_names_and_options_are_named():
    with pytest.raises(ParameterError, match="model is 'oadtt'; it must be one of oadtr"):
        make_detector("oadtt", 7, 4)
    with pytest.raises(ParameterError, match="future is 2; lstm has no such option"):
        make_detector("lstm", 7, 4, {"future": 2})
    with pytest.raises(ParameterError, match="linear has no such option: it has no options"):
        make_detector("linear", 7, 4, {"steps": 2})
