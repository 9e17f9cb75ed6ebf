"""A kind of set is one file and one entry of the table."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from flowpipe.cli import main
from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.load import detect, load_dataset
from flowpipe.datasets.table import DATASETS, DatasetKind
from flowpipe.errors import ParameterError
from tests.helpers.trees import make


@pytest.fixture
def toy(monkeypatch):
    """The file of the reader, and the entry."""

    def read_toy(root: Path) -> Dataset:
        clips = tuple(
            Clip(path, path.stem, path.stem[0], path.stem[1]) for path in sorted(root.glob("*.avi"))
        )
        return Dataset("toy", clips, tuple(sorted({str(clip.label) for clip in clips})))

    module = types.ModuleType("toy_reader")
    module.read_toy = read_toy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_reader", module)
    entry = DatasetKind(
        "a toy",
        "toy_reader:read_toy",
        lambda root, found: bool(found) and all(each.path.stem.isalnum() for each in found),
        published="The toy, 2026",
    )
    monkeypatch.setitem(DATASETS, "toy", entry)


def test_a_toy_is_detected_read_and_in_errors(tmp_path, toy):
    root = make(tmp_path, "a1.avi", "a2.avi", "b1.avi", "b2.avi")
    assert detect(root) == "toy"
    found = load_dataset(root)
    assert (found.kind, found.classes) == ("toy", ("a", "b"))
    with pytest.raises(ParameterError, match=r"dataset is 'tay'.*, toy"):
        load_dataset(root, "tay")


def test_a_toy_is_a_choice_of_the_commands(tmp_path, toy, capsys):
    root = make(tmp_path / "set", "a1.avi", "b1.avi", "b2.avi", "a2.avi")
    with pytest.raises(SystemExit):
        main(["idt-baseline", "--help"])
    assert "toy" in capsys.readouterr().out
    # empty files: every clip fails, after the set was read and described
    out = str(tmp_path / "out")
    with pytest.raises(SystemExit) as ended:
        main(["idt-baseline", str(root), "--dataset", "toy", "--out", out, "--jobs", "0"])
    assert ended.value.code
    printed = capsys.readouterr()
    assert "toy: 4 clips, 2 classes (a, b), 2 groups (1, 2)" in printed.out + printed.err


def test_a_toy_is_in_doctor(toy, capsys):
    with pytest.raises(SystemExit):
        main(["doctor"])
    printed = capsys.readouterr().out
    assert "toy" in printed
    assert "The toy, 2026" in printed


def test_every_kind_says_what_it_is():
    for name, entry in DATASETS.items():
        assert entry.title, name
        assert entry.protocol, name
        assert bool(entry.published) or "folders" in name or name in ("synthetic", "csv")
