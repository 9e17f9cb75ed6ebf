"""Maps of networks along trajectories, from videos to an accuracy."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.verify import verify
from flowpipe.runner.inspect import stages_below
from flowpipe.training.features.map_files import load_maps
from flowpipe.training.tdd import map_layers
from flowpipe.trajectories.clip_tables import track_points
from flowpipe.trajectories.table import Table
from flowpipe.trajectories.tdd import pool_maps
from tests.helpers.features import save_network
from tests.helpers.tables import contents

SETTINGS = ("--gaussians", "2", "--rows", "300", "--jobs", "0", "--descriptors", "hof")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tdd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        write_synthetic(root / "videos", Synthetic(2, 1, width=64, height=48, n_frames=20))
        stage = FlowStage(size=None, frames=True)
        flowpipe.extract_flow(root / "videos", root / "flow", stage, workers=0)
        for modality, length in (("rgb", 1), ("flow", 2)):
            net = save_network(root, modality=modality, length=length)
            for side in (32, 48):
                flowpipe.extract_features(
                    root / "flow", root / f"{modality}-{side}", net, device="cpu", workers=0,
                    maps="conv1", short_side=side,
                )  # fmt: skip
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["tdd-baseline", *(str(argument) for argument in arguments)])
    return end.value.code


def folders(root, *names):
    return [root / name for name in names]


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    maps = folders(root, "rgb-32", "flow-32", "rgb-48", "flow-48")
    assert run(root / "videos", "--maps", *maps, "--out", out, *SETTINGS) == 0
    return out


def test_the_fusion_stands_on_top(finished):
    found = json.loads((finished / "metrics.json").read_text())
    assert set(found["streams"]) == {"TDD", "iDT"}
    assert (finished / "report.html").is_file()
    stages = sorted(path.name.partition("-")[0] for path in stages_below(finished))
    assert stages == ["classify"] * 2 + ["encode"] * 2 + ["fuse", "tdd", "trajectories"]


def test_a_row_is_the_sum_of_the_maps_along_a_track(root, finished):
    path = next(iter(sorted((finished).glob("tdd-*/**/*.h5"))))
    name = path.relative_to(next(finished.glob("tdd-*"))).as_posix().removesuffix(".h5")
    maps = load_maps(root / f"rgb-32/{name}.npy")
    with Table(path) as table:
        fields = table.fields
        values = table.read()
    assert fields == (
        "info",
        *(
            f"tdd-{modality}-conv1-{norm}"
            for modality in ("rgb", "flow")
            for norm in ("spatiotemporal", "channel")
        ),
    )
    assert (values["info"][:, 6] == 1).all()
    assert maps.shape[3] == values["tdd-rgb-conv1-channel"].shape[1]
    for field in fields[1:]:
        assert values[field].max() <= 15
        assert values[field].min() >= 0
    # The rows of a block of tracks of the first size come first; here there is one block. No track
    # may end with the last frame, at which there is no flow.
    tracks = next(finished.glob("trajectories-*")) / f"{name}.h5"
    with Table(tracks) as table:
        info = table.read(fields=("info",))["info"]
    rows = np.flatnonzero((info[:, 6] == 1) & (info[:, 0] < len(maps) - 1))
    points, ends = track_points(tracks, rows)
    record = json.loads((root / f"rgb-32/{name}.npy.json").read_text())
    expected = pool_maps(maps, points[:, 1:], ends, record["pixels_per_cell"])
    for norm, sums in expected.items():
        found = values[f"tdd-rgb-conv1-{norm}"][: len(rows)]
        np.testing.assert_allclose(found, sums, rtol=2e-3)


def test_another_run_changes_no_byte_and_verify_is_content(root, finished):
    before = contents(finished)
    maps = folders(root, "rgb-32", "flow-32", "rgb-48", "flow-48")
    assert run(root / "videos", "--maps", *maps, "--out", finished, *SETTINGS) == 0
    after = contents(finished)
    tables = [name for name in before if name.endswith((".h5", ".npz"))]
    assert all(after[name] == before[name] for name in tables)
    assert verify(next(finished.glob("tdd-*")), repair=False, workers=0).failed == 0


def test_layers_and_sizes_must_fit(root):
    layers = map_layers(folders(root, "rgb-32", "flow-32", "rgb-48", "flow-48"))
    assert [(layer.name, len(layer.folders)) for layer in layers] == [
        ("rgb-conv1", 2),
        ("flow-conv1", 2),
    ]
    with pytest.raises(ParameterError, match="different numbers of sizes"):
        map_layers(folders(root, "rgb-32", "flow-32", "rgb-48"))
    with pytest.raises(ParameterError, match="holds no maps; make them"):
        map_layers(folders(root, "flow"))
    with pytest.raises(ParameterError, match="there are no folders"):
        map_layers([])


def test_maps_of_videos_of_a_folder_above_are_found(root, finished, tmp_path):
    maps = []
    for name in ("rgb-32", "flow-32", "rgb-48", "flow-48"):
        maps.append(tmp_path / name)
        shutil.copytree(root / name, maps[-1] / "set1", ignore=lambda *_: [".flowpipe"])
        shutil.copytree(root / name / ".flowpipe", maps[-1] / ".flowpipe")
    assert run(root / "videos", "--maps", *maps, "--out", tmp_path / "out", *SETTINGS) == 0
    assert (tmp_path / "out/fused.npz").read_bytes() == (finished / "fused.npz").read_bytes()


def test_a_clip_without_maps_is_named(root, tmp_path, caplog):
    record = sorted((root / "rgb-48").rglob("*.npy.json"))[0]
    kept = record.read_bytes()
    record.unlink()
    try:
        maps = folders(root, "rgb-48")
        code = run(
            root / "videos", "--maps", *maps, "--no-idt", "--out", tmp_path / "out", *SETTINGS
        )
    finally:
        record.write_bytes(kept)
    assert code == 1
    log = (next((tmp_path / "out").glob("tdd-*")) / ".flowpipe/failures.jsonl").read_text()
    assert "no maps of" in log
    assert np.isfinite(json.loads((tmp_path / "out/metrics.json").read_text())["accuracy"]["value"])
