"""I3D with the published weights of Kinetics-400 gives the numbers of the released code."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flowpipe.io.source import resized
from flowpipe.io.video import read_video
from flowpipe.models.i3d import I3D
from tests.helpers.clips import shared, shared_data
from tests.helpers.golden import Golden
from tests.helpers.marks import slow_but

VIDEOS = {"archery": "v_Archery_g02_c02.avi", "biking": "v_Biking_g01_c04.avi"}


@pytest.fixture(scope="module")
def network():
    network = I3D().eval()
    weights = shared() / "weights/i3d_rgb_kinetics400.safetensors"
    missing, unexpected = network.load_state_dict(load_file(weights), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


def centre(video: str, frames: int) -> np.ndarray:
    """Return (frames, 224, 224, 3) of the first frames of a real clip, short side 256."""
    images = read_video(shared_data("ucf101", video), max_frames=frames)
    scaled = np.stack([resized(image, 256) for image in images])
    top, left = ((side - 224) // 2 for side in scaled.shape[1:3])
    return np.ascontiguousarray(scaled[:, top : top + 224, left : left + 224])


def synthetic(*shape: int) -> np.ndarray:
    """Return the (T, H, W, 3) clip whose formula is beside the golden numbers."""
    t, h, w, c = np.ogrid[tuple(slice(size) for size in (*shape, 3))]
    patches = (h + 9 * t) // 16 % 2 * 90
    levels = 7 * t * t + 3 * h + 5 * w + 11 * c + (h * w) // (64 + 8 * t) + patches
    return (levels % 256).astype(np.uint8)


def check(network: I3D, clip: np.ndarray, expected: dict[str, Tensor]) -> None:
    """Compare what a (T, H, W, 3) clip gives: scores, the best classes, and every stage."""
    levels = torch.from_numpy(clip).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        stages = network.stages(levels / 127.5 - 1)
        scores = network(levels / 127.5 - 1)[0]
    assert (scores - expected["logits"]).abs().max() < 1e-3
    best = scores.argsort(descending=True)
    assert best[:5].tolist() == expected["top20_index"][:5].tolist()
    shapes = expected["stage_shape_TCHW"].tolist()
    for number, name in enumerate(STAGES):
        maps = stages[name][0].transpose(0, 1).double()
        assert list(maps.shape) == shapes[number]
        found = torch.stack([maps.mean(), maps.std(correction=0), maps.max()])
        numbers = [expected[f"stage_{kind}"][number] for kind in ("mean", "std", "max")]
        torch.testing.assert_close(found, torch.stack(numbers), rtol=1e-4, atol=1e-5)
    means = stages["Mixed_5c"][0].mean(dim=(1, 2, 3))
    torch.testing.assert_close(means, expected["Mixed_5c_mean_over_THW"], rtol=0, atol=1e-4)
    means = stages["Mixed_3c"][0].mean(dim=(2, 3))
    torch.testing.assert_close(means, expected["Mixed_3c_mean_over_HW"], rtol=0, atol=1e-4)
    if "Mixed_5c_TCHW" in expected:
        maps = stages["Mixed_5c"][0].transpose(0, 1)
        torch.testing.assert_close(maps, expected["Mixed_5c_TCHW"], rtol=0, atol=1e-3)


STAGES = (
    "Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3",
    "Mixed_3b", "Mixed_3c", "MaxPool3d_4a_3x3", "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e",
    "Mixed_4f", "MaxPool3d_5a_2x2", "Mixed_5b", "Mixed_5c",
)  # fmt: skip


@pytest.mark.parametrize("name", ["i3d_k400_small_8x112", "i3d_k400_9x224"])
def test_i3d_gives_the_numbers_of_the_release_on_stored_clips(network, name):
    golden = Golden(name)
    assert golden.arrays["out/stage_names"].tolist() == list(STAGES)
    expected = {k: torch.from_numpy(v) for k, v in golden.arrays.items() if v.dtype.kind in "fi"}
    check(network, golden.arrays["in/video"], {k[4:]: v for k, v in expected.items()})


@pytest.mark.parametrize(
    ("name"),
    slow_but(
        ["archery_16", "archery_32", "biking_16", "biking_32", "synthetic_16",
         "synthetic_11_97x131_nohead"],
        "synthetic_11_97x131_nohead",
    ),
)  # fmt: skip
def test_i3d_gives_the_numbers_of_the_release_on_videos(network, name):
    golden = Golden("i3d_k400_golden")
    kind, frames = name.split("_")[:2]
    if kind in VIDEOS:
        clip = centre(VIDEOS[kind], int(frames))
    else:
        clip = synthetic(int(frames), *((97, 131) if "x" in name else (224, 224)))
    assert clip.shape == tuple(golden.arrays[f"in/{name}/shape"])
    assert hashlib.sha256(clip).hexdigest() == str(golden.arrays[f"in/{name}/sha256"])
    outputs = {k: v for k, v in golden.arrays.items() if k.startswith(f"out/{name}/")}
    check(network, clip, {k.split("/")[2]: torch.from_numpy(v) for k, v in outputs.items()})
