"""What a network sees of a picture, read directly: the same levels as of whole pictures."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tvf

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import LAYOUTS
from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.training import FlowClips, FrameClips, train_transform
from flowpipe.training.data import datasets, transforms
from flowpipe.training.data.views import Compose, Cutter, RandomView, View, negate_x
from tests.helpers.clips import frames, shared_data, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(12, size=(64, 48))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def by_torchvision(planes: np.ndarray, view: View) -> np.ndarray:
    """Crop whole pictures, scale them and mirror them, one after the other."""
    images = torch.from_numpy(planes)[None]
    images = images[..., view.top : view.top + view.height, view.left : view.left + view.width]
    images = tvf.resize(images, [view.size, view.size], antialias=True)
    if view.flip:
        images = images.flip(-1)
        images = negate_x(images) if view.is_flow else images
    return images[0].numpy()


@st.composite
def views(draw) -> tuple[View, int, int]:
    height, width = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    high, wide = draw(st.integers(1, height)), draw(st.integers(1, width))
    top, left = draw(st.integers(0, height - high)), draw(st.integers(0, width - wide))
    size = draw(st.integers(16, 80))
    return (
        View(top, left, high, wide, size, draw(st.booleans()), draw(st.booleans())),
        height,
        width,
    )


@given(views())
@settings(max_examples=150, deadline=None)
def test_levels_are_those_of_whole_pictures_to_one(drawn):
    view, height, width = drawn
    planes = noise(4, height, width)
    difference = view.cut(planes).astype(int) - by_torchvision(planes, view)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("side", [256, 224, 192])
def test_levels_are_nearly_pillows(side):
    """Which tsn-pytorch resizes with; its weights have more bits, so that it rounds otherwise."""
    planes = cv2.GaussianBlur(noise(256, 340), (0, 0), 2)[None]
    view = View(0, 58, side, side, 224)
    image = Image.fromarray(planes[0]).crop((58, 0, 58 + side, side))
    expected = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
    difference = np.abs(view.cut(planes)[0].astype(int) - expected)
    assert difference.max() <= 2
    assert np.mean(difference > 0) < 0.05
    assert np.mean(difference > 1) < 0.001


def test_enlarged_and_reduced_ramps():
    """Golden numbers: a step of 2 pixels, and of 1/2 pixel, between pixels of the output."""
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8), (1, 32, 32))
    half = View(0, 0, 32, 32, 16).cut(ramp)
    # within, the mean of the pixels is where it was; at the border the triangle is cut off
    assert half[0, 5].tolist() == [6, *range(20, 229, 16), 242]
    double = View(0, 0, 32, 32, 64).cut(ramp)
    assert double[0, 5].tolist() == [
        0,
        *[v for k in range(31) for v in (8 * k + 2, 8 * k + 6)],
        248,
    ]


def test_frames_may_lie_in_memory_in_any_order():
    image = noise(40, 60, 3)
    view = View(3, 5, 30, 40, 32, flip=True)
    planes = image[..., ::-1].transpose(2, 0, 1)
    assert np.array_equal(view.cut(planes), view.cut(np.ascontiguousarray(planes)))


def test_snippets_of_other_types_are_cut_too():
    levels = torch.from_numpy(noise(2, 6, 50, 70))
    view = View(2, 4, 40, 60, 32, flip=True, is_flow=False)
    assert view.cut_snippets(levels).shape == (2, 6, 32, 32)
    difference = view.cut_snippets(levels.float()) - view.cut_snippets(levels)
    assert difference.abs().max() <= 1


def test_flipped_flow_is_the_flow_of_the_mirrored_scene():
    planes = noise(4, 40, 40)
    still = np.full((2, 40, 40), 128, np.uint8)
    plain, flipped = (View(0, 0, 40, 40, 40, flip, is_flow=True) for flip in (False, True))
    assert np.array_equal(plain.cut(planes), planes)
    mirrored = flipped.cut(planes)
    assert np.array_equal(mirrored[1::2], planes[1::2, :, ::-1])
    x = planes[0::2, :, ::-1].astype(int)
    assert np.array_equal(mirrored[0::2], np.minimum(256 - x, 255))
    assert np.array_equal(flipped.cut(still), still)


@pytest.mark.parametrize("stacking", ["flow", "trajectory"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_data_set_reads_what_the_view_shows(tmp_path, name, stacking):
    """The transform of whole snippets gives the same levels, for every layout."""
    store_clip(tmp_path, name, FLOWS, clip="k/a")
    for seed in range(6):
        options = {"segments": 2, "length": 3, "seed": seed, "stacking": stacking}
        transform = train_transform("flow", 32, normalise=False)
        seen, _ = FlowClips(tmp_path, [("k/a", 0)], transform=transform, **options)[0]
        # a transform that is not known to begin with a view is given whole snippets
        whole = FlowClips(
            tmp_path, [("k/a", 0)], transform=lambda x, rng, t=transform: t(x, rng), **options
        )
        assert seen.dtype == torch.uint8
        assert torch.equal(seen, whole[0][0])


def test_frames_are_cut_as_they_are_read(tmp_path):
    images = frames(13, size=(64, 48))
    store_clip(tmp_path, "zip", FLOWS, clip="k/a", images=images)
    # Frames are scaled before their differences are taken, so that two are rounded.
    for modality, most in (("rgb", 0), ("rgb-diff", 2)):
        options = {"modality": modality, "segments": 2}
        transform = train_transform(modality, 32, normalise=False)
        data = FrameClips(tmp_path, [("k/a", 0)], transform=transform, **options)
        whole = FrameClips(
            tmp_path, [("k/a", 0)], transform=lambda x, rng, t=transform: t(x, rng), **options
        )
        for epoch in range(4):
            data.set_epoch(epoch)
            whole.set_epoch(epoch)
            seen, expected = data[0][0], whole[0][0]
            assert seen.dtype == expected.dtype
            assert (seen.int() - expected.int()).abs().max() <= most


def folder_of_jpegs(folder: Path, write) -> Path:
    for index in range(6):
        for axis in "xy":
            path = folder / f"a/flow_{axis}_{index + 1:05d}.jpg"
            path.parent.mkdir(exist_ok=True)
            image = cv2.GaussianBlur(noise(48, 64, seed=index), (0, 0), 3)
            write(Image.fromarray(image), path, index)
    return folder


def test_unusual_jpegs_are_read_by_opencv(tmp_path):
    kinds = [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}]
    folder_of_jpegs(
        tmp_path, lambda image, path, k: image.save(path, quality=90, **kinds[k % len(kinds)])
    )
    transform = train_transform("flow", 32, normalise=False)
    data = FlowClips(tmp_path, [("a", 0)], segments=1, length=6, transform=transform)
    whole = FlowClips(
        tmp_path, [("a", 0)], segments=1, length=6, transform=lambda x, rng: transform(x, rng)
    )
    assert torch.equal(data[0][0], whole[0][0])


@pytest.mark.parametrize("kept", [0, 200, 620])
def test_damage_is_an_error_that_names_the_file(tmp_path, kept):
    folder_of_jpegs(tmp_path, lambda image, path, k: image.save(path))
    data = FlowClips(
        tmp_path, [("a", 0)], segments=1, length=6, transform=train_transform("flow", 32)
    )
    path = tmp_path / "a/flow_y_00004.jpg"
    path.write_bytes(path.read_bytes()[:kept])
    try:
        data[0]
    except FormatError as error:
        assert "flow_y_00004.jpg" in str(error)  # noqa: PT017
    else:
        # OpenCV fills what is missing of a picture that has begun, in whole pictures as in views
        assert kept == 620


def test_another_size_is_an_error(tmp_path):
    folder_of_jpegs(
        tmp_path, lambda image, path, k: (image.resize((32, 24)) if k == 3 else image).save(path)
    )
    data = FlowClips(
        tmp_path, [("a", 0)], segments=1, length=6, transform=train_transform("flow", 16)
    )
    with pytest.raises(FormatError, match=r"flow field 3 of .* is 32x24; field 0 is 64x48"):
        data[0]


@pytest.mark.parametrize(
    ("modality", "model"),
    [
        ("flow", "tsn"),
        ("rgb", "tsn"),
        ("rgb-diff", "tsn"),
        ("rgb", "eco-full"),
        ("flow", "eco-full"),
    ],
)
def test_levels_are_normalised_later_to_the_same(modality, model):
    """On the device or in the worker: the same bits on one processor."""
    clip = ClipInput(modality=modality, length=2, input_size=32)
    network = Network(model=model)
    channels = 4 if modality == "flow" else 6
    levels = torch.from_numpy(noise(2, channels, 40, 50))
    if modality == "rgb-diff":
        levels = levels.short() - 100
    seen = datasets.training_transform(clip)(levels, generator(1))
    assert seen.dtype == levels.dtype
    mean, std = datasets.table.model(model).normalisation
    normalise = transforms.normalisation(modality, mean, std)
    if model == "eco-full" and modality == "rgb":  # trained by Caffe: blue first
        expected = normalise(seen.unflatten(1, (-1, 3)).flip(2).flatten(1, 2), generator())
    else:
        expected = train_transform(modality, 32, mean=mean, std=std)(levels, generator(1))
    batch = datasets.input_transform(clip, network)(seen[None], generator())
    assert batch.dtype == torch.float32
    assert torch.equal(batch[0], expected)


def test_cutters_can_be_sent_and_shared(tmp_path):
    """Each process and each thread has its own memory."""
    store_clip(tmp_path, "zip", FLOWS, clip="k/a")
    jpegs = [cv2.imencode(".jpg", noise(48, 64, seed=k))[1].tobytes() for k in range(4)]
    view = View(4, 8, 32, 40, 32)
    cutter = pickle.loads(pickle.dumps(Cutter()))
    expected = [cutter.cut([jpeg], (48, 64), view)[0] for jpeg in jpegs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: cutter.cut([jpegs[k % 4]], (48, 64), view)[0], range(200)))
    assert all(np.array_equal(one, expected[k % 4]) for k, one in enumerate(found))
    assert cutter.cut([], (48, 64), view)[0].shape == (0, 32, 32)


def test_real_flow_to_one_level():
    """Of another tool's flow: what was seen before parts were decoded, by the same draws."""
    folder = shared_data("denseflow-sample")
    options = {"segments": 1, "length": 5}
    transform = train_transform("flow", 224, normalise=False)
    for seed in range(4):
        data = FlowClips(folder, [(folder.name, 0)], seed=seed, transform=transform, **options)
        raw = FlowClips(folder, [(folder.name, 0)], seed=seed, **options)
        _, drawn = data.draw(0)
        levels = raw[0][0].numpy()[0]
        view = transform.transforms[0].draw(*levels.shape[1:], drawn)
        assert np.abs(data[0][0][0].numpy().astype(int) - by_torchvision(levels, view)).max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: View(0, 0, 10, 10, 8), "size is 8"),
        (lambda: View(-1, 0, 10, 10, 16), "has no pixels, or some outside"),
        (lambda: View(0, 0, 10, 0, 16), "has no pixels, or some outside"),
        (lambda: View(0, 4, 10, 10, 16).cut(noise(1, 12, 12)), "goes beyond a picture of 12x12"),
        (
            lambda: Cutter().cut([], (9, 20), View(0, 4, 10, 10, 16)),
            "goes beyond a picture of 20x9",
        ),
        (lambda: RandomView(20, (1.0,), True).draw(10, 0, generator()), "has no pixels"),
    ],
)
def test_views_outside(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_an_empty_transform_changes_nothing(tmp_path):
    store_clip(tmp_path, "zip", FLOWS, clip="k/a")
    plain, _ = FlowClips(tmp_path, [("k/a", 0)], length=2)[0]
    seen, _ = FlowClips(tmp_path, [("k/a", 0)], length=2, transform=Compose(()))[0]
    assert torch.equal(seen, plain)
