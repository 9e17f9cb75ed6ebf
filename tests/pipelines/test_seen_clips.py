"""Networks of another split, which may have seen test clips, are refused or warned of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import flowpipe
from flowpipe.classify.protocols import Protocol
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import ParameterError
from flowpipe.flow.parameters import Farneback
from flowpipe.pipelines.classify_features import classify_features
from flowpipe.training.distributed import torch_threads
from flowpipe.training.runtime import TrainingRuntime

pytestmark = pytest.mark.usefixtures("no_flushing")

RUNTIME = TrainingRuntime(device="cpu", loader_workers=0)
TDD = Encoding(gaussians=2, rows=300, descriptors=("hof",))
QUICK = {
    "backbone": "shufflenet_v2_x0_5", "input_size": 32, "segments": 1, "length": 3, "epochs": 1,
    "batch_size": 4,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """``videos``, their ``flow``, and ``nets`` of the two official splits and of all clips."""
    root = tmp_path_factory.mktemp("begun")
    shape = {"clips_per_group": 1, "width": 64, "height": 48, "n_frames": 20}
    flowpipe.write_synthetic(root / "videos", n_groups=2, **shape)
    stage = flowpipe.FlowStage(parameters=Farneback(), size=None)
    flowpipe.extract_flow(root / "videos", root / "flow", stage, workers=0)
    train(root, root / "nets", weights="none", final=True)
    return root


def train(root: Path, out: Path, protocol: Protocol | None = None, **options) -> list[Path]:
    return flowpipe.train(
        root / "videos", root / "flow", out, "small", protocol=protocol, runtime=RUNTIME,
        **QUICK, **options,
    )  # fmt: skip


def turned(root: Path) -> Protocol:
    """The official splits under the same names, each with the clips of the other."""
    official = flowpipe.protocol(flowpipe.load_dataset(root / "videos"))
    splits = [
        {"name": own.name, "train": list(other.train), "test": list(other.test)}
        for own, other in zip(official.splits, official.splits[::-1], strict=True)
    ]
    path = root / "turned.json"
    path.write_text(json.dumps({"splits": splits}))
    return flowpipe.protocol(flowpipe.load_dataset(root / "videos"), path)


def test_a_folder_that_was_trained_on_the_same_splits_is_taken(root, tmp_path, caplog):
    assert len(train(root, tmp_path / "out", weights=str(root / "nets"), final=True)) == 3
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_splits_of_the_same_names_with_other_clips_are_refused(root, tmp_path):
    with pytest.raises(ParameterError, match="than those of split1, so that it may have seen test"):
        train(root, tmp_path / "out", turned(root), weights=str(root / "nets"))
    assert not (tmp_path / "out").exists()


def test_clips_that_cannot_be_used_do_not_make_other_splits(root, tmp_path):
    """A network of longer stacks leaves out clips that its initial network was trained on."""
    protocol = flowpipe.protocol(flowpipe.load_dataset(root / "videos"))
    short = protocol.splits[0].train[0]
    videos = tmp_path / "flow"
    videos.mkdir()
    for path in (root / "flow").rglob("*"):
        target = videos / path.relative_to(root / "flow")
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif not str(target.relative_to(videos)).startswith(short):
            target.write_bytes(path.read_bytes())
    out = flowpipe.train(
        root / "videos", videos, tmp_path / "out", "small", runtime=RUNTIME,
        weights=str(root / "nets"), leave_out_unusable=True, **QUICK,
    )  # fmt: skip
    assert len(out) == 2


@pytest.mark.parametrize("folder", ["01-split1", "02-split2", "final"])
def test_a_file_of_another_split_is_warned_of(root, tmp_path, caplog, folder):
    file = root / "nets" / folder / "model.safetensors"
    train(root, tmp_path / "out", weights=str(file), splits=["split2"])
    warned = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warned) == (folder != "02-split2")
    assert all("may have seen test clips" in each and str(file) in each for each in warned)


def test_a_set_with_clips_of_other_names_is_another_set(root, tmp_path, caplog):
    """A network of one set begins one of another, whose splits have the same names."""
    (tmp_path / "videos").mkdir()
    for path in (root / "videos").rglob("*.avi"):
        target = tmp_path / "videos" / path.parent.name / f"other-{path.name}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    protocol = flowpipe.protocol(flowpipe.load_dataset(tmp_path / "videos"), "2-fold")
    for number in (1, 2):
        source = root / "nets" / f"{number:02d}-split{number}" / "model.safetensors"
        target = tmp_path / "nets" / f"{number:02d}-fold-{number}" / "model.safetensors"
        target.parent.mkdir(parents=True)
        target.write_bytes(source.read_bytes())
    stage = flowpipe.FlowStage(parameters=Farneback(), size=None)
    flowpipe.extract_flow(tmp_path / "videos", tmp_path / "flow", stage, workers=0)
    assert len(train(tmp_path, tmp_path / "out", protocol, weights=str(tmp_path / "nets"))) == 2
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.fixture(scope="module")
def maps(root) -> Path:
    """Maps of the network of the first split."""
    out = root / "maps"
    flowpipe.extract_features(
        root / "flow", out, root / "nets" / "01-split1", maps="conv1", device="cpu", workers=0
    )
    return out


@pytest.mark.parametrize(
    ("splits", "warned"), [(["split1"], ()), (["split2"], ("split2",)), ([], ("split2",))]
)
@pytest.mark.parametrize("stage", ["tdd", "probe"])
def test_maps_of_a_network_of_another_split_are_warned_of(
    root, maps, tmp_path, caplog, stage, splits, warned
):
    if stage == "tdd":
        metrics = flowpipe.tdd_baseline(
            root / "videos", [maps], tmp_path / "out", encoding=TDD, splits=splits, idt=False,
            workers=0,
        )  # fmt: skip
    else:
        metrics = flowpipe.probe(
            root / "videos", maps, tmp_path / "out", head="linear", splits=splits, epochs=1,
            batch_size=4, warmup=0.5, device="cpu",
        )  # fmt: skip
    assert metrics.confusion.sum() == (6 if splits else 12)
    told = [each.message for each in caplog.records if "may have seen test clips" in each.message]
    assert len(told) == len(warned)
    assert all(f"than those of {name};" in each for each, name in zip(told, warned, strict=True))


def test_features_of_a_network_of_another_split_are_warned_of(root, tmp_path, caplog):
    flowpipe.extract_features(
        root / "flow", tmp_path / "features", root / "nets" / "final", device="cpu", workers=0
    )
    classify_features(root / "videos", [tmp_path / "features"], tmp_path / "out")
    told = [each.message for each in caplog.records if "may have seen test clips" in each.message]
    assert len(told) == 1
    assert "than those of split1, split2;" in told[0]


@pytest.mark.parametrize("splits", [3, [3], [{"clips": 5}], {"set": "videos"}, None])
def test_records_that_somebody_else_wrote_do_no_harm(root, tmp_path, splits):
    nets = tmp_path / "nets" / "01-split1"
    nets.mkdir(parents=True)
    with safe_open(root / "nets/01-split1/model.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = json.loads(file.metadata()["flowpipe"])
    described["about"]["splits"] = splits
    save_file(state, nets / "model.safetensors", {"flowpipe": json.dumps(described)})
    begin = {"weights": str(tmp_path / "nets"), "splits": ["split1"]}
    assert len(train(root, tmp_path / "out", **begin)) == 1
