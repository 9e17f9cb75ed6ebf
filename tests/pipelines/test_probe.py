"""Heads on stored maps, from maps to scores and to labels of new videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import flowpipe
from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.models.probes import PROBES, ProbeEntry
from flowpipe.pipelines.probe import probe
from flowpipe.pipelines.verify import verify
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.stored_maps import MapClips
from flowpipe.training.features.maps import NETWORK
from tests.helpers.features import save_i3d, save_network, save_vit
from tests.helpers.maps import telling_maps, write_maps
from tests.helpers.tables import made_up_set, with_split

pytestmark = pytest.mark.usefixtures("no_flushing")

FEW = {"frames": 4, "epochs": 12, "batch_size": 4, "warmup": 1.0, "lr": 0.005, "device": "cpu"}
SMALL = {"evl": {"width": 8, "heads": 2}, "attention": {"width": 8, "heads": 2}, "linear": {}}


@pytest.fixture
def dataset(tmp_path):
    return with_split(made_up_set(tmp_path / "set", {"jump": 9, "run": 9}))


def run(dataset, maps, out, head="linear", **options):
    return probe(dataset, maps, out, head=head, **{**FEW, **SMALL.get(head, {}), **options})


def scores_of(out):
    return load_scores(out / "scores.npz").splits[0].scores


@pytest.mark.parametrize("head", PROBES)
def test_heads_learn_what_tells_the_classes_apart(dataset, tmp_path, head):
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    metrics = run(dataset, maps, tmp_path / "out", head, test_clips=2)
    assert metrics.accuracy.value > 0.9
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["stage"]["maps"][0]["maps"] == "layer3"
    assert written["stage"]["head"] == head
    fused = flowpipe.fuse([tmp_path / "out/scores.npz"] * 2, tmp_path / "fused")
    assert fused.accuracy.value == metrics.accuracy.value
    assert (tmp_path / "out/report.html").exists()
    assert verify(tmp_path / "out", repair=False, workers=0).failed == 0


@pytest.mark.slow
def test_evl_sees_the_order_of_frames_and_attention_does_not(dataset, tmp_path):
    made = telling_maps(dataset, by_time=True)
    maps = write_maps(tmp_path / "maps", made)
    options = {"epochs": 60, "cross_attention": False, "dropout": 0.0}
    assert run(dataset, maps, tmp_path / "evl", "evl", **options).accuracy.value > 0.9
    del options["cross_attention"]
    assert run(dataset, maps, tmp_path / "attention", "attention", **options).accuracy.value < 0.9


@pytest.mark.slow
def test_two_folders_are_seen_together(dataset, tmp_path):
    """Each tells one class of three from the others."""
    three = with_split(made_up_set(tmp_path / "three", {"a": 12, "b": 12, "c": 12}))
    first, second = telling_maps(three, (3, 4, 3)), telling_maps(three, (2, 2, 3))
    for name in first:
        first[name][..., 1:3] = 0
        second[name][..., 0] = second[name][..., 2] = 0
    one = write_maps(tmp_path / "one", first)
    other = write_maps(tmp_path / "other", {k: v[:-1] for k, v in second.items()}, seed=1)
    for head in PROBES:
        both = run(three, [one, other], tmp_path / head, head, epochs=30).accuracy.value
        assert run(three, one, tmp_path / f"{head}-1", head).accuracy.value < 0.85 < both


@pytest.mark.slow
def test_tokens_are_heads_of_queries_and_keys(dataset, tmp_path):
    made = {
        name: np.concatenate([array.reshape(len(array), 1, -1, 8)[:, :, :5]] * 6, axis=1)
        for name, array in telling_maps(dataset).items()
    }
    said = {"tokens": 2, "heads": 2, "grid": [2, 2]}
    maps = write_maps(tmp_path / "tokens", made, **said)
    for head in PROBES:
        assert run(dataset, maps, tmp_path / head, head).accuracy.value > 0.9
    wrong = write_maps(tmp_path / "wrong", made, **{**said, "grid": [2, 3]})
    with pytest.raises(UnusableClipsError, match=r"2 blocks of 2 x 3 tokens and 2 heads"):
        run(dataset, wrong, tmp_path / "out")


def interrupted(monkeypatch, after):
    """Let a training be interrupted after so many clips."""
    left = [after]
    real = MapClips.__getitem__

    def read(self, index):
        left[0] -= self._random
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, index)

    monkeypatch.setattr(MapClips, "__getitem__", read)


def test_an_interrupted_training_resumes_with_the_same_bytes(dataset, tmp_path, monkeypatch):
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    run(dataset, maps, tmp_path / "whole", "evl", epochs=4)
    with monkeypatch.context() as patch:
        interrupted(patch, 29)  # of 4 x 12 clips
        with pytest.raises(KeyboardInterrupt):
            run(dataset, maps, tmp_path / "half", "evl", epochs=4, checkpoint_every=1)
    assert (tmp_path / "half/heads/01-one" / CHECKPOINT_NAME).exists()
    run(dataset, maps, tmp_path / "half", "evl", epochs=4)
    for name in ("heads/01-one/probe.safetensors", "heads/01-one.npz", "scores.npz"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_run_trains_nothing(dataset, tmp_path, monkeypatch):
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    first = run(dataset, maps, tmp_path / "out")
    monkeypatch.setattr(MapClips, "__getitem__", lambda self, index: pytest.fail("it reads maps"))
    again = run(dataset, maps, tmp_path / "out")
    np.testing.assert_array_equal(first.confusion, again.confusion)


def test_labels_of_test_clips_change_no_score_and_those_of_training_clips_do(dataset, tmp_path):
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    run(dataset, maps, tmp_path / "out", epochs=2)
    before = scores_of(tmp_path / "out")
    for half, same in (("test", True), ("train", False)):
        names = getattr(dataset.splits[0], half)[:3]
        clips = [
            replace(clip, label="run" if clip.name in names else clip.label)
            for clip in dataset.clips
        ]
        run(replace(dataset, clips=tuple(clips)), maps, tmp_path / "out", epochs=2)
        assert np.array_equal(before, scores_of(tmp_path / "out")) == same


def test_maps_of_another_network_or_folder_are_refused(dataset, tmp_path):
    made = telling_maps(dataset)
    maps = write_maps(tmp_path / "maps", made)
    run(dataset, maps, tmp_path / "out")
    other = write_maps(tmp_path / "other", made, seed=1)
    with pytest.raises(StageMismatchError, match=r"maps: "):
        run(dataset, other, tmp_path / "out")
    shutil.copy(other / NETWORK, maps / NETWORK)
    with pytest.raises(FormatError, match="is not the network of the maps"):
        run(dataset, maps, tmp_path / "out")
    (maps / NETWORK).unlink()
    with pytest.raises(ParameterError, match="maps without their network"):
        run(dataset, maps, tmp_path / "out")
    of_other_flow = write_maps(tmp_path / "flow", made, source={"stage": "flow", "bound": 3})
    with pytest.raises(ParameterError, match="maps of different flow or frames"):
        run(dataset, [other, of_other_flow], tmp_path / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="empty' holds no maps"):
        run(dataset, tmp_path / "empty", tmp_path / "new")


def test_maps_that_do_not_fit_are_refused(dataset, tmp_path):
    made = telling_maps(dataset)
    maps = write_maps(tmp_path / "maps", {**made, "run/4": made["run/4"][:, :2]})
    with pytest.raises(ParameterError, match="'run/4' are 2 x 4 x 8, and those of 'jump/0' 3 x 4"):
        run(dataset, maps, tmp_path / "out")
    whole = write_maps(tmp_path / "whole", made)
    half = write_maps(tmp_path / "half", {name: each[::2] for name, each in made.items()})
    with pytest.raises(UnusableClipsError, match="there are 12 and 6 maps of the clip"):
        run(dataset, [whole, half], tmp_path / "out")


def test_clips_without_maps_are_named_or_left_out(dataset, tmp_path):
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    (maps / "jump/3.npy.json").unlink()
    (maps / "run/4.npy").write_bytes(b"broken")
    with pytest.raises(UnusableClipsError, match=r"2 of 18 clips(.|\n)*jump/3(.|\n)*run/4"):
        run(dataset, maps, tmp_path / "out")
    metrics = run(dataset, maps, tmp_path / "out", leave_out_unusable=True)
    assert metrics.confusion.sum() == len(dataset.splits[0].test) - 1


def test_a_head_of_the_table_is_an_option(dataset, tmp_path, monkeypatch, capsys):
    """In the command line, in doctor and in errors."""
    toy = ProbeEntry(PROBES["linear"].build, "a toy", "", {})
    monkeypatch.setitem(PROBES, "toy", toy)
    maps = write_maps(tmp_path / "maps", telling_maps(dataset))
    short = ["--epochs", "3", "--warmup", "1", "--frames", "4", "--device", "cpu"]
    arguments = ["--protocol", "3-fold", "--head", "toy", *short, "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main(["probe", str(tmp_path / "set"), str(maps), *arguments])
    assert end.value.code == 0, capsys.readouterr().err
    assert len(load_scores(tmp_path / "out/scores.npz").splits) == 3
    with pytest.raises(SystemExit):
        main(["doctor"])
    assert "a toy" in capsys.readouterr().out
    with pytest.raises(ParameterError, match="evl, attention, linear, toy"):
        run(dataset, maps, tmp_path / "no", "none")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of two groups, and their flow with frames."""
    root = tmp_path_factory.mktemp("probe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        write_synthetic(root / "videos", Synthetic(2, 1, width=64, height=48, n_frames=20))
        stage = FlowStage(size=None, frames=True)
        flowpipe.extract_flow(root / "videos", root / "flow", stage, workers=0)
    return root


def maps_of(videos, out, net, **options):
    flowpipe.extract_features(videos / "flow", out, net, workers=0, device="cpu", **options)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frames and flow", "3-D", "tokens"])
def test_predict_gives_the_scores_of_the_test(videos, tmp_path, monkeypatch, kind):
    """A new video is decoded, and seen by the networks and the head, as a test clip was."""
    match kind:
        case "frames and flow":
            rgb = save_network(tmp_path, modality="rgb", length=1)
            flow = save_network(tmp_path, modality="flow", length=2)
            options = {"maps": "stage2", "short_side": 32, "stride": 2}
            maps = [
                maps_of(videos, tmp_path / "rgb-maps", rgb, **options),
                maps_of(videos, tmp_path / "flow-maps", flow, **options),
            ]
        case "3-D":
            net, _ = save_i3d(tmp_path, monkeypatch)
            maps = maps_of(videos, tmp_path / "maps", net, maps="Mixed_3c", stride=4)
        case "tokens":
            net, _ = save_vit(tmp_path, monkeypatch)
            maps = maps_of(videos, tmp_path / "maps", net, tokens=2)
    out = tmp_path / "out"
    options = {"epochs": 3, "final": True}
    run(videos / "videos", maps, out, "evl", **options)
    split = load_scores(out / "scores.npz").splits[0]
    folder = out / "classifiers/01-split1"
    found = flowpipe.predict(folder, videos / "videos", workers=0)
    assert not found.failed
    by_name = {each.name: each for each in found.predictions}
    for name, scores in zip(split.names, split.scores, strict=True):
        np.testing.assert_allclose(by_name[name].scores, scores, atol=1e-4)
    one = by_name[split.names[0]]
    assert one.calibrated
    # The folders of maps are not needed, and the head of all clips is taken.
    for each in maps if isinstance(maps, list) else [maps]:
        shutil.rmtree(each)
    classifier = flowpipe.load_classifier(out, device="cpu")
    assert classifier.path.parent.name == "final"
    assert classifier.predict(one.path).label in classifier.classes
    with pytest.raises(ParameterError, match="test_clips, crops and amp are for those"):
        flowpipe.load_classifier(folder, flowpipe.prediction.load.Testing(crops=1))
    with pytest.raises(ParameterError, match="a head on maps"):
        flowpipe.extract_features(videos / "flow", tmp_path / "no", folder, workers=0)


@pytest.mark.slow
def test_a_video_of_another_shape_is_refused_by_name(videos, tmp_path):
    net = save_network(tmp_path, modality="rgb", length=1)
    maps = maps_of(videos, tmp_path / "maps", net, maps="stage2", short_side=32)
    run(videos / "videos", maps, tmp_path / "out", epochs=3)
    write_synthetic(tmp_path / "wide", Synthetic(2, 1, width=96, height=48, n_frames=20))
    found = flowpipe.predict(tmp_path / "out/classifiers/01-split1", tmp_path / "wide", workers=0)
    assert len(found.failed) == 12
    assert all("its frames have another shape" in reason for reason in found.failed.values())
