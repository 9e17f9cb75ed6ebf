"""The whole recipe, on videos."""

from __future__ import annotations

import filecmp
import json
import shutil

import pytest

from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import ParameterError
from flowpipe.pipelines.idt_baseline import idt_baseline
from flowpipe.runner import atomic
from flowpipe.runner.inspect import stages_below, stale
from tests.helpers.tables import contents

pytestmark = pytest.mark.usefixtures("no_flushing")

SETTINGS = ("--descriptors", "hof", "mbhy", "--gaussians", "4", "--rows", "800", "--jobs", "0")


BOW = (*SETTINGS[:3], "--rows", "800", "--jobs", "0", "--encoding", "bow", "--clusters", "9")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    write_synthetic(root, Synthetic(2, 1, width=64, height=64, n_frames=20))
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["idt-baseline", *(str(argument) for argument in arguments)])
    return end.value.code


@pytest.fixture(scope="module")
def finished(videos, tmp_path_factory):
    # As deep as the folders of the tests: tables say where their videos are from there.
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        assert run(videos, "--out", out, *SETTINGS) == 0
    return out


def stages(out):
    return sorted(path.name.partition("-")[0] for path in stages_below(out))


def test_results_stand_on_top(finished):
    assert stages(finished) == ["classify", "encode", "trajectories"]
    scores = load_scores(finished / "scores.npz")
    assert [split.split for split in scores.splits] == ["split1", "split2"]
    assert sum(len(split.names) for split in scores.splits) == 12
    metrics = json.loads((finished / "metrics.json").read_text())
    assert len(metrics["confusion"]) == 6
    page = (finished / "report.html").read_text()
    for said in ("synthetic: idt trajectories, fisher", "trajectories: extraction", "mbhy"):
        assert said in page


class Killed(BaseException):
    """Ends a run where it stands."""


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bytes(videos, finished, tmp_path, monkeypatch):
    place = atomic.place
    left = 0

    def place_or_die(temporary, destination):
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        place(temporary, destination)

    for module in ("runner.atomic", "io.npz"):
        monkeypatch.setattr(f"flowpipe.{module}.place", place_or_die)
    kills = 0
    while True:
        # Every run dies before it puts another file in its place, each time a later one.
        left = 5 + kills
        try:
            status = run(videos, "--out", tmp_path / "out", *SETTINGS)
        except Killed:
            kills += 1
            continue
        break
    assert status == 0
    assert kills > 4
    assert contents(tmp_path / "out") == contents(finished)


def test_a_setting_of_the_classifier_leaves_the_rest(videos, finished, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    capsys.readouterr()
    assert run(videos, "--out", out, *SETTINGS, "--c", "1") == 0
    told = capsys.readouterr().err
    assert "12 clips: 0 done, 12 skipped" in told
    assert "4 encoders: 0 done" in told
    assert "4 kernels: 0 done" in told
    assert "6 splits: 6 done" in told
    assert stages(out) == ["classify", "classify", "encode", "trajectories"]
    page = (out / "report.html").read_text()
    assert "another run: c 100.0" in page
    assert [folder.name for folder in stale(out)] == [
        each.name for each in finished.glob("classify-*")
    ]


@pytest.mark.slow
def test_a_setting_of_the_encoding_leaves_the_trajectories(videos, finished, tmp_path, capsys):
    out = shutil.copytree(finished, tmp_path / "out")
    capsys.readouterr()
    assert run(videos, "--out", out, *BOW) == 0
    told = capsys.readouterr().err
    assert "12 clips: 0 done, 12 skipped" in told
    assert "4 encoders: 4 done" in told
    assert (
        "another run: device cpu, encoding fisher, gaussians 4" in (out / "report.html").read_text()
    )


@pytest.mark.slow
def test_a_changed_and_a_broken_video(videos, tmp_path, capsys):
    copy, out = shutil.copytree(videos, tmp_path / "videos"), tmp_path / "out"
    assert run(copy, "--out", out, *SETTINGS) == 0
    shutil.copy(copy / "spin/g01_c01_still.avi", copy / "zoom/g01_c01_still.avi")
    (copy / "orbit/g02_c01_moving.avi").write_bytes(b"no video")
    capsys.readouterr()
    assert run(copy, "--out", out, *SETTINGS) == 1
    told = capsys.readouterr().err
    assert "12 clips: 1 done, 10 skipped, 1 failed" in told
    metrics = json.loads((out / "metrics.json").read_text())
    assert "1 clip left out, since it failed: 'orbit/g02_c01_moving'" in metrics["notes"]
    page = (out / "report.html").read_text()
    assert "1 clip left out, since it failed" in page
    # The old table of a video that can no longer be read is not used.
    assert sum(map(sum, metrics["confusion"])) == 11
    assert "orbit/g02_c01_moving" not in load_scores(out / "scores.npz").splits[1].names


def test_the_function_finds_a_finished_run_and_returns_its_metrics(finished, videos, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    encoding = Encoding(descriptors=("hof", "mbhy"), gaussians=4)
    metrics = idt_baseline(str(videos), str(out), encoding=encoding, workers=0, rows=800)
    assert metrics.failed == 0
    assert (
        metrics.to_json()["accuracy"] == json.loads((out / "metrics.json").read_text())["accuracy"]
    )
    assert contents(out) == contents(finished)


@pytest.mark.slow
def test_a_listed_clip_that_is_not_there_is_named_and_counted(videos, tmp_path, capsys):
    copy, out = shutil.copytree(videos, tmp_path / "videos"), tmp_path / "out"
    (copy / "orbit/g02_c01_moving.avi").unlink()
    assert run(copy, "--out", out, *SETTINGS) == 1
    shown = capsys.readouterr().err
    assert "1 clip listed but not there: 'orbit/g02_c01_moving'" in shown
    assert "11 clips: 11 done" in shown


def test_a_shard_extracts_and_stops(videos, tmp_path):
    assert run(videos, "--out", tmp_path / "out", *SETTINGS, "--shard", "2/6") == 0
    assert stages(tmp_path / "out") == ["trajectories"]
    assert len(list(tmp_path.rglob("*.h5"))) == 2


@pytest.mark.slow
def test_encode_and_classify_give_what_the_recipe_gives(videos, finished, tmp_path):
    trajectories = next(finished.glob("trajectories-*"))
    vectors, scores = tmp_path / "vectors", tmp_path / "scores"
    with pytest.raises(SystemExit) as end:
        main(["encode", str(videos), str(trajectories), "--out", str(vectors), *SETTINGS])
    assert end.value.code == 0
    with pytest.raises(SystemExit) as end:
        main(["classify", str(vectors), "--out", str(scores), "--jobs", "0"])
    assert end.value.code == 0
    assert filecmp.cmp(scores / "scores.npz", finished / "scores.npz", shallow=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--protocol", "thirds"), "protocol is 'thirds'; it must be 'official', 'loo'"),
        (("--protocol", "9-fold"), "k is 9; it must be 2 to 2"),
        (("--dataset", "ucf101"), "is not named like 'v_Archery_g01_c01.avi'"),
        (("--frame-size", "big"), "--frame-size is 'big'"),
        (("--gaussians", "0"), "gaussians is 0"),
        (("--c", "-1"), "c is -1.0"),
    ],
)
def test_what_cannot_be_asked_for(videos, tmp_path, capsys, options, message):
    assert run(videos, "--out", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_names_that_occur_twice(videos, tmp_path, capsys):
    shutil.copytree(videos, tmp_path / "videos")
    listing = tmp_path / "videos/dataset.csv"
    lines = listing.read_text().splitlines()
    listing.write_text("\n".join([*lines, lines[-1]]))
    assert run(listing, "--dataset", "csv", "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err.replace("\n", " ")
    assert "twice" in told


def test_single_options_in_python(finished, videos, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    options = {"kind": "idt", "descriptors": ("hof",), "rows": 800, "clusters": 5, "c": 10.0}
    idt_baseline(videos, out, encoding="bow", workers=0, **options)
    settings = json.loads((out / "metrics.json").read_text())["stage"]
    assert settings["c"] == 10
    assert settings["encode"]["encoding"] == "bow"
    assert settings["encode"]["clusters"] == 5
    with pytest.raises(ParameterError, match="'colour' is not an option; options are"):
        idt_baseline(videos, out, colour="red")
    with pytest.raises(ParameterError, match="gaussians is 5, but encoding is 'bow'"):
        idt_baseline(videos, out, encoding="bow", gaussians=5)
