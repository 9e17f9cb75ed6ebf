"""Maps of a layer, of every frame or stack of flow."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flowpipe
from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.tokens import block_tokens
from flowpipe.models.weights import load_model
from flowpipe.pipelines.verify import verify
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.features.map_files import MapWriter, load_maps
from flowpipe.training.features.map_windows import MapWindows
from flowpipe.training.features.maps import NETWORK, kept_network
from tests.helpers.clips import contents
from tests.helpers.features import (
    images_of,
    levels_of,
    save_i3d,
    save_network,
    save_vit,
    store_flow,
)

pytestmark = pytest.mark.usefixtures("no_flushing")

LAYER = "stage2"


@pytest.fixture
def flow(tmp_path):
    return store_flow(tmp_path, {"jump/a": 7, "run/b": 5})


def run(source, out, net, **options):
    return flowpipe.extract_features(source, out, net, workers=0, device="cpu", **options)


def layer_of(net, images):
    """Output of the layer, by hand: (N, C, H, W) -> (N, H', W', F)."""
    found = []
    network, _ = load_model(net / "model.safetensors")
    layer = network.eval().backbone.get_submodule(LAYER)
    layer.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.inference_mode():
        network.backbone(torch.from_numpy(np.ascontiguousarray(images, np.float32)))
    return found[0].permute(0, 2, 3, 1).numpy()


def test_maps_of_flow_are_those_of_the_whole_stack_that_begins_there(flow, tmp_path):
    net = save_network(tmp_path, length=3)
    summary = run(flow, tmp_path / "out", net, maps=LAYER, short_side=32)
    assert (summary.done, summary.failed) == (2, 0)
    levels = (levels_of(flow, "jump/a").astype(np.float32) - 128) / 128
    stacks = [levels[np.minimum([t, t + 1, t + 2], 6)].reshape(6, 32, 48) for t in range(7)]
    maps = load_maps(tmp_path / "out/jump/a.npy")
    assert maps.dtype == np.float16
    np.testing.assert_allclose(maps, layer_of(net, np.stack(stacks)), rtol=2e-3, atol=1e-3)
    record = json.loads((tmp_path / "out/jump/a.npy.json").read_text())
    assert record["maps"] == LAYER
    assert record["shape"] == list(maps.shape)


def test_maps_of_frames_with_a_stride(flow, tmp_path):
    net = save_network(tmp_path, modality="rgb", length=1)
    run(flow, tmp_path / "out", net, maps=LAYER, short_side=32, stride=2)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    images = (images_of(flow, "run/b") - mean[:, None, None]) / std[:, None, None]
    maps = load_maps(tmp_path / "out/run/b.npy")
    np.testing.assert_allclose(maps, layer_of(net, images[::2]), rtol=2e-3, atol=1e-3)


def test_frames_are_scaled_to_the_short_side(flow, tmp_path):
    net = save_network(tmp_path, length=3)
    run(flow, tmp_path / "out", net, maps=LAYER, short_side=64)
    assert load_maps(tmp_path / "out/jump/a.npy").shape[1:3] == (8, 12)


def test_a_run_resumes_with_the_same_bytes_and_refuses_another_layer(flow, tmp_path):
    net, out = save_network(tmp_path, length=3), tmp_path / "out"
    run(flow, out, net, maps=LAYER)
    before = contents(out)
    assert run(flow, out, net, maps=LAYER).skipped == 2
    (out / "run/b.npy.json").unlink()
    (out / "run/b.npy").write_bytes(b"half")
    summary = run(flow, out, net, maps=LAYER)
    assert (summary.done, summary.skipped) == (1, 1)
    after = contents(out)
    for name in ("run/b.npy", "run/b.npy.json", "jump/a.npy"):
        assert after[name] == before[name]
    with pytest.raises(StageMismatchError, match="maps"):
        run(flow, out, net, maps="stage3")


def test_verify_finds_a_flipped_bit(flow, tmp_path):
    out = tmp_path / "out"
    run(flow, out, save_network(tmp_path, length=3), maps=LAYER)
    assert verify(out, repair=False, workers=0).failed == 0
    data = bytearray((out / "run/b.npy").read_bytes())
    data[5000] ^= 1
    (out / "run/b.npy").write_bytes(data)
    assert verify(out, repair=False, workers=0).failed_clips == ("run/b",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": "stage9"}, "no layer of shufflenet_v2_x0_5; it has conv1, conv1.0"),
        ({"maps": LAYER, "length": 4}, "length is 4; it applies to features"),
        ({"short_side": 64}, "short_side is 64; it applies to maps"),
        ({"maps": LAYER, "short_side": 4}, "short_side is 4"),
    ],
)
def test_what_does_not_apply_is_refused(flow, tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        run(flow, tmp_path / "out", save_network(tmp_path, length=3), **options)


def test_networks_that_relate_segments_have_no_maps_of_single_frames(flow, tmp_path):
    net = save_network(tmp_path, "tsm", segments=4, length=2)
    with pytest.raises(ParameterError, match="applies to networks that see each frame"):
        run(flow, tmp_path / "out", net, maps="features.3")


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_values_that_float16_does_not_hold_are_refused(tmp_path, value):
    with (
        MapWriter(tmp_path / "a.npy", tmp_path) as writer,
        pytest.raises(FormatError, match="not finite, or more than"),
    ):
        writer.append(np.full((1, 2, 2, 3), value, np.float32))
    assert not (tmp_path / "a.npy").exists()


def test_the_file_is_an_array_of_numpy(tmp_path):
    maps = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
    with MapWriter(tmp_path / "a.npy", tmp_path) as writer:
        writer.append(maps[:1])
        writer.append(maps[1:])
        assert writer.finish() == maps.shape
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), maps)


def test_other_arrays_are_no_maps(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float16))
    with pytest.raises(FormatError, match="holds no maps"):
        load_maps(tmp_path / "a.npy")


def maps_3d(network, images):
    """Maps of Mixed_3c, one of 2 frames: (T, 3, H, W) levels -> (T / 2, H', W', F)."""
    clip = torch.from_numpy(np.float32(images / 127.5 - 1)).transpose(0, 1)[None]
    with torch.inference_mode():
        return network.backbone.stages(clip)["Mixed_3c"][0].permute(1, 2, 3, 0).numpy()


def test_maps_of_a_3d_network_follow_each_other(tmp_path, monkeypatch):
    flow = store_flow(tmp_path, {"run/b": 18})  # 19 frames
    net, network = save_i3d(tmp_path, monkeypatch)
    maps_of = partial(maps_3d, network)
    options = {"maps": "Mixed_3c", "short_side": 32}
    run(flow, tmp_path / "out", net, **options)
    images = images_of(flow, "run/b")
    images = np.concatenate([images, np.repeat(images[-1:], 5, axis=0)])
    windows = [maps_of(images[start : start + 8]) for start in (0, 8, 16)]
    maps = load_maps(tmp_path / "out/run/b.npy")
    assert maps.shape == (10, 4, 6, 30)  # one of 2 frames
    expected = np.concatenate(windows)[:10]
    np.testing.assert_allclose(maps, expected, rtol=3e-3, atol=2e-3)
    record = json.loads((tmp_path / "out/run/b.npy.json").read_text())
    assert record["frames_per_map"] == 2
    # Of windows that overlap, the maps in the middle are kept.
    run(flow, tmp_path / "half", net, length=8, stride=4, **options)
    windows = [maps_of(images[start : start + 8]) for start in (0, 4, 8, 12)]
    parts = [windows[0][:3], windows[1][1:3], windows[2][1:3], windows[3][1:4]]
    maps = load_maps(tmp_path / "half/run/b.npy")
    np.testing.assert_allclose(maps, np.concatenate(parts), rtol=3e-3, atol=2e-3)
    assert verify(tmp_path / "half", repair=False, workers=0).failed == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 3}, "multiple of the 2 frames of a map"),
        ({"stride": 16}, "at most the length, 8"),
        ({"length": 9}, "9 frames, of which the layer has 5 maps"),
        ({"maps": "Mixed_9"}, "no layer of small-i3d; it has Conv3d_1a_7x7, "),
        ({"tokens": 2, "maps": None}, "applies to vision transformers"),
    ],
)
def test_windows_that_do_not_fit_are_refused(tmp_path, monkeypatch, options, message):
    flow = store_flow(tmp_path, {"run/b": 5})
    net, _ = save_i3d(tmp_path, monkeypatch)
    with pytest.raises(ParameterError, match=message):
        run(flow, tmp_path / "out", net, **{"maps": "Mixed_3c", **options})
    assert not (tmp_path / "out").exists()


@given(
    n=st.integers(1, 60), maps=st.integers(1, 6), frames=st.integers(1, 4), steps=st.integers(1, 6)
)
def test_windows_cover_every_map_once(n, maps, frames, steps):
    windows = MapWindows(maps * frames, min(steps, maps) * frames, maps)
    numbers = [windows.at(start) + i for start, kept in windows.of(n) for i in range(maps)[kept]]
    assert numbers == list(range(windows.count(n)))
    assert windows.count(n) == math.ceil(n / frames)


def test_tokens_of_a_transformer(flow, tmp_path, monkeypatch):
    """Output, queries and keys of the last blocks, of the centre of frames."""
    net, network = save_vit(tmp_path, monkeypatch)
    run(flow, tmp_path / "out", net, tokens=2, stride=3)
    tokens = load_maps(tmp_path / "out/jump/a.npy")
    assert tokens.shape == (3, 6, 5, 24)
    images = images_of(flow, "jump/a")[::3, :, :, 8:40] / np.float32(57.375) - 2
    with torch.inference_mode():
        expected = block_tokens(network, torch.from_numpy(np.float32(images)), 2).numpy()
    np.testing.assert_allclose(tokens, expected, rtol=2e-3, atol=2e-3)
    record = json.loads((tmp_path / "out/jump/a.npy.json").read_text())
    assert (record["tokens"], record["heads"], record["grid"]) == (2, 2, [2, 2])
    with pytest.raises(ParameterError, match="short_side is 24; small-vit takes 32 pixels"):
        run(flow, tmp_path / "small", net, tokens=2, short_side=24)
    with pytest.raises(ParameterError, match="a folder holds one of them"):
        run(flow, tmp_path / "both", net, tokens=2, maps="patch_embed.proj")


def test_maps_are_kept_with_their_network(flow, tmp_path):
    net = save_network(tmp_path, modality="rgb", length=1)
    out = tmp_path / "out"
    run(flow, out, net, maps=LAYER, short_side=32)
    network, described = kept_network(out)
    own = load_model(net / "model.safetensors")[0].state_dict()
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())
    assert described["weights"].startswith("sha256")
    (out / NETWORK).unlink()
    assert run(flow, out, net, maps=LAYER, short_side=32).skipped == 2
    kept_network(out)
