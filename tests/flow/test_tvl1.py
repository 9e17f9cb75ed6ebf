"""TV-L1: the scheme, against a plain transcription, known motion, OpenCV and Middlebury."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.errors import ParameterError
from flowpipe.flow.parameters import Tvl1
from flowpipe.flow.tvl1 import Tvl1Solver, pyramid_sizes
from tests.helpers.clips import shared_data
from tests.helpers.tvl1_reference import tvl1

CLIPS = [
    ("clips/arm_wrestling.mp4", 10),
    ("ucf101/v_IceDancing_g01_c01.avi", 20),
    ("ucf101/v_Bowling_g01_c01.avi", 30),
]


def moving_texture(height, width, seed=0, motion=1.5):
    """Two frames of a smooth random texture that moves in waves, uint8."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 20, 235, cv2.NORM_MINMAX)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        texture,
        x + motion * np.sin(y / 9),
        y + motion * np.cos(x / 7),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return tuple(np.clip(np.rint(i), 0, 255).astype(np.uint8) for i in (texture, moved))


def real_pair(path, index, size=(340, 256)):
    """Frames `index` and `index + 1` of a clip, grey, resized to (width, height)."""
    capture = cv2.VideoCapture(str(shared_data(path)))
    for _ in range(index):
        assert capture.grab(), path
    frames = [capture.read()[1] for _ in range(2)]
    return tuple(cv2.cvtColor(cv2.resize(f, size), cv2.COLOR_BGR2GRAY) for f in frames)


def flow_of(first, second, parameters=None, **options):
    parameters = Tvl1() if parameters is None else parameters
    return Tvl1Solver(parameters, *first.shape, **options)(first[None], second[None])[0]


def distance(a, b):
    return np.hypot(*(np.asarray(a, np.float64) - b))


@pytest.mark.slow
def test_agrees_with_the_transcription_on_a_moving_texture():
    first, second = moving_texture(70, 93)
    assert distance(flow_of(first, second), tvl1(first, second)).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("path", "index"), CLIPS)
def test_agrees_with_the_transcription_on_real_frames(path, index):
    first, second = real_pair(path, index, (170, 128))
    assert distance(flow_of(first, second), tvl1(first, second)).mean() < 0.01


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    iterations=st.integers(1, 25),
    epsilon=st.sampled_from([0.0, 0.01, 0.1]),
    warps=st.integers(1, 3),
    scale_step=st.sampled_from([0.5, 0.8, 0.95]),
    cubic=st.sampled_from([-0.5, -0.75]),
    lambda_=st.sampled_from([0.05, 0.15, 1.0]),
    steps=st.sampled_from(["published", "over-relaxed"]),
    seed=st.integers(0, 1000),
)
def test_agrees_at_any_size_and_setting(height, width, seed, **settings):
    first, second = moving_texture(height, width, seed)
    ours = flow_of(first, second, Tvl1(**settings))
    assert distance(ours, tvl1(first, second, **settings)).mean() < 0.01


def test_stop_is_looked_at_as_opencv_does():
    """Around the stop, an iteration more or fewer would show."""
    first, second = moving_texture(40, 60, motion=3)
    for epsilon in (0.02, 0.05, 0.2, 0.5):
        for beyond in ({}, {"gamma": 1.0}, {"steps": "over-relaxed"}):
            setting = {"epsilon": epsilon, "n_scales": 1, "warps": 1, **beyond}
            ours = flow_of(first, second, Tvl1(**setting))
            assert distance(ours, tvl1(first, second, **setting)).max() < 1e-3


@pytest.mark.parametrize("beyond", [{}, {"gamma": 1.0}, {"steps": "over-relaxed"}])
def test_identical_frames_do_not_move(beyond):
    first, _ = moving_texture(64, 75)
    assert not flow_of(first, first, Tvl1(**beyond)).any()


def test_over_relaxed_steps_lead_to_the_same_flow_sooner():
    first, second = moving_texture(70, 93)

    def flow(iterations, **steps):
        setting = Tvl1(n_scales=1, warps=1, epsilon=0.0, iterations=iterations, **steps)
        return flow_of(first, second, setting)

    rest = flow(20_000)
    assert distance(flow(5_000, steps="over-relaxed"), rest).mean() < 0.001
    for iterations in (30, 100, 300):
        relaxed = distance(flow(iterations, steps="over-relaxed"), rest).mean()
        assert relaxed < 0.8 * distance(flow(iterations), rest).mean()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_follows_a_sinusoidal_warp(dtype):
    """The check of scikit-image's own solver: 4.5 pixels of motion, mean error under 0.5."""
    noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    first = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 8), None, 0, 255, cv2.NORM_MINMAX)
    y, x = np.mgrid[:256, :256].astype(np.float32)
    truth = 4.5 * np.sin(np.stack([x, y]) / 255 * 5 * np.pi).astype(np.float32)
    second = cv2.remap(
        first, x - truth[0], y - truth[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    flow = flow_of(first.astype(dtype), second.astype(dtype), Tvl1(lambda_=0.5))
    assert flow.dtype == np.float32
    assert np.abs(flow - truth).mean() < 0.5


def test_float_frames_are_grey_levels():
    first, second = moving_texture(40, 50)
    as_float = flow_of(first.astype(np.float32), second.astype(np.float32))
    np.testing.assert_array_equal(as_float, flow_of(first, second))


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (np.zeros((2, 20, 30), np.uint8), np.zeros((2, 20, 31), np.uint8), r"\(2, 20, 31\)"),
        (np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8), r"\(20, 30\)"),
        (np.zeros((2, 20, 30), np.uint8), np.zeros((1, 20, 30), np.uint8), "2 frames"),
        (np.zeros((1, 20, 30), np.int32), np.zeros((1, 20, 30), np.uint8), "int32"),
        (np.full((1, 20, 30), np.nan, np.float32), np.zeros((1, 20, 30), np.float32), "nan"),
        (np.zeros((1, 20, 30), np.float32), np.full((1, 20, 30), 1e9, np.float32), "1e"),
    ],
)
def test_wrong_frames_are_refused(first, second, wrong):
    with pytest.raises(ParameterError, match=wrong):
        Tvl1Solver(Tvl1(), 20, 30)(first, second)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"height": 0}, "height is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "abacus"}, "abacus"),
        ({"batch": 0}, "batch is 0"),
    ],
)
def test_wrong_options_are_refused(options, wrong):
    with pytest.raises(ParameterError, match=wrong):
        Tvl1Solver(Tvl1(), **({"height": 20, "width": 30} | options))


def test_a_batch_is_its_pairs():
    pairs = [moving_texture(50, 66, seed, motion) for seed, motion in enumerate((0.2, 1, 3, 5))]
    first, second = (np.stack(frames) for frames in zip(*pairs, strict=True))
    solver = Tvl1Solver(Tvl1(), 50, 66)
    together = solver(first, second)
    alone = [solver(first[i : i + 1], second[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(together, np.stack(alone))
    threaded = Tvl1Solver(Tvl1(), 50, 66, threads=3)(first, second)
    np.testing.assert_array_equal(together, threaded)
    assert Tvl1Solver(Tvl1(), 50, 66)(first[:0], second[:0]).shape == (0, 2, 50, 66)


def test_memory_layout_of_the_frames_does_not_matter():
    first, second = moving_texture(48, 65)
    swapped = [np.asfortranarray(i)[None] for i in (first, second)]
    strided = [np.repeat(i, 2, axis=1)[None, :, ::2] for i in (first, second)]
    solver = Tvl1Solver(Tvl1(), 48, 65)
    expected = solver(first[None], second[None])
    np.testing.assert_array_equal(solver(*swapped), expected)
    np.testing.assert_array_equal(solver(*strided), expected)


def test_the_pyramid_stops_at_sixteen_pixels():
    sizes = [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
    assert pyramid_sizes(256, 340, 5, 0.8) == sizes
    assert pyramid_sizes(20, 300, 5, 0.8) == [(20, 300), (16, 240)]
    assert min(pyramid_sizes(480, 640, "auto", 0.8)[-1]) in range(16, 20)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "index"), CLIPS)
def test_differs_from_opencv_on_the_cpu_by_what_the_schemes_differ(path, index):
    """That one's cubic coefficient, border and 1/32 pixel positions are others."""
    first, second = real_pair(path, index)
    opencv = cv2.optflow.DualTVL1OpticalFlow_create(
        innnerIterations=1, outerIterations=300, medianFiltering=1
    )
    off = distance(flow_of(first, second), opencv.calc(first, second, None).transpose(2, 0, 1))
    assert np.median(off) < 0.06
    assert off.mean() < 0.14


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_fast_setting_stays_near_the_full_scheme(device):
    first, second = moving_texture(60, 80)
    off = distance(flow_of(first, second, Tvl1.fast(), device=device), flow_of(first, second))
    assert 0 < off.mean() < 0.15


@pytest.mark.parametrize("name", ["Dimetrodon", "Grove2", "Hydrangea", "RubberWhale"])
def test_fast_setting_is_as_near_to_the_truth_as_the_full_scheme(name):
    fast, full = (end_point_error(name, setting) for setting in (Tvl1.fast(), Tvl1()))
    assert fast < full + 0.005


def end_point_error(name, setting):
    """In the mean over the known pixels of a pair of Middlebury."""
    folder = shared_data("middlebury", name)
    first, second = (
        cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)
    )
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo")).transpose(2, 0, 1)
    known = (np.abs(truth) < 1e9).all(axis=0)
    return distance(flow_of(first, second, setting), truth)[known].mean()


@pytest.mark.parametrize(
    ("name", "opencv"),
    [("Dimetrodon", 0.1795), ("Grove2", 0.1566), ("Hydrangea", 0.1939), ("RubberWhale", 0.1562)],
)
def test_end_point_error_is_no_worse_than_opencvs_defaults(name, opencv):
    """With the median and the cubic kernel of its CPU solver, to three decimals."""
    assert end_point_error(name, Tvl1(cubic=-0.75, median=5)) < opencv + 0.0005
