from __future__ import annotations

import json

import pytest

from flowpipe.classify.splits import folder_of_split, read_splits, split_folder
from flowpipe.datasets.base import Split
from flowpipe.errors import FormatError


def test_a_list_of_splits(tmp_path):
    path = tmp_path / "splits.json"
    entry = {"train": ["a1", "b1"], "test": ["a2"]}
    path.write_text(json.dumps({"splits": [{"name": "first", **entry}, entry]}))
    assert read_splits(path) == (
        Split("first", ("a1", "b1"), ("a2",)),
        Split("2", ("a1", "b1"), ("a2",)),
    )


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"splits": []}', '{"splits": [1]}', '{"splits": [{"train": ["a"]}]}',
     '{"splits": [{"train": ["a"], "test": [1]}]}',
     '{"splits": [{"name": 3, "train": ["a"], "test": ["b"]}]}'],
)  # fmt: skip
def test_what_is_no_list_of_splits(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"splits\.json"):
        read_splits(path)


@pytest.mark.parametrize(
    ("number", "name", "folder"),
    [(1, "split1", "01-split1"), (12, "without actor 3", "12-without-actor-3"),
     (0, "final", "final")],
)  # fmt: skip
def test_the_folder_of_a_split_is_found_by_the_name_of_the_split(tmp_path, number, name, folder):
    assert split_folder(number, name) == folder
    assert folder_of_split(tmp_path, name) is None
    (tmp_path / folder).mkdir()
    (tmp_path / "03-another").mkdir()
    assert folder_of_split(tmp_path, name) == tmp_path / folder
