"""Features of windows: those of the network on windows that the test cuts by itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import resize

import flowpipe
from flowpipe.cli import main
from flowpipe.commands import doctor
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.models import MODELS
from flowpipe.models.c3d import C3D
from flowpipe.models.weights import load_model, save_model
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.features.layouts import LAYOUTS, FeatureLayout
from flowpipe.training.features.stage import FeatureStage
from tests.helpers.clips import contents, hashed, smooth_flow, store_clip, write_video
from tests.helpers.features import (
    IMAGENET,
    INPUT,
    SIZE,
    centre,
    images_of,
    levels_of,
    save_network,
    store_flow,
)

pytestmark = pytest.mark.usefixtures("no_flushing")

LENGTHS = {"jump/a": 12, "run/b": 9}


@pytest.fixture
def flow(tmp_path):
    return store_flow(tmp_path, LENGTHS)


def run(source, out, classifier=None, **options):
    return flowpipe.extract_features(source, out, classifier, workers=0, device="cpu", **options)


def expected(folder, clips: np.ndarray) -> np.ndarray:
    """Features of (B, C, T, H, W) clips, averaged over the steps in time that a network has."""
    network, _ = load_model(folder / "model.safetensors")
    with torch.inference_mode():
        features = network.eval().features(torch.from_numpy(np.ascontiguousarray(clips)))
    return features.mean(dim=1).numpy()


def flow_snippet(levels: np.ndarray) -> np.ndarray:
    """(L, 2, H, W) levels -> (2 L, h, w) from -1 to 1."""
    values = (centre(levels) - 128) / 128
    return values.reshape(-1, *values.shape[2:])


def test_features_of_flow_stacks(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    summary = run(flow, tmp_path / "out", net, stride=3)
    assert (summary.done, summary.failed) == (2, 0)
    for name, n in LENGTHS.items():
        levels = levels_of(flow, name)
        stacks = [flow_snippet(levels[t : t + 5]) for t in range(0, n - 5 + 1, 3)]
        found = np.load(tmp_path / "out" / f"{name}.npy")
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_allclose(found, expected(net, np.stack(stacks)[:, :, None]), atol=1e-5)
        assert found.std() > 0


def test_longer_windows_have_the_middle_of_each_segment(flow, tmp_path):
    net = save_network(tmp_path, "tsm", segments=4, length=2)
    run(flow, tmp_path / "out", net, length=9, stride=2)
    levels = levels_of(flow, "jump/a")
    starts = [int(8 / 4 / 2 + 8 / 4 * k) for k in range(4)]  # 8 snippets of 2 fit into 9
    assert starts == [1, 3, 5, 7]
    clips = [
        np.stack([flow_snippet(levels[t + s : t + s + 2]) for s in starts], axis=1) for t in (0, 2)
    ]
    found = np.load(tmp_path / "out/jump/a.npy")
    np.testing.assert_allclose(found, expected(net, np.stack(clips)), atol=1e-5)


def test_features_of_single_frames(flow, tmp_path):
    net = save_network(tmp_path, modality="rgb", length=1)
    run(flow, tmp_path / "out", net)
    frames = centre(images_of(flow, "run/b"))
    mean, std = (values[:, None, None] for values in IMAGENET)
    frames = ((frames - mean) / std).astype(np.float32)
    found = np.load(tmp_path / "out/run/b.npy")
    assert len(found) == 10
    np.testing.assert_allclose(found, expected(net, frames[:, :, None]), atol=1e-4)


def test_features_of_clips_of_a_3d_network(flow, tmp_path):
    """Of another length than it was made for."""
    net = save_network(tmp_path, "i3d", modality="rgb", segments=1, length=16)
    run(flow, tmp_path / "out", net, length=8, stride=2)
    frames = (centre(images_of(flow, "jump/a")) - 127.5) / 127.5
    clips = [frames[t : t + 8].transpose(1, 0, 2, 3) for t in (0, 2, 4)]
    found = np.load(tmp_path / "out/jump/a.npy")
    np.testing.assert_allclose(found, expected(net, np.stack(clips)), atol=1e-5)


def test_differences_of_frames(flow, tmp_path):
    net = save_network(tmp_path, modality="rgb-diff", length=3)
    run(flow, tmp_path / "out", net, stride=4)
    frames = centre(images_of(flow, "jump/a"))
    differences = np.diff(frames, axis=0) / IMAGENET[1][:, None, None].astype(np.float32)
    stacks = [differences[t : t + 3].reshape(9, INPUT, INPUT) for t in (0, 4, 8)]
    found = np.load(tmp_path / "out/jump/a.npy")
    np.testing.assert_allclose(found, expected(net, np.stack(stacks)[:, :, None]), atol=1e-4)


def test_ten_crops_are_averaged(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    run(flow, tmp_path / "out", net, crops=10)
    levels = levels_of(flow, "run/b")[:5].astype(np.int16)
    places = [(0, 0), (0, 20), (4, 0), (4, 20), (2, 10)]
    crops = [levels[..., y : y + INPUT, x : x + INPUT] for y, x in places]
    mirrored = [crop[..., ::-1].copy() for crop in crops]
    for crop in mirrored:
        crop[:, 0] = np.minimum(256 - crop[:, 0], 255)
    views = (np.stack([*crops, *mirrored]).astype(np.float32) - 128) / 128
    features = expected(net, views.reshape(10, 10, 1, INPUT, INPUT))
    found = np.load(tmp_path / "out/run/b.npy")
    np.testing.assert_allclose(found, features.mean(axis=0)[None], atol=1e-5)


def test_ms_tcn_has_a_column_for_each_frame(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    run(flow, tmp_path / "out", net, layout="ms-tcn")
    levels = levels_of(flow, "run/b")
    windows = [np.clip(np.arange(t - 2, t + 3), 0, 8) for t in range(10)]
    stacks = np.stack([flow_snippet(levels[window]) for window in windows])
    found = np.load(tmp_path / "out/b.npy")
    assert found.shape == (1024, 10)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found.T, expected(net, stacks[:, :, None]), atol=1e-5)


@pytest.mark.parametrize("layout", ["actionformer", "opentad"])
def test_detectors_find_time_by_features_in_a_flat_folder(flow, tmp_path, layout, caplog):
    net = save_network(tmp_path, length=5)
    with caplog.at_level("INFO", "flowpipe"):
        run(flow, tmp_path / "out", net, layout=layout, stride=2)
    assert np.load(tmp_path / "out/a.npy").shape == (4, 1024)
    assert f"settings for {layout}: " in caplog.text


def test_video_features_has_times_of_the_last_frames(tmp_path):
    times = [0.0, 0.05, 0.1, 0.2, 0.25, 0.3]
    store_flow(tmp_path, {"run/a": 5})
    store_clip(
        tmp_path / "flow", "zip", smooth_flow(5, SIZE), clip="run/a", source={"path": "none.avi"}
    )
    reader_times(tmp_path / "flow/run/a.zip", 20.0, times)
    net = save_network(tmp_path, length=2)
    run(tmp_path / "flow", tmp_path / "out", net, layout="video-features", stride=2)
    assert np.load(tmp_path / "out/a_flow.npy").shape == (2, 1024)
    assert np.load(tmp_path / "out/a_fps.npy") == 20.0
    np.testing.assert_allclose(np.load(tmp_path / "out/a_timestamps_ms.npy"), [100, 250])


def reader_times(path, fps: float, times: list[float]) -> None:
    """Write frame rate and times into the description of stored flow."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    about = json.loads(members["meta.json"])
    members["meta.json"] = json.dumps({**about, "fps": fps, "times": times}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_without_a_frame_rate_there_are_no_times(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    summary = run(flow, tmp_path / "out", net, layout="video-features")
    assert summary.reasons == {"format": 2}
    assert "frame rate" in summary.failures.read_text()
    assert not list((tmp_path / "out").glob("*.npy"))


def test_frames_of_the_video_where_none_are_stored(tmp_path):
    write_video(tmp_path / "videos/a.avi", 8)
    stage = FlowStage(parameters=Tvl1.fast(), size=None)
    flowpipe.extract_flow(tmp_path / "videos", tmp_path / "flow", stage, workers=0)
    net = save_network(tmp_path, modality="rgb", length=1)
    run(tmp_path / "flow", tmp_path / "out", net, length=1, stride=3)
    frames = flowpipe.read_video(tmp_path / "videos/a.avi")[::3].transpose(0, 3, 1, 2)
    mean, std = (values[:, None, None] for values in IMAGENET)
    frames = ((centre(frames) - mean) / std).astype(np.float32)
    found = np.load(tmp_path / "out/a.npy")
    np.testing.assert_allclose(found, expected(net, frames[:, :, None]), atol=1e-4)
    (tmp_path / "videos/a.avi").unlink()
    again = run(tmp_path / "flow", tmp_path / "other", net, length=1)
    assert again.reasons == {"format": 1}


def test_a_clip_shorter_than_a_window_repeats_its_last_field(tmp_path, caplog):
    flow = store_flow(tmp_path, {"a": 3})
    net = save_network(tmp_path, length=5)
    with caplog.at_level("INFO", "flowpipe"):
        assert run(flow, tmp_path / "out", net).done == 1
    stack = flow_snippet(levels_of(flow, "a")[[0, 1, 2, 2, 2]])
    found = np.load(tmp_path / "out/a.npy")
    np.testing.assert_allclose(found, expected(net, stack[None, :, None]), atol=1e-5)
    assert json.loads((tmp_path / "out/a.npy.json").read_text())["windows"] == 1


def test_bad_clips_fail_for_themselves(flow, tmp_path):
    broken = store_clip(flow, "zip", smooth_flow(9, SIZE), clip="run/broken").path
    data = bytearray(broken.read_bytes())
    data[2000] ^= 255
    broken.write_bytes(data)
    net = save_network(tmp_path, length=5)
    summary = run(flow, tmp_path / "out", net)
    assert (summary.done, summary.failed_clips) == (2, ("run/broken",))
    assert not (tmp_path / "out/run/broken.npy").exists()


def test_a_second_run_does_what_is_left(flow, tmp_path):
    net, out = save_network(tmp_path, length=5), tmp_path / "out"
    run(flow, out, net)
    whole = contents(out)
    assert run(flow, out, net).skipped == 2
    (out / "jump/a.npy.json").unlink()  # killed between the array and its record
    (out / "run/b.npy").unlink()
    assert run(flow, out, net).done == 2
    assert contents(out) == whole
    assert run(flow, out, net, overwrite=True).done == 2
    assert contents(out) == whole
    store_clip(flow, "zip", smooth_flow(9, SIZE, seed=99), clip="run/b")
    assert run(flow, out, net).done == 1
    assert contents(out)["run/b.npy"] != whole["run/b.npy"]


def test_a_damaged_array_is_found_and_computed_again(flow, tmp_path, capsys):
    net, out = save_network(tmp_path, length=5), tmp_path / "out"
    run(flow, out, net)
    whole = contents(out)
    path = out / "jump/a.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for options, status in (([], 1), (["--repair"], 1), ([], 0)):
        with pytest.raises(SystemExit) as end:
            main(["verify", str(out), "--jobs", "0", *options])
        assert end.value.code == status, capsys.readouterr().err
    assert not path.exists()
    run(flow, out, net)
    assert contents(out) == whole
    with pytest.raises(SystemExit) as end:
        main(["status", str(out)])
    assert end.value.code == 0
    assert "features" in capsys.readouterr().out


def test_one_folder_holds_the_features_of_one_network(flow, tmp_path):
    net, out = save_network(tmp_path, length=5), tmp_path / "out"
    run(flow, out, net)
    with pytest.raises(StageMismatchError, match="stride: 5 recorded, 1 requested"):
        run(flow, out, net, stride=1)
    other = save_network(tmp_path / "other", length=4)
    with pytest.raises(StageMismatchError, match=r"network\.clip\.length"):
        run(flow, out, other, length=5)


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    made = {}
    for workers in (0, 1, 2):
        out = tmp_path / f"out{workers}"
        flowpipe.extract_features(flow, out, net, stride=1, workers=workers, device="cpu")
        made[workers] = contents(out)
    assert made[0] == made[1] == made[2]
    torch.set_num_threads(2)
    run(flow, tmp_path / "threads", net, stride=1)
    torch.set_num_threads(1)
    assert contents(tmp_path / "threads") == made[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{"stride": 1}, {"crops": 10}])
def test_a_gpu_gives_the_features_of_a_cpu(flow, tmp_path, options):
    net = save_network(tmp_path, length=5)
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        flowpipe.extract_features(flow, out, net, workers=0, device=device, **options)
    cpu, gpu = (np.load(tmp_path / device / "jump/a.npy") for device in ("cpu", "cuda"))
    assert np.abs(cpu - gpu).max() < 1e-3 * np.abs(cpu).max()


def test_the_bytes_of_a_window_do_not_depend_on_the_others(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    for stride in (1, 2):
        run(flow, tmp_path / f"out{stride}", net, stride=stride)
    dense, sparse = (np.load(tmp_path / f"out{stride}/jump/a.npy") for stride in (1, 2))
    assert hashed(dense[::2].tobytes()) == hashed(sparse.tobytes())


def test_shards_divide_the_clips(flow, tmp_path):
    net, out = save_network(tmp_path, length=5), tmp_path / "out"
    assert run(flow, out, net, shard="1/2").done == 1
    assert run(flow, out, net, shard="2/2").done == 1
    run(flow, tmp_path / "whole", net)
    arrays = {name for name in contents(out) if name.endswith(".npy")}
    assert arrays == {"jump/a.npy", "run/b.npy"}
    assert all(contents(out)[name] == contents(tmp_path / "whole")[name] for name in arrays)


def test_published_weights(flow, tmp_path):
    network = flowpipe.create_model("shufflenet_v2_x0_5", "rgb", 1000, input_size=INPUT)
    torch.save(network.backbone.state_dict(), tmp_path / "weights.pth")
    options = {"weights": str(tmp_path / "weights.pth"), "input_size": INPUT}
    run(flow, tmp_path / "out", model="shufflenet_v2_x0_5", **options)
    found = np.load(tmp_path / "out/run/b.npy")
    frames = centre(images_of(flow, "run/b"))
    mean, std = (values[:, None, None] for values in IMAGENET)
    frames = torch.from_numpy(((frames - mean) / std).astype(np.float32))
    with torch.inference_mode():
        wanted = network.eval().features(frames[:, :, None])[:, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_weights_that_lack_a_part_of_the_network_are_refused(flow, tmp_path):
    """STM's modules in a plain ResNet begin at random."""
    network = flowpipe.create_model("resnet50", "rgb", 1000)
    torch.save(network.backbone.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ParameterError, match=r"a\.pth', which has no '.*' of stm"):
        run(flow, tmp_path / "out", model="stm", weights=str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "model is None and weights is None"),
        ({"model": "i3d"}, "features need both"),
        ({"model": "i3d", "weights": "none"}, "mean nothing"),
        ({"model": "i4d", "weights": "a.pth"}, "name is 'i4d'"),
        ({"model": "i3d", "weights": "a.pth"}, r"'a\.pth' does not exist"),
        ({"classifier": "none"}, "'none' does not exist"),
        ({"lenght": 3}, "'lenght' is not an option"),
    ],
)
def test_what_cannot_be_computed_is_named(flow, tmp_path, options, reason):
    with pytest.raises(FlowpipeError, match=reason):
        run(flow, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_networks_that_do_not_fit_are_refused(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    with pytest.raises(ParameterError, match="length is 4; a snippet of tsn takes 5"):
        run(flow, tmp_path / "out", net, length=4)
    with pytest.raises(ParameterError, match="model is 'i3d'; it applies to a published network"):
        run(flow, tmp_path / "out", net, model="i3d")
    with pytest.raises(ParameterError, match="into its own folder"):
        run(flow, flow, net)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="holds no flow"):
        run(tmp_path / "empty", tmp_path / "out", net)
    deep = save_network(tmp_path, "deepvideo-early", modality="rgb", segments=1, length=10)
    with pytest.raises(ParameterError, match="length is 8; deepvideo-early takes 10 frames"):
        run(flow, tmp_path / "out", deep, length=8)


def test_flow_of_another_bound_than_that_of_training_is_refused(flow, tmp_path):
    (flow / ".flowpipe").mkdir()
    (flow / ".flowpipe/stage.json").write_text(json.dumps({"stage": "flow", "bound": 20.0}))
    about = {"stream": {"sets": [{"flow": {"stage": "flow", "bound": 8.0}}]}}
    net = save_network(tmp_path, about=about, length=5)
    with pytest.raises(FlowpipeError, match=r"bound 8\.0, .* has bound 20\.0"):
        run(flow, tmp_path / "out", net)


def test_features_that_are_not_finite_are_not_written(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    path = net / "model.safetensors"
    network, about = load_model(path)
    with torch.no_grad():
        network.first.weight[0, 0, 0, 0] = torch.nan
    save_model(path, network, about, tmp_path)
    summary = run(flow, tmp_path / "out", net)
    assert summary.reasons == {"format": 2}
    assert "not finite" in summary.failures.read_text()


def test_a_damaged_or_hostile_network_is_refused(flow, tmp_path):
    net = save_network(tmp_path, length=5)
    path = net / "model.safetensors"
    whole = path.read_bytes()
    for data in (b"", b"\x80\x04cos\nsystem\n.", whole[:-1000], whole[:200] + whole[300:]):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"model\.safetensors"):
            run(flow, tmp_path / "out", net)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_folders_of_frames_without_flow(tmp_path):
    store_flow(tmp_path, {"a": 5})
    import cv2

    frames = images_of(tmp_path / "flow", "a")
    (tmp_path / "frames/a").mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        path = tmp_path / f"frames/a/img_{number:05d}.png"
        cv2.imwrite(str(path), frame.transpose(1, 2, 0)[..., ::-1])
    net = save_network(tmp_path, modality="rgb", length=2)
    run(tmp_path / "flow", tmp_path / "1", net)
    run(tmp_path / "frames", tmp_path / "2", net)
    assert contents(tmp_path / "1")["a.npy"] == contents(tmp_path / "2")["a.npy"]


def test_a_layout_of_one_entry_is_used_from_the_command_line(flow, tmp_path, monkeypatch, capsys):
    toy = FeatureLayout("a toy", "me", "pace {stride}", features_first=True)
    monkeypatch.setitem(LAYOUTS, "toy", toy)
    net = save_network(tmp_path, length=5)
    options = ["--layout", "toy", "--out", str(tmp_path / "out"), "--device", "cpu", "--jobs", "0"]
    with pytest.raises(SystemExit) as end:
        main(["features", str(flow), "--classifier", str(net), *options])
    told = capsys.readouterr().err
    assert end.value.code == 0, told
    assert "settings for toy: pace 5" in told
    assert np.load(tmp_path / "out/a.npy").shape == (1024, 2)
    listed = doctor.listing(*doctor.TABLES["feature layout"])
    assert ("toy", "a toy", "me") in list(listed)
    with pytest.raises(ParameterError, match="video-features, toy"):
        FeatureStage(layout="none")


def test_the_command(flow, tmp_path, capsys):
    net = save_network(tmp_path, length=5)
    with pytest.raises(SystemExit) as end:
        main(
            [
                "features", str(flow), "--classifier", str(net), "--layout", "opentad", "--stride",
                "2", "--out", str(tmp_path / "out"), "--device", "cpu", "--jobs", "0",
            ]
        )  # fmt: skip
    told = capsys.readouterr().err
    assert end.value.code == 0, told
    assert "feature_stride=2, sample_stride=1, offset_frames=2" in told
    assert np.load(tmp_path / "out/a.npy").shape == (4, 1024)


def test_c3d_gives_the_layer_of_its_paper(tmp_path, monkeypatch):
    flow = store_flow(tmp_path, {"jump/a": 24, "run/b": 16})
    small = partial(C3D, classes=1, width=1 / 64)
    entry = replace(MODELS["c3d"], build=lambda clip: small(clip.channels_per_frame))
    monkeypatch.setitem(MODELS, "c3d", entry)
    network = small(3).eval()
    weights = tmp_path / "c3d.pickle"
    torch.save(network.state_dict(), weights)
    given = {"model": "c3d", "weights": str(weights), "length": 16, "stride": 8}
    for layer in ("fc6", "fc7"):
        assert run(flow, tmp_path / layer, layer=layer, **given).done == 2
    usual = tmp_path / "usual"
    run(flow, usual, **given)

    # Frames of 48 x 32 are scaled to a short side of 128; blue comes first, less its mean.
    images = torch.from_numpy(images_of(flow, "jump/a"))[8:24]
    scaled = resize(images, [128, 192], antialias=True)[..., 8:120, 40:152].float()
    clip = (scaled.flip(1) - torch.tensor([90.0, 98.0, 102.0])[:, None, None]).transpose(0, 1)
    with torch.inference_mode():
        fc6, fc7 = network.descriptors(clip[None])[0], network.features(clip[None])[0, 0]
    for folder, feature in (("fc6", fc6), ("fc7", fc7), ("usual", fc7)):
        found = np.load(tmp_path / folder / "jump/a.npy")
        assert found.shape == (2, 64)
        np.testing.assert_allclose(found[1], feature, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "fc6/.flowpipe/stage.json").read_text())["layer"] == "fc6"
    with pytest.raises(ParameterError, match="layer is 'fc9', and the network is c3d; it must be"):
        run(flow, tmp_path / "out", layer="fc9", **given)
    net = save_network(tmp_path)
    with pytest.raises(ParameterError, match="the network is tsn; layers apply to c3d"):
        run(flow, tmp_path / "out", net, layer="fc6")
