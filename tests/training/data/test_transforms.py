"""Crops, signs and ranges of what networks are given."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tvf

from flowpipe.errors import ParameterError
from flowpipe.flow import quantize
from flowpipe.training.data import transforms
from flowpipe.training.data.transforms import Jitter, train_transform
from flowpipe.training.data.views import RandomView, crop_offsets, crop_sizes, negate_x


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def uniform_flow(x: int, y: int, size=(256, 340)) -> torch.Tensor:
    """One snippet of three fields in which everything moves alike."""
    levels = torch.tensor([x, y] * 3, dtype=torch.uint8)
    return levels[None, :, None, None].expand(1, 6, *size).contiguous()


def test_thirteen_places_of_a_crop():
    # 340x256, crop 224: a quarter of the margin is 29 across and 8 down
    assert crop_offsets(256, 340, 224, 224) == [
        *[(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)],
        *[(16, 0), (16, 116), (32, 58), (0, 58)],
        *[(8, 29), (8, 87), (24, 29), (24, 87)],
    ]


@given(st.integers(16, 300), st.integers(16, 300), st.integers(0, 60), st.integers(0, 60))
def test_crops_lie_inside(high, wide, down, right):
    places = crop_offsets(high + down, wide + right, high, wide)
    assert len(places) == 13
    assert all(0 <= top <= down and 0 <= left <= right for top, left in places)


def test_a_crop_that_does_not_fit():
    with pytest.raises(ParameterError, match="a crop of 224x224 does not fit into 340x200"):
        crop_offsets(200, 340, 224, 224)


def test_sizes_of_crops_are_one_scale_apart():
    assert crop_sizes(256, 340, 224, (1, 0.875, 0.75)) == [
        *[(256, 256), (256, 224), (224, 256), (224, 224), (224, 192), (192, 224), (192, 192)]
    ]
    # .66 * 256 = 168.96
    assert (168, 192) in crop_sizes(256, 340, 224, (1, 0.875, 0.75, 0.66))
    # a side that is the input's within 3 pixels is the input's, unless the picture ends there
    assert crop_sizes(226, 300, 224, (1,)) == [(224, 224)]
    assert crop_sizes(222, 300, 224, (1,)) == [(222, 222)]


def test_negation_keeps_zero_and_saturates():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 256).expand(1, 2, 1, 256)
    before = levels.clone()
    negated = negate_x(levels)
    assert torch.equal(levels, before)
    assert torch.equal(negated[:, 1], levels[:, 1])
    x = negated[0, 0, 0].tolist()
    assert x == [255, *range(255, 0, -1)]
    assert x[128] == 128


@given(st.floats(-19, 19))
def test_negated_levels_decode_to_the_opposite_motion(pixels):
    level = quantize.to_uint8(np.array([[[[pixels]], [[pixels]]]]))
    flipped = negate_x(torch.from_numpy(level)).numpy()
    there, back = quantize.from_uint8(level[0]), quantize.from_uint8(flipped[0])
    assert back[0] == -there[0]
    assert back[1] == there[1]


@pytest.mark.parametrize("modality", ["flow", "warped-flow"])
def test_training_negates_x_of_flow_when_it_flips(modality):
    transform = train_transform(modality, 32)
    seen = set()
    for seed in range(20):
        out = transform(uniform_flow(168, 200), generator(seed))
        assert out.shape == (1, 6, 32, 32)
        assert out.dtype == torch.float32
        values = [torch.unique(channel).tolist() for channel in out[0]]
        assert values[0::2] == [values[0]] * 3
        assert values[1::2] == [[(200 - 128) / 128]] * 3
        seen.add(tuple(values[0]))
    assert seen == {(40 / 128,), (-40 / 128,)}


def test_ten_crops_of_flow_carry_the_sign():
    transform = transforms.test_transform("flow", 224, crops=10)
    out = transform(uniform_flow(168, 200), generator())
    assert out.shape == (10, 6, 224, 224)
    assert (out[:5, 0::2] == 40 / 128).all()
    assert (out[5:, 0::2] == -40 / 128).all()
    assert (out[:, 1::2] == 72 / 128).all()


def test_ten_crops_are_the_corners_and_the_centre_and_their_mirror_images():
    frames = noise(2, 3, 256, 340)
    out = transforms.TestCrops(224, 10, is_flow=False, short_side=256)(frames, generator())
    assert out.shape == (20, 3, 224, 224)
    # torchvision's corners are at the very edge, TSN's at multiples of a quarter of the margin:
    # the same for this size
    expected = tvf.five_crop(frames, [224, 224])
    order = [0, 1, 2, 3, 4]
    for segment in range(2):
        crops = out[10 * segment : 10 * segment + 10]
        for place in order:
            assert torch.equal(crops[place], expected[place][segment])
            assert torch.equal(crops[place + 5], expected[place][segment].flip(-1))


def test_snippets_of_a_test_may_be_given_one_at_a_time():
    flow = noise(4, 10, 60, 80)
    transform = transforms.test_transform("flow", 32)
    one_by_one = [transform(flow[k : k + 1], generator()) for k in range(4)]
    assert torch.equal(transform(flow, generator()), torch.cat(one_by_one))


def test_the_centre_crop_of_a_test():
    frames = noise(2, 3, 256, 340)
    out = transforms.TestCrops(224, 1, is_flow=False, short_side=256)(frames, generator())
    assert torch.equal(out, frames[:, :, 16:240, 58:282])


@pytest.mark.parametrize("upright", [False, True])
def test_three_crops_lie_along_the_longer_side(upright):
    # PySlowFast's uniform_crop, of a square as high as the frame and of a smaller one
    frames = noise(2, 3, 256, 341)
    if upright:
        frames = frames.transpose(-1, -2)
    for size, across, along in ((256, 0, (0, 43, 85)), (224, 16, (0, 59, 117))):
        crop = transforms.TestCrops(size, 3, is_flow=False, short_side=256)
        out = crop(frames, generator()).unflatten(0, (2, 3))
        for index, place in enumerate(along):
            y, x = (place, across) if upright else (across, place)
            assert torch.equal(out[:, index], frames[..., y : y + size, x : x + size])


def test_a_short_side_below_the_crop_is_refused():
    with pytest.raises(ParameterError, match="short_side is 200; it must be at least size, 224"):
        transforms.test_transform("rgb", 224, short_side=200)


@pytest.mark.parametrize(("height", "width"), [(256, 340), (240, 320), (100, 60), (17, 400)])
@pytest.mark.parametrize("size", [112, 224])
def test_any_picture_fits(height, width, size):
    flow = noise(2, 10, height, width)
    assert train_transform("flow", size)(flow, generator()).shape == (2, 10, size, size)
    tested = transforms.test_transform("flow", size)(flow, generator())
    assert tested.shape == (20, 10, size, size)


def test_zero_flow_is_zero():
    still = torch.full((1, 10, 64, 64), 128, dtype=torch.uint8)
    for seed in range(8):
        assert not train_transform("flow", 48)(still, generator(seed)).any()
    assert not transforms.test_transform("flow", 48)(still, generator()).any()


def test_range_of_flow():
    normalised = transforms.normalisation("flow")(
        torch.tensor([0, 64, 128, 255], dtype=torch.uint8).reshape(1, 4, 1, 1), generator()
    )
    assert normalised.flatten().tolist() == [-1, -0.5, 0, 127 / 128]


def test_range_of_frames_is_imagenets():
    frames = noise(2, 6, 5, 5)
    got = transforms.normalisation("rgb")(frames, generator())
    expected = tvf.normalize(
        tvf.to_dtype(frames.reshape(4, 3, 5, 5), torch.float32, scale=True),
        [0.485, 0.456, 0.406],
        [0.229, 0.224, 0.225],
    )
    torch.testing.assert_close(got, expected.reshape(2, 6, 5, 5), atol=1e-5, rtol=1e-5)


def test_differences_are_those_of_normalised_frames():
    first, second = noise(1, 3, 6, 6), noise(1, 3, 6, 6, seed=1)
    rgb, diff = transforms.normalisation("rgb"), transforms.normalisation("rgb-diff")
    expected = rgb(second, generator()) - rgb(first, generator())
    got = diff(second.short() - first.short(), generator())
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_differences_keep_their_sign_through_scaling():
    constant = torch.full((1, 3, 40, 50), -77, dtype=torch.int16)
    out = train_transform("rgb-diff", 32)(constant, generator())
    std = 255 * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(out[0], (-77 / std).expand(3, 32, 32))


def test_scaled_crops_show_a_part_of_the_picture():
    """A ramp across, scaled: each crop shows a stretch of it, of one of the scales."""
    ramp = torch.arange(200, dtype=torch.uint8).expand(1, 2, 200, 200).contiguous()
    crop = RandomView(100, (1.0, 0.875, 0.75), is_flow=False)
    widths = set()
    for seed in range(60):
        row = crop(ramp, generator(seed))[0, 0, 50].int()
        widths.add(abs(int(row[-1] - row[0])))
    for side in (200, 175, 150):
        assert any(abs(width - side) <= 3 for width in widths)
    assert all(any(abs(width - side) <= 3 for side in (200, 175, 150)) for width in widths)


def test_what_is_drawn_follows_from_the_generator():
    frames = noise(2, 6, 60, 80)
    transform = train_transform("rgb", 32, jitter=0.4)
    torch.manual_seed(1)
    first = transform(frames, generator(3))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(transform(frames, generator(3)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(transform(frames, generator(4)), first)


def test_jitter_is_the_same_for_all_frames_of_a_clip():
    frame = noise(1, 3, 12, 12)
    frames = frame.repeat(2, 4, 1, 1)
    out = Jitter(0.5)(frames, generator())
    assert out.dtype == torch.uint8
    assert not torch.equal(out, frames)
    assert torch.equal(out, out[:1, :3].repeat(2, 4, 1, 1))


def test_inputs_are_left_as_they_are():
    for modality in ("flow", "rgb"):
        snippets = noise(1, 6, 64, 64)
        before = snippets.clone()
        for seed in range(6):
            train_transform(modality, 32)(snippets, generator(seed))
        transforms.test_transform(modality, 32)(snippets, generator())
        assert torch.equal(snippets, before)


def test_transforms_can_be_pickled():
    transform = train_transform("rgb", 32, jitter=0.1)
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_transform("depth", 224), "modality is 'depth'"),
        (lambda: train_transform("rgb", 8), "size is 8"),
        (lambda: train_transform("flow", 224, jitter=0.4), "jitter is 0.4"),
        (lambda: train_transform("rgb", 224, jitter=2), "jitter is 2"),
        (lambda: transforms.test_transform("rgb", 224, crops=5), "crops is 5"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
