"""``flowpipe verify`` on vectors, scores and networks, and on a folder with a folder a stage."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import FormatError
from flowpipe.io.npz import read_through, save_arrays
from flowpipe.runner.provenance import STAGES, open_stage
from tests.trajectories.test_verify import write as write_table


def verify(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        main(["verify", *map(str, arguments), "--jobs", "0"])
    return int(end.value.code or 0)


@pytest.fixture
def out(tmp_path):
    """Vectors and a table, as a recipe leaves them."""
    vectors = tmp_path / "encode-1"
    open_stage(vectors, {"stage": "encode"})
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    for name in ("a", "b"):
        save_arrays(vectors / f"vectors/{name}.npz", "test 1", {}, {"values": values}, vectors)
    tables = tmp_path / "trajectories-2"
    open_stage(tables, {"stage": "trajectories"})
    write_table(tables / "a.h5")
    return tmp_path


def test_a_whole_folder_passes(out, capsys):
    assert verify(out) == 0
    assert "done" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["encode-1/vectors/b.npz", "trajectories-2/a.h5"])
def test_damage_in_any_stage_is_found_and_removed(out, name, capsys):
    path = out / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert verify(out) == 1
    assert "1 failed (1 damaged)" in capsys.readouterr().err
    assert path.exists()
    assert verify(out, "--repair") == 1
    assert not path.exists()
    assert verify(out) == 0


def test_damaged_json(out):
    (out / "encode-1/protocol.json").write_text(json.dumps({"a": 1})[:-2])
    assert verify(out) == 1


def test_every_bit_of_an_npz_counts(tmp_path):
    """Or means nothing: then what is read is the same."""
    values = np.arange(50, dtype=np.float32)
    path = tmp_path / "a.npz"
    save_arrays(path, "test 1", {}, {"values": values}, tmp_path)
    whole = path.read_bytes()
    read_through(path)
    rng = np.random.default_rng(0)
    found = 0
    for place in rng.integers(0, len(whole) * 8, 300):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << int(place % 8)
        path.write_bytes(damaged)
        try:
            read_through(path)
        except FormatError:
            found += 1
            continue
        with np.load(path) as file:
            assert "values" not in file or np.array_equal(file["values"], values)
    assert found > 200


def test_nothing_to_verify(tmp_path, capsys):
    assert verify(tmp_path) == 2
    assert "no output of flowpipe" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["npy", "tar", "safetensors"])
def test_files_of_other_formats_are_read_as_well(tmp_path, suffix, capsys):
    out = tmp_path / "out"
    open_stage(out, {"stage": "train"})
    values = np.arange(3000, dtype=np.float32)
    np.save(out / "a.npy", values)
    path = out / f"a.{suffix}"
    if suffix == "tar":
        with tarfile.open(path, "w") as archive:
            archive.add(out / "a.npy", "a.npy")
        (out / "a.npy").unlink()
    elif suffix == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"a": values}, path)
    assert verify(out) == 0
    path.write_bytes(path.read_bytes()[:9000])
    assert verify(out) == 1
    assert f"a.{suffix}' is damaged" in capsys.readouterr().err


def test_every_stage_is_listed():
    """And a record has the name of a stage of the list."""
    folder = Path(flowpipe.__file__).parent
    recorded = {
        name
        for path in folder.rglob("*.py")
        for name in re.findall(r'"stage": "([a-z-]+)"', path.read_text())
    }
    assert recorded == set(STAGES)
