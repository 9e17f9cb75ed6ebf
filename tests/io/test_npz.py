from __future__ import annotations

import zipfile

import numpy as np
import pytest

from flowpipe.errors import FormatError
from flowpipe.io import npz
from flowpipe.io.npz import key_of, load_arrays, save_arrays

KIND = "flowpipe made up 1"


def test_some_arrays_are_read_and_no_others(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, KIND, {"more": "x"}, {"one": np.ones(3), "two": np.zeros(2)}, tmp_path)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        broken = file.getinfo("two.npy").header_offset + 60
    path.write_bytes(data[:broken] + b"XX" + data[broken + 2 :])
    description, found = load_arrays(path, KIND, ["one", "three"])
    assert list(found) == ["one"]
    assert description == {"format": KIND, "more": "x"}
    with pytest.raises(FormatError, match=r"a\.npz"):
        load_arrays(path, KIND)


def test_keys(tmp_path):
    path = tmp_path / "a.npz"
    assert key_of(path, KIND) is None
    save_arrays(path, KIND, {}, {"one": np.ones(3)}, tmp_path)
    assert key_of(path, KIND) is None
    save_arrays(path, KIND, {}, {"one": np.ones(3)}, tmp_path, "abc")
    assert key_of(path, KIND) == "abc"
    assert key_of(path, "flowpipe other 1") is None
    path.write_bytes(path.read_bytes()[:-10])
    assert key_of(path, KIND) is None


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_arrays(path, KIND, {}, {"one": np.ones(3)}, tmp_path, "abc")

    def full(file, **values):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npz.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        save_arrays(path, KIND, {}, {"one": np.zeros(9)}, tmp_path, "def")
    assert key_of(path, KIND) == "abc"
    assert not list((tmp_path / ".tmp").iterdir())
